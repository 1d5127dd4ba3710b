"""Contents of attachments in a backup, and back."""

from __future__ import annotations

import hashlib
import io
import stat
from collections.abc import Iterator

import pytest

from chat.attachments import folder
from chat.backup_files import SEEN
from chat.services.attachments import attachment_take_in, prune_attachments
from ops.backup.components import Cut, component
from ops.backup.errors import BackupDamaged
from tests.support.parts import Luggage

pytestmark = pytest.mark.django_db
TEXTS = ("first words", "second words", "third words")


@pytest.fixture
def luggage(tmp_path, settings) -> Luggage:
    settings.DATA_DIR = tmp_path / "data"
    settings.ATTACHMENTS_DIR = tmp_path / "elsewhere"
    return Luggage(tmp_path)


@pytest.fixture
def attachments():
    return component("attachments")


def _take_in(*texts: str) -> None:
    for text in texts:
        attachment_take_in(file=io.BytesIO(text.encode()), name="note.txt", owner=None)


def _name(text: str) -> str:
    return folder.path_of(hashlib.sha256(text.encode()).hexdigest())


def test_each_content_is_taken_once_and_lies_where_it_was_before(luggage, attachments, tmp_path):
    assert attachments.unavailable() == "-"
    _take_in(*TEXTS, TEXTS[0])
    assert attachments.unavailable() == ""
    files = luggage.take(attachments)
    assert files == {_name(text): text.encode() for text in TEXTS}
    for text in TEXTS[:2]:
        (folder.root() / _name(text)).unlink()
    assert luggage.put(attachments, tmp_path / "data") == {"written": 2, "same": 1, "replaced": 0, "damaged": 0}
    for text in TEXTS:
        place = folder.root() / _name(text)
        assert place.read_bytes() == text.encode()
        assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert luggage.findings == []


def test_what_pruning_takes_away_meanwhile_is_told_and_stops_nothing(luggage, attachments, tmp_path):
    _take_in(*TEXTS)
    said: list[str] = []
    parts: Iterator = attachments.files(Cut("default", tmp_path, lambda finding: said.append(finding.sentence)))
    first = next(parts)
    for text in TEXTS:
        (folder.root() / _name(text)).unlink()
    with first.open() as file:
        assert hashlib.sha256(file.read()).hexdigest() == first.name.rpartition("/")[2]
    assert list(parts) == []
    assert len(said) == 2
    assert "is gone from the disk" in said[0]


def test_a_damaged_content_is_noticed_when_it_is_taken_and_when_it_is_put_back(luggage, attachments, tmp_path):
    _take_in(*TEXTS)
    good = dict(luggage.take(attachments))
    place = folder.root() / _name(TEXTS[1])
    place.write_bytes(b"something else")
    luggage.take(attachments)
    assert luggage.codes == ["backup.attachment_damaged"]
    # What was damaged on the way never takes the place of anything.
    assert luggage.put(attachments, tmp_path / "data")["damaged"] == 1
    assert luggage.put(attachments, tmp_path / "data", good) == {"written": 0, "same": 2, "replaced": 1, "damaged": 0}
    assert place.read_bytes() == TEXTS[1].encode()


def test_a_content_that_was_put_back_before_its_row_is_not_pruned(luggage, attachments, tmp_path):
    import os

    from chat.models import Attachment

    _take_in(*TEXTS)
    luggage.take(attachments)
    Attachment.objects.all().delete()
    for text in TEXTS:
        os.utime(folder.root() / _name(text), (1, 1))
    luggage.put(attachments, tmp_path / "data")
    assert prune_attachments()["contents"] == 0


def test_a_drill_reads_and_writes_no_content(luggage, attachments, tmp_path):
    _take_in(*TEXTS)
    files = luggage.take(attachments)
    files[_name("fourth")] = b"not this"
    scratch = tmp_path / "drill"
    assert luggage.put(attachments, scratch, drill=True) == {"read": 3, "damaged": 1}
    assert sorted((scratch / SEEN).read_text().split()) == sorted(_name(text)[3:] for text in TEXTS)
    assert [path.name for path in scratch.rglob("*")] == [SEEN]


@pytest.mark.parametrize("name", ["../../etc/passwd", "ab/../../x", "ab/" + "z" * 64, "ff/" + "a" * 64])
def test_a_name_that_is_none_is_refused(luggage, attachments, tmp_path, name):
    with pytest.raises(BackupDamaged, match="under a name that is none"):
        luggage.put(attachments, tmp_path / "data", {name: b"x"})
