"""The file of rejects: JSON lines that an import writes and that, mended by hand, can be imported again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from chat.portagent.databases import NotPortagent, message_row
from chat.portagent.rows import FILE, IMAGE, INVITE, MESSAGE, STORED, SYSTEM, USER, SourceRow

_FORMAT = 1


class RejectsFile:
    """Writes rejects. The file is made with the first of them, for its owner only: password hashes may be in it."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.count = 0
        self._file: IO[str] | None = None

    def write(self, row: SourceRow, code: str, sentence: str) -> None:
        self.count += 1
        if self.path is None:
            return
        if self._file is None:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            self._file = os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace")
        line = {
            "rejected": SYSTEM,
            "format": _FORMAT,
            "kind": row.kind,
            "key": row.key,
            "code": code,
            "reason": sentence,
        }
        self._file.write(json.dumps({**line, "row": row.raw}, ensure_ascii=True) + "\n")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def is_rejects(path: Path) -> bool:
    """Whether a file looks like one of these."""
    try:
        with path.open("rb") as file:
            return b'"rejected"' in file.read(4096).partition(b"\n")[0]
    except OSError:
        return False


class Rejects:
    """``chat.portagent.rows.Source`` over a file of rejects. Only places in the file are kept in memory."""

    version = 1

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._problems: list[SourceRow] = []
        self._places: dict[str, list[int]] = {kind: [] for kind in (USER, INVITE, IMAGE, MESSAGE, FILE, STORED)}
        self._of_image: dict[str, list[int]] = {}
        self._used: set[int] = set()
        self.found = {str(path): "rejects"}
        self._index()

    def users(self) -> Iterator[SourceRow]:
        yield from self._all(USER)

    def invites(self) -> Iterator[SourceRow]:
        yield from self._all(INVITE)

    def images(self) -> Iterator[SourceRow]:
        seen: set[str] = set()
        for place in (*self._places[IMAGE], *self._places[STORED], *self._places[MESSAGE]):
            row = self._read(place)
            image = self._image_of(row)
            if image is None or image.key in seen:
                continue
            seen.add(image.key)
            yield image

    def messages(self, image: SourceRow) -> Iterator[SourceRow]:
        for place in self._of_image.get(image.key, []):
            self._used.add(place)
            row = self._read(place)
            if row.kind == MESSAGE:
                yield row
                continue
            try:
                found = json.loads(row.raw["value"])
            except (ValueError, TypeError, RecursionError):
                found = None
            if not isinstance(found, list):
                sentence = f"{row.key} is still not JSON of a list of messages."
                yield SourceRow(STORED, row.key, row.raw, ("portagent.broken_json", sentence))
                continue
            for number, message in enumerate(found):
                yield message_row(image, number, message)

    def stored_messages(self, image: SourceRow) -> SourceRow | None:
        for place in self._of_image.get(image.key, []):
            row = self._read(place)
            if row.kind == STORED:
                return row
        return None

    def leftovers(self) -> Iterator[SourceRow]:
        yield from self._problems
        yield from self._all(FILE)
        for place in self._places[STORED]:
            row = self._read(place)
            if place not in self._used and self._image_of(row) is None:
                what = ("portagent.no_conversation", f"{row.key} still belongs to no conversation.")
                yield SourceRow(row.kind, row.key, row.raw, what)

    def containers(self) -> dict[str, str]:
        """A file of rejects has none."""
        return {}

    def close(self) -> None:
        self._file.close()

    def _index(self) -> None:
        number = 0
        while True:
            place = self._file.tell()
            line = self._file.readline()
            if not line:
                break
            number += 1
            if not line.strip():
                continue
            row = _parsed(line)
            if row is None:
                raw = {"line": number, "text": line.decode("utf-8", "replace")[:10_000]}
                sentence = f"Line {number} is no line of a file of rejects. Mend it, or remove it."
                self._problems.append(SourceRow(STORED, f"line {number}", raw, ("portagent.broken_reject", sentence)))
                continue
            self._places[row.kind].append(place)
            image = self._image_of(row)
            if image is not None and row.kind in (STORED, MESSAGE) and not row.key.startswith("images:"):
                self._of_image.setdefault(image.key, []).append(place)
        if not number:
            raise NotPortagent("The file of rejects is empty.")

    def _all(self, kind: str) -> Iterator[SourceRow]:
        for place in self._places[kind]:
            yield self._read(place)

    def _read(self, place: int) -> SourceRow:
        self._file.seek(place)
        row = _parsed(self._file.readline())
        assert row is not None
        return row

    def _image_of(self, row: SourceRow) -> SourceRow | None:
        """The conversation that a row is, or belongs to."""
        if row.kind == IMAGE:
            return row
        if row.kind == MESSAGE:
            image_id = str(row.raw.get("imageId", ""))
            return SourceRow(IMAGE, image_id, {"imageId": image_id, "sessionId": row.raw.get("sessionId", "")})
        if row.kind != STORED:
            return None
        if row.key.startswith("images:"):
            try:
                image = json.loads(str(row.raw.get("value", "")))
            except (ValueError, RecursionError):
                return None
            image_id = row.key.removeprefix("images:")
            if not isinstance(image, dict):
                return None
            return SourceRow(IMAGE, image_id, {**image, "imageId": image_id, "sessionId": image.get("sessionId") or ""})
        image = row.raw.get("image")
        if not isinstance(image, dict) or not isinstance(image.get("imageId"), str):
            return None
        return SourceRow(IMAGE, str(row.raw.get("imageKey") or image["imageId"]), image)


def _parsed(line: bytes) -> SourceRow | None:
    try:
        found: Any = json.loads(line)
        if found["rejected"] != SYSTEM or found["kind"] not in (USER, INVITE, IMAGE, MESSAGE, FILE, STORED):
            return None
        if not isinstance(found["row"], dict):
            return None
        return SourceRow(found["kind"], str(found["key"])[:255], found["row"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
