"""kill -9 at any point of a restore or a backup, and a full disk: the old state is there, or the new one, and the next try works."""

from __future__ import annotations

import pytest

from tests.support.plain_house import PlainHouse
from tests.support.prepared import database_with_tables

CHANGE = """
from chat.models import Message, Person
Person.objects.update(first_name="Changed since")
Message.objects.update(text="Changed since")
print(0)
"""
SAY = """
from django.utils import timezone
from chat.models import Conversation, Message, Participant
old, new = Participant.objects.order_by("pk").first(), Conversation.objects.create(title="Begun since")
fresh = Participant.objects.create(conversation=new, kind="guest", external_id="x")
for speaker, seq in ((old, 100_000), (fresh, 1)):
    now = timezone.now()
    Message.objects.create(
        conversation=speaker.conversation, seq=seq, sender=speaker, role="user", text="Said since", transport="portal",
        received_at=now, stored_at=now,
    )
print(0)
"""
HEARD = """
import json
from chat.models import Message
said = Message.objects.filter(text="Said since").order_by("pk")
print(json.dumps(list(said.values_list("pk", "seq", "conversation__title", "sender__external_id"))))
"""
STATES = "import json; from ops.models.restore import Restore; print(json.dumps([r.state for r in Restore.objects.order_by('created_at')]))"


class Begun:
    """An installation, a backup of it, and what both hold."""

    def __init__(self, house: PlainHouse) -> None:
        self.house = house
        house.inside("-", "fill", "4")
        self.before = house.contents()
        house.manage("backup", "create", "--note", "first")
        self.file = next(house.data.rglob("*.sbk"))
        kept = house.data.parent / self.file.name
        kept.write_bytes(self.file.read_bytes())
        self.file = kept

    def change(self) -> dict[str, str]:
        self.house.ask(CHANGE)
        changed = self.house.contents()
        assert changed != self.before
        return changed


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    return Begun(PlainHouse(tmp_path_factory.mktemp("house")))


@pytest.mark.parametrize("point", ["comparing", "between removing and inserting", "before the commit"])
def test_killed_before_the_commit_nothing_has_changed(begun, point):
    house, changed = begun.house, begun.change()
    done = house.inside(point, "restore", str(begun.file), "--yes", check=False)
    assert done.returncode == -9, done.stdout + done.stderr
    assert house.contents() == changed
    house.inside("-", "restore", str(begun.file), "--yes")
    assert house.contents() == begun.before
    assert house.ask(STATES)[-2:] == ["failed", "done"]
    assert not [path for path in house.data.iterdir() if path.name.startswith(".restore-")], "scratch files go"


@pytest.mark.parametrize("point", ["after the commit", "reconciling"])
def test_killed_after_the_commit_everything_has_changed_and_the_rest_is_done_next(begun, point):
    house = begun.house
    begun.change()
    done = house.inside(point, "restore", str(begun.file), "--yes", check=False)
    assert done.returncode == -9, done.stdout + done.stderr
    assert house.contents() == begun.before
    assert house.ask(STATES)[-1] == "reconciling"
    house.inside("-", "restore", "--go-on")
    assert house.ask(STATES)[-1] == "done"
    assert house.contents() == begun.before


def test_a_full_disk_stops_it_while_nothing_is_changed(begun):
    house, changed = begun.house, begun.change()
    done = house.inside("-", "restore", str(begun.file), "--yes", check=False, LARGEST_FILE=str(200_000))
    assert done.returncode != 0
    assert "not enough room" in done.stderr, done.stderr[-3000:]
    assert house.contents() == changed


def words_since_outlive_kills(begun):
    """What was said since is there once, at whatever point somebody pulls the plug."""
    house = begun.house
    house.ask(SAY)
    heard = house.ask(HEARD)
    assert len(heard) == 2
    for point in ("before the commit", "after the commit"):
        done = house.inside(point, "restore", str(begun.file), "--yes", check=False)
        assert done.returncode == -9, done.stdout + done.stderr
        assert house.ask(HEARD) == heard
    house.inside("-", "restore", "--go-on")
    assert house.ask(HEARD) == heard
    assert house.ask(STATES)[-1] == "done"


@pytest.mark.parametrize("point", ["writing", "written"])
def test_a_backup_that_was_killed_is_none_and_leaves_nothing(begun, point):
    house = begun.house
    listed = "import json; from ops.models.backup import Backup; print(json.dumps(list(Backup.objects.filter(state='complete').values_list('name', flat=True))))"
    before = house.ask(listed)
    done = house.inside(point, "backup", "create", check=False)
    assert done.returncode == -9, done.stdout + done.stderr
    assert house.ask(listed) == before
    house.manage("backup", "create")
    assert len(house.ask(listed)) in (len(before) + 1, len(before) + 2), "one that was whole already may be adopted"
    assert not list(house.data.rglob("*.partial"))


def test_killed_on_postgresql_nothing_has_changed(tmp_path, postgres):
    postgres.drop_database("killed")
    begun = Begun(PlainHouse(tmp_path, database_url=database_with_tables(postgres, "killed")))
    changed = begun.change()
    done = begun.house.inside("before the commit", "restore", str(begun.file), "--yes", check=False)
    assert done.returncode == -9, done.stdout + done.stderr
    assert begun.house.contents() == changed
    begun.house.inside("-", "restore", str(begun.file), "--yes")
    assert begun.house.contents() == begun.before
    words_since_outlive_kills(begun)
