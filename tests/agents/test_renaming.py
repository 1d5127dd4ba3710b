"""A homeserver that bears another name than our accounts: sync stops, the rows move over, and what is there already is adopted."""

from __future__ import annotations

from typing import Any

import pytest

from agents.models import Account, Invitation, Room
from chat.models import Conversation, Link, LinkKind, Person
from ops.doctor.repairs import RepairRefused
from ops.models import ObjectVersion, RepairRun, Service
from ops.services.repairs import repair_plan, repair_start, repair_undo
from ops.services.versions import versions_of
from tests.support.stage import SERVER_NAME, _fake_homeserver, stage

__all__ = ["_fake_homeserver", "stage"]

pytestmark = pytest.mark.django_db(transaction=True)
FORMER = "former.test"


@pytest.fixture
def moved(stage: Any) -> Any:
    """Everything was made on a server of another name; the homeserver that answers now knows the same names."""
    for name in ("Ada", "Bea"):
        stage.agent(name)
    for account in Account.objects.all():
        Account.objects.filter(pk=account.pk).update(user_id=f"@{account.localpart}:{FORMER}")
    for room in Room.objects.all():
        alias = room.alias.replace(SERVER_NAME, FORMER)
        Room.objects.filter(pk=room.pk).update(room_id=f"!{room.pk}:{FORMER}", alias=alias)
    return stage


def rename(**params: Any) -> RepairRun:
    return repair_start(
        repair_id="homeserver.rename",
        params={"name": SERVER_NAME, **params},
        actor="person:ada",
        trigger="command",
        typed=SERVER_NAME,
    )


def rows() -> list[Any]:
    return [list(model.objects.order_by("pk").values()) for model in (Account, Room, Invitation, Link)]


def test_sync_stops_before_it_touches_anything(moved: Any) -> None:
    before, made = rows(), len(moved.fake.rooms)
    for force in (False, True):
        report = moved.sync(force=force)
        assert (report.state, report.plan.steps) == ("stopped", [])
        [found] = report.findings
        assert found.code == "sync.server_renamed"
        assert f"rename-server {SERVER_NAME}" in found.sentence
    assert rows() == before
    assert len(moved.fake.rooms) == made


def test_one_account_of_another_server_stops_nothing(stage: Any) -> None:
    for name in ("Ada", "Bea"):
        stage.agent(name)
    Account.objects.filter(pk=stage.mapping("Ada").account_id).update(user_id=f"@x:{FORMER}")
    assert "sync.server_renamed" not in [one.code for one in stage.sync().findings]


def test_the_rows_move_over_and_what_is_there_is_adopted(moved: Any) -> None:
    made, mapping = len(moved.fake.rooms), moved.mapping("Ada")
    chat = Room.objects.create(homeserver=Service.objects.get(kind="homeserver"), kind="direct", room_id=f"!d:{FORMER}")
    talk = Conversation.objects.create(agent=mapping.agent)
    Link.objects.create(conversation=talk, kind=LinkKind.ROOM, room=chat)
    person = Person.objects.create_user("grace", matrix_user_id=f"@grace:{FORMER}")
    planned = repair_plan(
        repair_id="homeserver.rename", params={"name": SERVER_NAME, "people": "same"}, actor="person:ada"
    )
    assert planned.confirm_word == SERVER_NAME
    assert ("person", f"@grace:{FORMER}", f"@grace:{SERVER_NAME}") in {
        (one.target, one.before, one.after) for one in planned.plan.changes
    }
    run = rename(people="same")
    assert run.state in ("succeeded", "unproven"), run.error
    assert {one.user_id.partition(":")[2] for one in Account.objects.all()} == {SERVER_NAME}
    assert not Account.objects.exclude(registered_at=None).exists()
    assert not Room.objects.filter(room_id__isnull=False).exists()
    assert not Link.objects.filter(room=chat).exists()
    person.refresh_from_db()
    assert person.matrix_user_id == f"@grace:{SERVER_NAME}"
    assert versions_of(mapping).first().action == "mapping.server_renamed"
    report = moved.sync()
    assert report.findings == []
    assert len(moved.fake.rooms) == made, "no room is made a second time"
    now = moved.mapping("Ada")
    assert (now.pk, now.room_id) == (mapping.pk, mapping.room_id)
    assert now.room.room_id in moved.fake.rooms
    assert f"!{mapping.room_id}:{FORMER}" in now.room.predecessors
    with pytest.raises(RepairRefused, match="were made on"):
        repair_undo(run=run, actor="person:ada")
    assert rename().state == "unneeded"


def test_it_is_taken_back_to_the_byte_while_nothing_was_made(moved: Any) -> None:
    chat = Room.objects.create(homeserver=Service.objects.get(kind="homeserver"), kind="direct", room_id=f"!d:{FORMER}")
    Link.objects.create(
        conversation=Conversation.objects.create(agent=moved.mapping("Ada").agent), kind=LinkKind.ROOM, room=chat
    )
    before = rows()
    run = rename()
    assert rows() != before
    repair_undo(run=run, actor="person:ada")
    assert rows() == before
    assert ObjectVersion.objects.filter(model="agents.mapping").latest("pk").action == "mapping.restored"


def test_a_name_that_the_homeserver_does_not_bear_is_refused(moved: Any) -> None:
    before = rows()
    with pytest.raises(RepairRefused, match=f"calls itself {SERVER_NAME}, not elsewhere.test"):
        rename(name="elsewhere.test")
    with pytest.raises(RepairRefused, match="no server name"):
        rename(name="https://elsewhere.test/")
    with pytest.raises(RepairRefused, match="is not like"):
        rename(accounts="@a:b")
    assert rows() == before
