"""Generated keys, what stood in the environment, and the registration file in a backup, and back.

In the backup: ``keys/<name>`` for every key that Switchboard generates when nobody sets it (its value in effect, wherever it came from),
``keys/environment.json`` with the settings that came from elsewhere (``{"NAME": {"value", "place"}}``). The machine's own key for
backups is never taken along: a file would hold what opens it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from cryptography.fernet import Fernet
from django.conf import settings

from agents.models import Account
from agents.services.backends import HOMESERVER_KIND
from agents.services.client_mode import no_appservice
from agents.services.registration import registration_of
from controlplane.options import OPTIONS
from ops.backup.components import Cut, FilePart, Putting, register_component
from ops.backup.errors import BackupDamaged
from ops.backup.placing import private_folder, read_small, stamp, write_private
from ops.findings import Finding
from ops.models import Service

RING = "FIELD_ENCRYPTION_KEYS"
NEVER = "BACKUP_MACHINE_KEY"
ENVIRONMENT_FILE = "environment.json"
REGISTRATION_FILE = "registration.yaml"
_OPTIONS = {option.name: option for option in OPTIONS}
KEYS = tuple(option.name for option in OPTIONS if option.generate is not None and option.name != NEVER)


def _text(value: Any) -> str:
    """A setting's value as the environment would say it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ",".join(str(one) for one in value)
    return "" if value is None else str(value)


def _part(name: str, text: str) -> FilePart:
    data = text.encode()
    return FilePart(name, len(data), partial(io.BytesIO, data))


def _is_generated(name: str) -> bool:
    return settings.ENVIRONMENT.places.get(name) == "generated"


class Keys:
    """Keys are put back into ``DATA_DIR/keys``, whose values count where the environment says nothing.

    On an empty machine (``Putting.extra["fresh"]``) the backup's take the place of those that the first start made, which are kept aside.
    Where Switchboard lives already its own stay, and those of the backup are offered in a file. Keys that open secrets are only ever
    added. Nothing that the environment says is changed from here: it is told what to enter there.
    """

    name = "keys"
    label = "Keys and settings"
    kind = "settings"
    optional = False

    def unavailable(self) -> str:
        return ""

    def files(self, cut: Cut) -> Iterator[FilePart]:
        for name in KEYS:
            # A ring that was extended since this process began stands in the settings already.
            value = _text(getattr(settings, name, settings.ENVIRONMENT.values.get(name, "")))
            if value:
                yield _part(name.lower(), value)
        places = settings.ENVIRONMENT.places
        said = {
            option.name: {"value": _text(settings.ENVIRONMENT.values[option.name]), "place": places[option.name]}
            for option in OPTIONS
            if option.name != NEVER and places.get(option.name) in ("environment", "file", "secret file")
        }
        yield _part(ENVIRONMENT_FILE, json.dumps(said, indent=1, sort_keys=True))

    def put(self, files: Iterable[tuple[str, int, BinaryIO]], putting: Putting) -> dict[str, int]:
        values: dict[str, str] = {}
        said: dict[str, dict[str, str]] = {}
        for name, _, stream in files:
            text = read_small(stream, f"keys/{name}").decode("utf-8", "replace").strip()
            if name == ENVIRONMENT_FILE:
                said = _said(text)
            elif name.upper() in KEYS:
                values[name.upper()] = text
            else:
                putting.say(
                    Finding(
                        "info",
                        "restore.key_unknown",
                        f"The backup holds a key {name!r} that this version does not use.",
                    )
                )
        _check(values)
        counts = {"written": 0, "same": 0, "added": 0, "kept": 0, "offered": 0}
        offers: dict[str, str] = {}
        for name, value in values.items():
            counts[_put_key(name, value, putting, offers)] += 1
        if not putting.drill:
            counts["offered"] += _offer(putting, offers, said)
        return counts


def _said(text: str) -> dict[str, dict[str, str]]:
    try:
        found = json.loads(text)
        return {
            str(name): {"value": str(one["value"]), "place": str(one["place"])}
            for name, one in found.items()
            if name != NEVER
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackupDamaged(f"keys/{ENVIRONMENT_FILE} in the backup is not what it should be ({error}).") from error


def _ring(text: str) -> list[str]:
    return [key.strip() for key in text.split(",") if key.strip()]


def _check(values: dict[str, str]) -> None:
    for key in _ring(values.get(RING, "")):
        try:
            Fernet(key)
        except ValueError as error:
            raise BackupDamaged("A key for secrets in the backup is not one: keys/field_encryption_keys.") from error


def _here(putting: Putting) -> bool:
    """Whether the keys of this very process's installation are written."""
    return putting.data_dir.resolve() == Path(settings.DATA_DIR).resolve()


def _put_key(name: str, value: str, putting: Putting, offers: dict[str, str]) -> str:
    path = putting.data_dir / "keys" / name.lower()
    if putting.drill:
        write_private(path, io.BytesIO(value.encode()))
        return "written"
    fixed = _here(putting) and not _is_generated(name)
    present = _text(getattr(settings, name, "")) if fixed else _read(path)
    fresh = bool(putting.extra.get("fresh"))
    if name == RING:
        theirs, ours = _ring(value), _ring(present)
        missing = [key for key in theirs if key not in ours]
        if not missing:
            return "same"
        wanted = [*theirs, *(key for key in ours if key not in theirs)] if fresh else [*ours, *missing]
        if fixed:
            offers[name] = ",".join(wanted)
            return "kept"
        _write(name, path, ",".join(wanted), putting)
        return "added" if ours else "written"
    if present == value:
        return "same"
    if fixed or (present and not fresh):
        offers[name] = value
        return "kept"
    if present:
        aside = path.with_name(f"{path.name}.before-restore-{stamp()}")
        path.rename(aside)
        sentence = f"{name} is the backup's now; the one that was here lies aside as keys/{aside.name}."
        putting.say(Finding("info", "restore.kept_aside", sentence, f"setting:{name}", {"file": f"keys/{aside.name}"}))
    _write(name, path, value, putting)
    return "written"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""


def _write(name: str, path: Path, value: str, putting: Putting) -> None:
    private_folder(path.parent)
    write_private(path, io.BytesIO(value.encode()))
    if _here(putting):
        # This process goes on with what it has put there; others learn of it when they start.
        kept = _ring(value) if _OPTIONS[name].kind == "list" else value
        setattr(settings, name, kept)
        settings.ENVIRONMENT.values[name] = kept
    putting.say(
        Finding(
            "info",
            "restore.key_written",
            f"{name} was put back into keys/{path.name}. Processes that run already go on with the former one until they are restarted.",
            f"setting:{name}",
        )
    )


def _offer(putting: Putting, offers: dict[str, str], said: dict[str, dict[str, str]]) -> int:
    """Write what was not put into effect into a file for the operator, and say so. Returns how many settings it names."""
    here = _here(putting)
    wanted = {
        name: one["value"]
        for name, one in said.items()
        if name not in offers
        and name not in KEYS
        and not (here and name in _OPTIONS and _text(settings.ENVIRONMENT.values.get(name)) == one["value"])
    }
    if offers:
        file = putting.data_dir / "keys" / f"from-backup-{stamp()}.env"
        write_private(file, io.BytesIO(_env(offers).encode()))
        for name in offers:
            ring = name == RING
            putting.say(
                Finding(
                    "error" if ring else "warning",
                    "restore.key_offered",
                    f"{name} here is another than in the backup, and stays. "
                    + (
                        "Secrets of the backup cannot be read until its keys are added to the environment"
                        if ring
                        else "If the homeserver or the people's links still know the backup's, take it over"
                    )
                    + f": keys/{file.name} says it.",
                    f"setting:{name}",
                    {"file": f"keys/{file.name}"},
                )
            )
    if wanted:
        file = putting.data_dir / "keys" / f"settings-from-backup-{stamp()}.env"
        write_private(file, io.BytesIO(_env(wanted).encode()))
        names = ", ".join(sorted(wanted)[:12]) + (" and others" if len(wanted) > 12 else "")
        putting.say(
            Finding(
                "info",
                "restore.settings_offered",
                f"Where the backup was made, these settings stood in the environment or in .env and are not so here: {names}. Their values lie "
                f"in keys/{file.name}; take over what still holds, then remove the file.",
                "",
                {"file": f"keys/{file.name}", "names": sorted(wanted)},
            )
        )
    return len(offers) + len(wanted)


def _env(values: dict[str, str]) -> str:
    """Lines for ``.env``."""
    lines = ["# Put aside by a restore: what the backup says. Nothing reads this file."]
    for name, value in sorted(values.items()):
        quoted = value if value and all(char.isalnum() or char in "-_.,:/+=@*" for char in value) else json.dumps(value)
        lines.append(f"{name}={quoted}")
    return "\n".join(lines) + "\n"


class RegistrationFile:
    """What the homeserver has to know of us. Put back as ``DATA_DIR/registration.yaml``, for whoever sets the homeserver up again."""

    name = "registration"
    label = "Registration for the homeserver"
    kind = "mappings"
    optional = False

    def unavailable(self) -> str:
        service = Service.objects.filter(enabled=True, kind=HOMESERVER_KIND).order_by("pk").first()
        if service is None or no_appservice(service):
            return "-"
        return ""

    def files(self, cut: Cut) -> Iterator[FilePart]:
        service = Service.objects.using(cut.alias).filter(enabled=True, kind=HOMESERVER_KIND).order_by("pk").first()
        server_name = ""
        if service is not None:
            # A homeserver that was never asked for its name: our accounts end in it.
            account = Account.objects.using(cut.alias).filter(homeserver=service).order_by("pk").first()
            server_name = account.user_id.partition(":")[2] if account is not None else ""
        registration = registration_of(service) or registration_of(service, server_name=server_name)
        if registration is None:
            sentence = "The homeserver's name is not known yet, so there is no registration to take along."
            cut.say(Finding("info", "backup.no_registration", sentence))
            return
        yield _part(REGISTRATION_FILE, registration.to_yaml())

    def put(self, files: Iterable[tuple[str, int, BinaryIO]], putting: Putting) -> dict[str, int]:
        counts = {"written": 0, "same": 0}
        for name, _, stream in files:
            data = read_small(stream, name)
            if name != REGISTRATION_FILE:
                raise BackupDamaged(f"The backup holds a registration under a name that is none: {name[:200]!r}.")
            path = putting.data_dir / REGISTRATION_FILE
            if path.exists():
                if path.read_bytes() == data:
                    counts["same"] += 1
                    continue
                aside = path.with_name(f"registration.before-restore-{stamp()}.yaml")
                path.rename(aside)
                sentence = f"A registration that was here already and says something else lies aside as {aside.name}."
                putting.say(Finding("warning", "restore.kept_aside", sentence, f"file:{aside.name}"))
            write_private(path, io.BytesIO(data))
            counts["written"] += 1
        return counts


register_component(Keys())
register_component(RegistrationFile())
