"""What a backup says about itself: the plain first line (``Header``), what it begins with (``Begin``) and what it ends with (``Manifest``)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any

import orjson

from ops.backup.errors import NewerVersion, NotABackup
from ops.backup.shapes import TableShape, from_json

FORMAT = 1
MAGIC = b"switchboard-backup "
LONGEST_HEADER = 1 << 16


@dataclass(frozen=True, slots=True)
class Header:
    """The first line, which anybody can read without a key. ``recipients`` are fingerprints of the keys that open it; ``made_at`` is the
    moment of the cut, ISO in UTC; ``schema`` a digest of tables and migrations."""

    id: str
    installation: str
    version: str
    made_at: str
    recipients: list[str]
    schema: str
    line: bytes = b""

    def to_line(self) -> bytes:
        """The line itself, with its end."""
        said = asdict(self)
        del said["line"]
        return MAGIC + b"%d " % FORMAT + orjson.dumps(said, option=orjson.OPT_SORT_KEYS) + b"\n"

    @property
    def sha256(self) -> str:
        """Of the whole line: it stands in the manifest, so that no byte of the line can change unnoticed."""
        return hashlib.sha256(self.line or self.to_line()).hexdigest()

    @classmethod
    def from_line(cls, line: bytes) -> Header:
        """Raises ``NotABackup`` or ``NewerVersion`` (of the format)."""
        if not line.startswith(MAGIC) or not line.endswith(b"\n"):
            raise NotABackup(
                "This is no backup of Switchboard: its first line does not say so. Choose a file that ends with .sbk."
            )
        number, _, rest = line.removeprefix(MAGIC).partition(b" ")
        try:
            version = int(number)
            said = orjson.loads(rest)
            header = cls(**{one.name: said[one.name] for one in fields(cls) if one.name != "line"}, line=line)
            header._check()
        except (ValueError, KeyError, TypeError) as exc:
            if number.isdigit() and int(number) > FORMAT:
                raise _newer(int(number)) from None
            raise NotABackup("The first line of this backup is damaged. Use another copy of it.") from exc
        if version > FORMAT:
            raise _newer(version)
        return header

    def _check(self) -> None:
        """Raises ``ValueError`` for values of other kinds: anybody may have written the line."""
        texts = [getattr(self, one.name) for one in fields(self) if one.name not in ("line", "recipients")]
        if not isinstance(self.recipients, list):
            raise ValueError("recipients is no list")
        if not all(isinstance(one, str) and "\0" not in one for one in (*texts, *self.recipients)):
            raise ValueError("not all of it is text")
        datetime.fromisoformat(self.made_at)


def _newer(number: int) -> NewerVersion:
    return NewerVersion(
        f"This backup has format {number}; this version of Switchboard reads up to {FORMAT}. Install the version that made it, or a newer one."
    )


@dataclass(slots=True)
class Begin:
    """The first member: what to expect. ``migrations`` is ``{app: [names that were applied]}``; ``parts`` are the names of the components."""

    id: str
    version: str
    made_at: str
    vendor: str
    migrations: dict[str, list[str]]
    tables: list[TableShape]
    parts: list[str]

    @property
    def schema(self) -> str:
        """A digest of tables and migrations: two backups with the same one have the same columns."""
        return hashlib.sha256(
            orjson.dumps([self.migrations, [t.to_json() for t in self.tables]], option=orjson.OPT_SORT_KEYS)
        ).hexdigest()

    def to_json(self) -> bytes:
        said = {one.name: getattr(self, one.name) for one in fields(self)} | {
            "tables": [one.to_json() for one in self.tables]
        }
        return orjson.dumps(said, option=orjson.OPT_SORT_KEYS)

    @classmethod
    def from_bytes(cls, data: bytes) -> Begin:
        said = orjson.loads(data)
        known = {one.name: said[one.name] for one in fields(cls)}
        return cls(**known | {"tables": from_json(said["tables"])})

    def table(self, label: str) -> TableShape:
        """The shape of a model's table. Raises ``KeyError``."""
        for shape in self.tables:
            if shape.label == label:
                return shape
        raise KeyError(label)


@dataclass(slots=True)
class Manifest:
    """The last member: what is in the file.

    ``members`` is ``[{"name", "size", "sha256"}]`` in order (sizes and digests as they lie in the archive), ``tables`` ``{label: {"rows",
    "sha256"}}`` (of the canonical rows, one JSON line each), ``parts`` ``{component: {"label", "files", "size"}}``, ``missing``
    ``{component: why it is not in it}``, ``broken`` names of files that could not be read to their end. ``findings`` are JSON findings.
    ``file_size`` and ``file_sha256`` are of the whole encrypted file and known only to who wrote or read it.
    """

    id: str = ""
    version: str = ""
    installation: str = ""
    made_at: str = ""
    header_sha256: str = ""
    recipients: list[str] = field(default_factory=list)
    members: list[dict[str, Any]] = field(default_factory=list)
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)
    file_size: int = 0
    file_sha256: str = ""

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(table["rows"] for table in self.tables.values())

    def to_json(self) -> bytes:
        said = asdict(self)
        del said["file_size"], said["file_sha256"]
        return orjson.dumps(said, option=orjson.OPT_SORT_KEYS)

    def summary(self) -> dict[str, Any]:
        """For the database and for people: everything but the list of members, which grows with the files."""
        said = asdict(self)
        said["members"] = len(self.members)
        return said

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        said: Mapping[str, Any] = orjson.loads(data)
        return cls(**{one.name: said[one.name] for one in fields(cls) if one.name in said})
