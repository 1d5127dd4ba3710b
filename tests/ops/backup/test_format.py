"""What lies in a backup: readable with any age, tar and zstd; complete in spite of parts that fail; of one moment."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile

import orjson
import pyrage
import pytest
import zstandard

from ops.backup import age
from ops.backup.codecs import canonical_json
from ops.backup.components import FilePart
from ops.backup.cut import consistent_cut, readers_of
from ops.backup.errors import BackupDamaged, BackupStopped, NewerVersion, NotABackup, WrongKey
from ops.backup.read import open_backup, read_header
from ops.backup.rows import read_rows
from ops.backup.shapes import table_shapes
from ops.backup.verify import verify_backup
from ops.models import Service
from tests.ops.backup.hard import hard_rows, lines_of
from tests.ops.backup.lots import Lot, part
from tests.support.every_model import fill


def test_both_ways_of_reading_give_the_same_bytes(house):
    fill()
    hard_rows()
    with consistent_cut(readers=2) as alias:
        assert len(readers_of(alias)) == 2
        for shape in table_shapes():
            plain = lines_of(alias, shape, worth=10**9)
            assert lines_of(alias, shape, worth=1) == plain, shape.label
            assert plain.count(b"\n") == sum(1 for _ in read_rows(alias, shape))
            assert plain or shape.label == "chat.Impersonation", f"{shape.label} has no rows here"


def test_any_age_tar_and_zstd_read_it(house, make_backup, lots):
    fill()
    lots(Lot(files=[part("a/b.bin", b"x" * 3_000_000), part("empty", b"")]))
    stream, manifest = make_backup(include=None)
    line, _, encrypted = stream.getvalue().partition(b"\n")
    assert line.startswith(b"switchboard-backup 1 {")
    assert hashlib.sha256(stream.getvalue()).hexdigest() == manifest.file_sha256
    key = pyrage.x25519.Identity.from_str(age.machine_identity())
    with tarfile.open(fileobj=io.BytesIO(pyrage.decrypt(encrypted, [key]))) as tar:
        found = {one.name: tar.extractfile(one).read() for one in tar}
    names = list(found)
    assert (names[0], names[-1]) == ("begin.json", "manifest.json")
    assert found["files/lot/a/b.bin"] == b"x" * 3_000_000
    begin = json.loads(found["begin.json"])
    columns = next(table["columns"] for table in begin["tables"] if table["label"] == "ops.Service")
    rows = zstandard.decompress(found["rows/ops.Service/000001.jsonl.zst"]).splitlines()
    services = [dict(zip([column["name"] for column in columns], json.loads(row), strict=True)) for row in rows]
    assert [one["id"] for one in services] == sorted(Service.objects.values_list("pk", flat=True))
    assert services[0]["credentials"].startswith("enc1:")
    assert services[0]["created_at"].endswith("Z")
    said = json.loads(found["manifest.json"])
    assert {one["name"]: one["sha256"] for one in said["members"]} == {
        name: hashlib.sha256(data).hexdigest() for name, data in found.items() if name != "manifest.json"
    }
    assert said["header_sha256"] == hashlib.sha256(line + b"\n").hexdigest()


def test_it_is_read_as_it_was_written(house, make_backup):
    fill()
    stream, manifest = make_backup()
    assert manifest.rows == sum(len(list(read_rows("default", shape))) for shape in table_shapes())
    with open_backup(stream) as reader:
        found = {}
        for member in reader.members():
            if member.kind == "rows":
                found.setdefault(member.label, []).extend(member.rows())
    assert found == {shape.label: rows for shape in table_shapes() if (rows := list(read_rows("default", shape)))}
    stream.seek(0)
    report = verify_backup(stream)
    assert report.ok
    assert report.sha256 == manifest.file_sha256
    assert report.manifest == manifest


def test_rows_written_meanwhile_are_not_in_it(house):
    Service.objects.create(name="before", kind="demo")
    shape = next(shape for shape in table_shapes() if shape.label == "ops.Service")
    with consistent_cut(readers=2) as alias:
        Service.objects.create(name="meanwhile", kind="demo")
        Service.objects.filter(name="before").update(name="changed")
        for worth in (1, 10**9):
            names = [orjson.loads(line)[1] for line in lines_of(alias, shape, worth).splitlines()]
            assert "before" in names
            assert not {"meanwhile", "changed"} & set(names)


def test_what_cannot_be_taken_along_is_said_and_the_rest_is_there(house, make_backup, lots):
    Service.objects.create(name="kept", kind="demo")
    gone = FilePart("gone.bin", 5, lambda: (_ for _ in ()).throw(FileNotFoundError(2, "No such file")))
    lots(
        Lot("broken", [part("first", b"1"), RuntimeError("the store is locked")]),
        Lot("absent", why="There is no store."),
        Lot("none", why="-"),
        Lot("asked", [part("a", b"a")], optional=True),
        Lot("unasked", [part("a", b"a")], optional=True),
        Lot("files", [gone, part("short", b"ab", 4), part("shrinks", b"y" * 2_000_000, 3_000_000), part("../up", b"z"), part("good", b"g")]),
    )  # fmt: skip
    stream, manifest = make_backup(include=None, optional=["asked"])
    assert manifest.missing == {
        "broken": "A lot could not be read: the store is locked",
        "absent": "There is no store.",
    }
    assert {name: one["files"] for name, one in manifest.parts.items()} == {"broken": 1, "asked": 1, "files": 3}
    assert manifest.broken == ["files/files/shrinks"]
    codes = sorted(one["code"] for one in manifest.findings)
    assert codes == ["backup.file_changed"] * 2 + ["backup.file_unreadable"] * 2 + ["backup.part_missing"] * 2
    report = verify_backup(stream)
    assert report.ok
    assert len(report.findings) == 3
    assert manifest.tables["ops.Service"]["rows"] == Service.objects.count()


def test_a_stop_and_a_full_disk_come_through(house, make_backup):
    with pytest.raises(BackupStopped):
        make_backup(should_stop=lambda: True)

    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        make_backup(target=Full())
    assert [path.name for path in house.iterdir()] == []


def test_refusals_say_what_to_do(house, make_backup):
    other, recipient = age.new_identity()
    stream, manifest = make_backup(recipients=[recipient])
    with pytest.raises(WrongKey, match=age.fingerprint(recipient)):
        open_backup(stream)
    stream.seek(0)
    assert read_header(stream).recipients == manifest.recipients == [age.fingerprint(recipient)]
    stream.seek(0)
    with open_backup(stream, identities=[age.machine_identity(), other]) as reader, pytest.raises(RuntimeError):
        _ = reader.manifest
    with pytest.raises(NotABackup):
        open_backup(io.BytesIO(b"PK\x03\x04 something else\n"))
    with pytest.raises(NewerVersion, match="format 2"):
        open_backup(io.BytesIO(b'switchboard-backup 2 {"all": "new"}\n'))
    short = io.BytesIO(stream.getvalue()[:-1])
    with pytest.raises(BackupDamaged), open_backup(short, identities=[other]) as reader:
        list(reader.members())


def test_a_backup_with_migrations_that_are_not_here_is_refused(house, make_backup, monkeypatch):
    stream, _ = make_backup()
    from ops.backup import read

    known, apps = read._known_migrations()
    monkeypatch.setattr(read, "_known_migrations", lambda: (known - {("chat", "0001_initial")}, apps))
    with pytest.raises(NewerVersion, match=r"chat\.0001_initial"):
        open_backup(stream)
    stream.seek(0)
    assert verify_backup(stream).ok, "whole it is, all the same"


@pytest.mark.parametrize(
    ("stored", "canonical"),
    [
        ('{"b": 1, "a": [1, 2]}', '{"a":[1,2],"b":1}'),
        ('"\\u00fc\\ud83d\\udc26\\u2028"', '"ü🐦\u2028"'),
        ('{"n": 1e+22}', '{"n":10000000000000000000000}'),
        ('{"n": 10000000000000000000000}', '{"n":10000000000000000000000}'),
        ('{"n": 1000.0}', '{"n":1000.0}'),
        ('{"n": 0.0000001}', '{"n":1e-7}'),
        ('{"n": 1e-07}', '{"n":1e-7}'),
        ('"\\ud800"', '"?"'),
        ("NaN", "null"),
        ("[-0.0, 1e-300]", "[0.0,1e-300]"),
        ('{"id": "12e34"}', '{"id":"12e34"}'),
        ("null", "null"),
    ],
)  # fmt: skip
def test_one_text_for_one_json_value(stored, canonical):
    assert canonical_json(stored) == canonical
    assert canonical_json(canonical) == canonical
