"""How often a backup is read: rows and files in one go where they may be, and not at all for what nobody wants."""

from __future__ import annotations

import pytest

from ops.backup import archive
from ops.backup.components import Putting
from ops.backup.errors import BackupDamaged
from ops.backup.files import look_through, put_files, put_files_of, put_keys
from ops.backup.read import open_backup
from ops.backup.write import _Writing
from ops.models import Service
from tests.ops.backup.lots import Lot, part


class Taking(Lot):
    """Keeps what is put back."""

    def __init__(self, *given, **more):
        super().__init__(*given, **more)
        self.put_back = {}

    def put(self, files, putting):
        self.put_back = {name: stream.read() for name, _, stream in files}
        return {"written": len(self.put_back)}


def test_a_reader_stops_behind_the_rows_and_goes_on_with_the_files(house, make_backup, lots):
    Service.objects.create(name="one", kind="demo")
    left, taken = Taking("left", [part("a", b"1")]), Taking("taken", [part("b", b"2"), part("c/d", b"3")])
    stream, manifest = make_backup(include=lots(taken, left))
    with open_backup(stream) as reader:
        rows = {member.label: list(member.rows()) for member in reader.row_members()}
        assert len(rows["ops.Service"]) == Service.objects.count()
        with pytest.raises(RuntimeError):
            _ = reader.manifest
        putting = Putting(house, "default", False, lambda finding: None)
        done = put_files_of(reader, putting, wanted=lambda one: one.name == "taken")
        assert reader.manifest == manifest
    assert taken.put_back == {"b": b"2", "c/d": b"3"}
    assert left.put_back == {}
    assert done == {"taken": {"label": "A lot", "counts": {"written": 2}, "error": ""}}


def test_without_files_the_reader_goes_on_to_the_manifest(house, make_backup):
    stream, manifest = make_backup()
    with open_backup(stream) as reader:
        assert {member.kind for member in reader.row_members()} == {"rows"}
        assert [member.kind for member in reader.members()] == ["manifest"]
        assert reader.manifest == manifest


def test_rows_behind_files_are_refused(house, make_backup, lots, monkeypatch):
    def other_way_round(self, chosen, cut):
        yield from self._member(archive.BEGIN, self._begin.to_json())
        for component in chosen:
            yield from self._component(component, cut)
        for shape in self._begin.tables:
            yield from self._table(shape)
        data = self.manifest.to_json()
        yield archive.head(archive.MANIFEST, len(data), self._at) + data + archive.padding(len(data)) + archive.END

    monkeypatch.setattr(_Writing, "blocks", other_way_round)
    Service.objects.create(name="one", kind="demo")
    stream, _ = make_backup(include=lots(Lot("first", [part("a", b"1")])))
    with open_backup(stream) as reader, pytest.raises(BackupDamaged, match="behind files"):
        list(reader.members())


def test_keys_are_seen_while_it_is_looked_through_and_put_back_from_there(house, make_backup, lots, tmp_path):
    keys = Taking("keys", [part("field_encryption_keys", b"one, two"), part("secret_key", b"three")])
    stream, manifest = make_backup(include=lots(keys))
    path = tmp_path / "the.sbk"
    path.write_bytes(stream.getvalue())
    looked = look_through(path, None)
    assert looked.keys == ("one", "two")
    assert looked.manifest == manifest
    assert "three" not in repr(looked)
    path.unlink()
    assert put_keys(looked, Putting(house, "default", False, lambda finding: None)).keys() == {"keys"}
    assert keys.put_back == {"field_encryption_keys": b"one, two", "secret_key": b"three"}


def test_nothing_is_opened_for_what_nobody_wants(house, lots, tmp_path):
    lots(Lot("a"), Lot("b"))
    putting = Putting(house, "default", False, lambda finding: None)
    gone = tmp_path / "gone.sbk"
    parts = {"a": {"files": 3}, "b": {"files": 0}}
    assert put_files(gone, None, putting, wanted=lambda one: one.name == "b", parts=parts) == {}
    with pytest.raises(FileNotFoundError):
        put_files(gone, None, putting, wanted=lambda one: one.name == "a", parts=parts)
    with pytest.raises(FileNotFoundError):
        put_files(gone, None, putting, wanted=lambda one: False, parts={"unknown": {"files": 1}})
