"""The inside of a drill: a real restore on an empty data directory, in a process of its own whose settings come from the backup alone.

Two passes, each in a fresh process: ``read`` compares every byte and puts the files back (the keys among them), ``restore`` then starts with
those keys, loads the rows and tries them. Both tell what they do in JSON lines (see ``Telling``). Nothing outside can be reached.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from ops.backup.components import Putting, component
from ops.backup.errors import BackupError
from ops.backup.placing import copy_sqlite
from ops.backup.probes import ProbeFailed, Probing, probes
from ops.backup.said import called, step_called
from ops.findings import Finding
from ops.redaction import redact_text
from ops.words import counted

# In the scratch data directory: what the first pass tells the second.
NOTES = "drill.json"
_MOST_FINDINGS = 200


class StepFailed(Exception):
    """A step of the drill went wrong; the text says what."""


@dataclass(slots=True)
class Telling:
    """Lines of JSON for whoever started the drill: ``{"step": {step, ok, sentence, seconds}}``, ``{"progress": [done, total, text]}``,
    ``{"finding": …}`` and last ``{"end": {ok, rows}}``."""

    out: TextIO
    ok: bool = True
    rows: int = 0
    found: int = 0
    _last: float = field(default=0.0, repr=False)

    def line(self, **said: Any) -> None:
        self.out.write(json.dumps(said) + "\n")
        self.out.flush()

    def progress(self, done: int, total: int, text: str) -> None:
        now = time.monotonic()
        if now - self._last >= 0.5:
            self._last = now
            self.line(progress=[done, total, text])

    def say(self, finding: Finding) -> None:
        self.found += 1
        if self.found <= _MOST_FINDINGS:
            self.line(finding=finding.to_dict())

    def step(self, name: str, action: Callable[[], str]) -> bool:
        """Do one step and tell how it ended. False: it went wrong, and what follows has nothing to stand on."""
        began = time.monotonic()
        self.line(progress=[0, 0, step_called(name)])
        try:
            sentence, ok = action(), True
        except (StepFailed, ProbeFailed, BackupError) as error:
            sentence, ok = str(error), False
        except Exception as error:
            sentence, ok = f"{type(error).__name__}: {' '.join(str(error).split())}", False
        self.ok = self.ok and ok
        seconds = round(time.monotonic() - began, 3)
        self.line(step={"step": name, "ok": ok, "sentence": redact_text(sentence)[:1000], "seconds": seconds})
        return ok

    def end(self) -> None:
        self.line(end={"ok": self.ok, "rows": self.rows})


def cut_off() -> None:
    """From now on this process reaches nobody: no homeserver, no backend, no mail server."""

    def refuse(*args: Any, **named: Any) -> Any:
        raise OSError("A drill reaches nothing outside of its own process.")

    for name in ("connect", "connect_ex", "sendto"):
        setattr(socket.socket, name, refuse)
    # Asking for a name is asking somebody, too.
    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
        setattr(socket, name, refuse)


def read(path: Path, identities: list[str], telling: Telling) -> None:
    """The first pass."""
    _Reading(path, identities, telling).run()


class _Reading:
    def __init__(self, path: Path, identities: list[str], telling: Telling) -> None:
        self._path, self._identities, self._telling = path, identities, telling
        self._data_dir = Path(settings.DATA_DIR)
        self._notes: dict[str, Any] = {"counts": {}, "lookups": {}}

    def run(self) -> None:
        self._telling.step("read", self._read)

    def _read(self) -> str:
        from ops.backup.read import open_backup

        began = time.monotonic()
        total, done, files = self._path.stat().st_size, 0, 0
        with open_backup(self._path, identities=self._identities) as reader:
            lookups = {shape.label for shape in reader.begin.tables if shape.policy == "lookup"}
            for (kind, label), members in groupby(reader.members(), key=lambda member: (member.kind, member.label)):
                if kind == "file":
                    files += self._put(label, members)
                    continue
                for member in members:
                    if kind == "rows" and label in lookups:
                        self._notes["lookups"].setdefault(label, []).extend(member.rows())
                    elif kind == "rows":
                        for _ in member.lines():
                            pass
                    done += member.size
                    self._telling.progress(min(done, total), total, f"Reading {called(label)}")
            manifest = reader.manifest
        for name, part in manifest.parts.items():
            found = self._notes["counts"].get(name, {}).get("files", 0)
            if found != part.get("files", 0):
                raise StepFailed(f"{name} should have {part.get('files', 0)} files and has {found}.")
        for name, why in manifest.missing.items():
            self._telling.say(
                Finding("warning", "drill.part_missing", f"{name} is not in the backup: {why}", f"part:{name}")
            )
        for name in manifest.broken:
            self._telling.say(
                Finding("warning", "drill.file_broken", f"{name} is in the backup only in part.", f"file:{name}")
            )
        (self._data_dir / NOTES).write_text(json.dumps(self._notes), encoding="utf-8")
        speed = total / max(time.monotonic() - began, 0.001) / 1e6
        return (
            f"Every byte is what was written: {counted(manifest.rows, 'row')} and {counted(files, 'file')}, "
            f"{total / 1e6:,.1f} MB at {speed:,.0f} MB/s."
        )

    def _put(self, label: str, members: Iterator[Any]) -> int:
        count = 0

        def files() -> Iterator[tuple[str, int, BinaryIO]]:
            nonlocal count
            for member in members:
                count += 1
                self._telling.progress(0, 0, f"Putting back {called(label)}")
                yield member.path, member.size, cast(BinaryIO, member.stream)

        known = component(label)
        if known is None:
            for _ in files():
                pass
            sentence = f"The backup holds {label}, which this version does not know; it would be left out of a restore."
            self._telling.say(Finding("warning", "drill.part_unknown", sentence, f"part:{label}"))
            said: Mapping[str, int] = {}
        else:
            said = known.put(files(), Putting(self._data_dir, "default", True, self._telling.say))
        self._notes["counts"][label] = {**said, "files": count}
        return count


def restore(path: Path, identities: list[str], telling: Telling, *, template: Path | None = None) -> None:
    """The second pass. ``template`` is a database with all tables and no rows; it is made when it is not there."""
    _Restoring(path, identities, telling, template).run()


class _Restoring:
    def __init__(self, path: Path, identities: list[str], telling: Telling, template: Path | None) -> None:
        self._path, self._identities, self._telling, self._template = path, identities, telling, template
        self._data_dir = Path(settings.DATA_DIR)
        self._notes: dict[str, Any] = json.loads((self._data_dir / NOTES).read_text(encoding="utf-8"))
        self._loaded: Any = None
        self._tables: dict[str, dict[str, Any]] = {}
        self._upgraded = False
        self._cut_at = timezone.now()

    def run(self) -> None:
        steps = (("tables", self._make_tables), ("rows", self._load), ("constraints", self._constraints))
        if not all(self._telling.step(name, action) for name, action in steps):
            return
        self._telling.step("digests", self._digests)
        self._telling.step("secrets", self._secrets)
        if not self._telling.step("fences", self._fences):
            return
        probing = Probing(self._data_dir, self._notes["counts"], self._telling.say)
        for name, function in probes().items():
            self._telling.step(name, lambda function=function: function(probing))  # type: ignore[misc]

    def _make_tables(self) -> str:
        from django.core.management import call_command

        database = Path(str(connection.settings_dict["NAME"]))
        if connection.vendor != "sqlite" or database.parent.resolve() != self._data_dir.resolve():
            raise StepFailed(
                "A drill restores into a SQLite database in its own folder, and this process has another one."
            )
        if self._template is not None and self._template.is_file():
            shutil.copyfile(self._template, database)
            database.chmod(0o600)
            sentence = "An empty database with all tables was copied."
        else:
            sentence = "All tables were made by the migrations."
        # With a template nothing is left to do; one that is older than the code is caught here.
        call_command("migrate", interactive=False, verbosity=0)
        if self._template is not None and not self._template.is_file():
            with suppress(OSError, sqlite3.Error):
                fresh = self._template.with_name(f".{self._template.name}.{self._data_dir.name}")
                copy_sqlite(database, fresh).replace(self._template)
        with connection.cursor() as cursor:
            # It is thrown away: nothing of it has to survive a power cut.
            cursor.execute("PRAGMA synchronous = OFF")
        return sentence

    def _load(self) -> str:
        from ops.backup.load import load_into
        from ops.backup.read import open_backup
        from ops.backup.source import needs_upgrade

        with open_backup(self._path, identities=self._identities) as reader:
            self._upgraded = needs_upgrade(reader.begin.migrations)
            self._cut_at = datetime.fromisoformat(reader.begin.made_at.replace("Z", "+00:00"))
            self._loaded = load_into("default", reader, progress=self._telling.progress)
            self._tables = reader.manifest.tables
        self._telling.rows = self._loaded.total
        for what, counts in (("emptied", self._loaded.emptied), ("left out", self._loaded.left_out)):
            for name, number in counts.items():
                sentence = f"{name}: {counted(number, 'reference leads', 'references lead')} to nothing that is backed up ({what})."
                self._telling.say(Finding("info", "drill.reference", sentence, f"field:{name}"))
        through = " through the migrations since its version" if self._upgraded else ""
        return f"{counted(self._loaded.total, 'row')} in {counted(len(self._loaded.rows), 'table')} were restored{through}."

    def _constraints(self) -> str:
        connection.check_constraints()
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA integrity_check(20)")
            found = [str(row[0]) for row in cursor.fetchall()]
        if found != ["ok"]:
            raise StepFailed(f"The restored database is damaged: {'; '.join(found)[:500]}")
        return "Every reference leads somewhere, and every index agrees with its table."

    def _digests(self) -> str:
        """Counts of all tables; and the rows themselves, read again, have the digests that the manifest gives."""
        import orjson

        from ops.backup.rows import count, read_rows
        from ops.backup.shapes import table_shapes

        shapes = {shape.label: shape for shape in table_shapes()}
        compared = 0
        back = {} if self._upgraded else self._numbers_there(shapes)
        touched = {name.rpartition(".")[0] for name in (*self._loaded.emptied, *self._loaded.left_out)}
        for number, (label, shape) in enumerate(shapes.items()):
            self._telling.progress(number, len(shapes), f"Comparing {called(label)}")
            if shape.policy == "lookup":
                continue
            expected = self._loaded.rows.get(label, 0)
            if (found := count("default", shape)) != expected:
                raise StepFailed(f"{label} has {counted(found, 'row')} after {expected:,} were restored.")
            said = self._tables.get(label)
            if self._upgraded or said is None or label in touched:
                continue
            if said["rows"] != found:
                raise StepFailed(f"{label} has {counted(found, 'row')}, and the backup says {said['rows']:,}.")
            places = [(place, column.ref) for place, column in enumerate(shape.columns) if column.ref in back]
            digest = hashlib.sha256()
            for row in read_rows("default", shape):
                for place, ref in places:
                    if row[place] is not None:
                        row[place] = back[ref][row[place]]
                digest.update(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
            if digest.hexdigest() != said["sha256"]:
                raise StepFailed(f"The rows of {label} are not those that were backed up: they have another digest.")
            compared += 1
        if self._upgraded:
            return f"{counted(len(self._loaded.rows), 'table has', 'tables have')} as many rows as were restored; migrations changed them, so digests say nothing."
        return f"{counted(compared, 'table has', 'tables have')} exactly the rows that were backed up."

    def _numbers_there(self, shapes: Mapping[str, Any]) -> dict[str, dict[Any, Any]]:
        """By lookup: the number in the backup of what has a number here."""
        from ops.backup.lookups import Lookups

        lookups = Lookups("default", dict(shapes))
        found: dict[str, dict[Any, Any]] = {}
        for label, rows in self._notes["lookups"].items():
            if label in shapes:
                lookups.learn(shapes[label], rows)
                numbers = [row[shapes[label].pk_index] for row in rows]
                found[label] = {lookups.here(label, number): number for number in numbers}
        return found

    def _secrets(self) -> str:
        """Every stored secret, in rows and in files, is opened with the keys that the backup brought."""
        from ops.secret_rotation import rotate

        counts = rotate(dry_run=True)
        broken = [one for one in counts if one.unreadable]
        if broken:
            names = "; ".join(f"{one.label}: {one.unreadable} ({', '.join(one.broken[:5])})" for one in broken[:5])
            raise StepFailed(f"Secrets cannot be opened with the keys in the backup: {names}.")
        return f"{counted(sum(one.rotated + one.current for one in counts), 'secret opens', 'secrets open')} with the keys in the backup."

    def _fences(self) -> str:
        """What a restore does in its own transaction, so that nothing old is answered."""
        from ops.backup.hooks import Fence, fences
        from ops.backup.scopes import kinds

        def say(finding: Finding) -> None:
            # What a restore would end is no news about the backup.
            if finding.severity != "info":
                self._telling.say(finding)

        now, every = timezone.now(), tuple(kind.name for kind in kinds())
        with transaction.atomic():
            for function in fences().values():
                function(Fence("default", self._cut_at, now, 1, every, True, say))
        return f"{counted(len(fences()), 'fence stands', 'fences stand')}: nothing from before would be answered or sent again."
