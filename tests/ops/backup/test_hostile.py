"""A file that somebody made who knows the public key: nothing of it leaves its folder, fills the memory, or ends in anything but a sentence."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import threading
from dataclasses import replace

import orjson
import pytest
import zstandard

from ops.backup import age, archive, read
from ops.backup.errors import BackupDamaged, BackupError, NewerVersion, NotABackup
from ops.backup.manifest import Header
from ops.backup.read import open_backup, read_header
from ops.backup.source import tables_of
from ops.backup.verify import verify_backup

BEGIN = {"id": "x", "version": "0", "made_at": "2026-01-01T00:00:00Z", "vendor": "sqlite", "migrations": {}, "tables": [], "parts": []}  # fmt: skip
HEADER = Header(id="x", installation="x", version="0", made_at="2026-01-01T00:00:00Z", recipients=["aa"], schema="x")


def made(
    *members: tuple[str, bytes], begin: object = BEGIN, kind: bytes = tarfile.REGTYPE, behind: bytes = b""
) -> io.BytesIO:
    """A backup that the machine key opens, with these members behind its beginning, and ``behind`` after the archive's end."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.GNU_FORMAT) as writing:
        for name, data in ((archive.BEGIN, begin if isinstance(begin, bytes) else orjson.dumps(begin)), *members):
            info = tarfile.TarInfo(name)
            if name != archive.BEGIN:
                info.type, info.linkname = kind, "/etc/passwd"
            info.size = len(data) if info.isfile() else 0
            writing.addfile(info, io.BytesIO(data))
    target = io.BytesIO()
    target.write(HEADER.to_line())
    age.encrypt([tar.getvalue(), behind], target, age.recipients_of([age.machine_identity()]))
    target.seek(0)
    return target


ROWS, LINES = "rows/ops.Service/000001.jsonl.zst", b"[1]\n[2]\n"
MEMBERS = ((ROWS, zstandard.compress(LINES)), ("files/keys/secret_key", b"x" * 700))


def manifest(**lies: object) -> tuple[str, bytes]:
    """The manifest of a backup with ``MEMBERS``, true but for what ``lies`` say."""
    there = [(archive.BEGIN, orjson.dumps(BEGIN)), *MEMBERS]
    members = [{"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in there]
    said = {
        "id": "x", "version": "0", "made_at": BEGIN["made_at"], "header_sha256": HEADER.sha256, "members": members,
        "tables": {"ops.Service": {"rows": 2, "sha256": hashlib.sha256(LINES).hexdigest()}}, **lies,
    }  # fmt: skip
    return archive.MANIFEST, orjson.dumps(said)


def trouble(file: io.BytesIO) -> str:
    """What is said of it, when it is said to be damaged."""
    report = verify_backup(file)
    assert [one.code for one in report.findings] == ["backup.damaged"]
    assert not report.ok
    return report.sentence


@pytest.mark.parametrize(
    "begin", [b"", b"{", b"[]", b"{}", b'"x"', orjson.dumps({**BEGIN, "tables": [{"label": "x"}]})]
)
def test_a_beginning_that_is_none(begin: bytes) -> None:
    assert "begin.json" in trouble(made(begin=begin))


@pytest.mark.parametrize("text", [b"", b"[1]", b"\xff", b'"x"'])
def test_a_manifest_that_is_none(text: bytes) -> None:
    assert trouble(made((archive.MANIFEST, text)))


@pytest.mark.parametrize(
    "name", ["files/keys/../../x", "files/keys//etc/passwd", "files/keys/./x", "files/keys/a\\b", "files/keys", "files//x", "other/keys/x", "x"]
)  # fmt: skip
def test_a_name_that_leads_elsewhere(name: str) -> None:
    assert "nothing of ours writes" in trouble(made((name, b"x")))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])
def test_what_is_no_file(kind: bytes) -> None:
    assert "is no file" in trouble(made(("files/keys/x", b""), kind=kind))


def test_what_stands_behind_the_manifest() -> None:
    assert "behind the end" in trouble(made(("manifest.json", b"{}"), ("files/keys/x", b"x")))


def test_what_the_manifest_says_is_what_is_there() -> None:
    report = verify_backup(made(*MEMBERS, manifest()))
    assert report.ok, report.findings
    assert report.manifest is not None
    assert report.manifest.rows == 2


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (((ROWS, MEMBERS[0][1]), ("files/keys/secret_key", b"y" * 700)), "files/keys/secret_key is not what"),
        (((ROWS, MEMBERS[0][1]), ("files/keys/other", b"x" * 700)), "files/keys/other is not what"),
        (MEMBERS[:1], "its list of parts is not what"),
        ((*MEMBERS, ("files/keys/more", b"x")), "its list of parts is not what"),
        (MEMBERS[::-1], "stands behind files"),
    ],
)
def test_members_that_the_manifest_does_not_name_so(members: tuple[tuple[str, bytes], ...], said: str) -> None:
    assert said in trouble(made(*members, manifest()))


@pytest.mark.parametrize(
    "lie", [{"rows": 1, "sha256": hashlib.sha256(LINES).hexdigest()}, {"rows": 2, "sha256": hashlib.sha256(b"").hexdigest()}, None]
)  # fmt: skip
def test_rows_that_the_manifest_counts_otherwise(lie: object) -> None:
    assert "The rows of ops.Service are not those" in trouble(made(*MEMBERS, manifest(tables={"ops.Service": lie})))


def test_rows_of_a_table_that_the_beginning_does_not_name() -> None:
    with open_backup(made(*MEMBERS, manifest())) as reader, pytest.raises(BackupDamaged, match="does not name"):
        list(tables_of(reader))


def test_another_first_line_than_the_manifest_was_made_with() -> None:
    assert "The first line of the backup" in trouble(made(*MEMBERS, manifest(header_sha256="0" * 64)))


def test_it_is_read_to_its_last_byte() -> None:
    """Behind the archive's end stands nothing that anybody reads; that it was cut off is seen there all the same."""
    whole = made(*MEMBERS, manifest(), behind=bytes(3 << 20)).getvalue()
    assert verify_backup(io.BytesIO(whole)).ok
    assert "cut off" in trouble(io.BytesIO(whole[:-1]))


def claiming(size: int) -> bytes:
    """A block that says to be so large, and is not."""
    return b"\x28\xb5\x2f\xfd\xe0" + size.to_bytes(8, "little") + b"\x01\x00\x00"


def test_a_block_that_claims_to_be_huge_is_not_unpacked() -> None:
    assert zstandard.frame_content_size(claiming(1 << 50)) == 1 << 50
    assert "larger than" in trouble(made(("rows/ops.Service/000001.jsonl.zst", claiming(1 << 50))))


def test_a_block_that_becomes_huge_without_saying_so_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "_LARGEST", 10_000)
    packing = zstandard.ZstdCompressor().compressobj()
    packed = packing.compress(b"[1]\n" * 100_000) + packing.flush()
    assert zstandard.frame_content_size(packed) == -1
    assert len(packed) < 10_000
    assert "is damaged" in trouble(made(("rows/ops.Service/000001.jsonl.zst", packed)))


@pytest.mark.parametrize("name", ["rows/ops.Service/000001.jsonl.zst", "manifest.json"])
def test_what_is_huge_itself_is_not_read(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(read, "_LARGEST", 10_000)
    assert "larger than" in trouble(made((name, os.urandom(10_001))))


@pytest.mark.parametrize(
    "changed", [{"recipients": "age1x"}, {"recipients": [1]}, {"version": 1}, {"made_at": "2026-13-45T00:00:00Z"}, {"id": "x\0"}, {"installation": None}]
)  # fmt: skip
def test_a_first_line_with_other_values_than_ours(changed: dict[str, object]) -> None:
    said = {
        name: getattr(HEADER, name) for name in ("id", "installation", "version", "made_at", "recipients", "schema")
    }
    line = b"switchboard-backup 1 " + orjson.dumps({**said, **changed}) + b"\n"
    with pytest.raises(NotABackup, match="first line"):
        read_header(io.BytesIO(line))


def test_a_member_that_is_cut_off_inside() -> None:
    """Its size says more than the archive holds."""
    tar = archive.head(archive.BEGIN, 5000, 0) + b"{" + b"\0" * 511
    target = io.BytesIO()
    target.write(HEADER.to_line())
    age.encrypt([tar], target, age.recipients_of([age.machine_identity()]))
    target.seek(0)
    with pytest.raises(BackupDamaged, match=r"in the middle of begin\.json"):
        open_backup(target)


def test_a_newer_format_whose_first_line_looks_like_ours() -> None:
    line = HEADER.to_line().replace(b"switchboard-backup 1 ", b"switchboard-backup 2 ")
    with pytest.raises(NewerVersion, match="format 2"):
        read_header(io.BytesIO(line))


def test_a_key_that_should_fit_and_does_not_is_no_wrong_key() -> None:
    """Whoever believed that another key is needed would look for one that there is not."""
    ours = age.fingerprint(age.recipients_of([age.machine_identity()])[0])
    target = io.BytesIO()
    target.write(replace(HEADER, recipients=[ours]).to_line())
    age.encrypt([b"x"], target, [age.new_identity()[1]])
    target.seek(0)
    assert "says how it is opened is damaged" in trouble(target)


def test_whoever_stops_reading_leaves_no_thread_behind() -> None:
    file, before = made(("files/keys/x", os.urandom(12 << 20))), set(threading.enumerate())

    def reading() -> list[threading.Thread]:
        return [one for one in threading.enumerate() if one.name == "backup-decrypt" and one not in before]

    reader = open_backup(file)
    assert reading(), "it waits to be read"
    reader.close()
    assert not reading()


def test_it_is_encrypted_to_nobody_never() -> None:
    with pytest.raises(BackupError, match="would be no backup"):
        age.encrypt([b"x"], io.BytesIO(), [])
