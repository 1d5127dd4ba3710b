"""What was made after the cut is found on the homeserver again: nothing is made twice, and sync waits for it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from agents.models import Account, Agent, Invitation, Mapping, Room
from agents.restoring import adopt
from agents.services.sync import SyncBusy
from chat.matrix.watch import catch_up_rooms
from chat.models import Conversation, Message
from ops.backup import hooks
from ops.models import Restore, RestoreState
from tests.support.fake_homeserver import SERVER_NAME
from tests.support.stage import ALICE, Stage

pytestmark = pytest.mark.django_db

KINDS = ("settings", "people", "mappings", "conversations", "history")


def forget(name: str) -> None:
    """The rows of an agent that was made after the cut."""
    mapping = Mapping.objects.select_related("room", "account", "agent").get(agent__name=name)
    room, account, agent = mapping.room, mapping.account, mapping.agent
    assert room is not None
    Conversation.objects.filter(links__room=room).delete()
    mapping.delete()
    room.delete()
    account.delete()
    agent.delete()


def work(cut_at: Any, told: list[Any]) -> hooks.Reconcile:
    return hooks.Reconcile(cut_at, timezone.now(), 1, KINDS, False, "test", told.append)


def draw_the_line(cut_at: Any) -> None:
    fence = hooks.Fence("default", cut_at, timezone.now(), 1, KINDS, False, lambda finding: None)
    for function in hooks.fences().values():
        function(fence)


def test_an_agent_a_chat_and_a_newer_room_are_taken_up_with_what_was_said(stage: Stage):
    ada = stage.agent()
    stage.enters(ada)
    stage.says(ada, "Before")
    stage.drain()
    cut_at = timezone.now()
    bob = stage.agent("Bob")
    stage.enters(bob)
    stage.says(bob, "To Bob")
    chat = stage.fake.new_room(ALICE, ada.mapping.account.user_id)
    stage.receive(
        {
            "type": "m.room.member",
            "room_id": chat.room_id,
            "state_key": ada.mapping.account.user_id,
            "sender": ALICE,
            "content": {"membership": "invite"},
            "event_id": "$invite",
        }
    )
    event = stage.fake.person_says(chat.room_id, ALICE, "In a chat")
    stage.receive(event)
    stage.drain()
    asked, rooms, accounts = len(stage.world.requests), set(stage.fake.rooms), set(stage.fake.users)
    assert asked == 3
    bobs = str(stage.room("Bob").room_id)

    forget("Bob")
    row = Room.objects.get(room_id=chat.room_id)
    Conversation.objects.filter(links__room=row).delete()
    row.delete()
    draw_the_line(cut_at)
    told: list[Any] = []
    first = adopt.adopt(work(cut_at, told))
    second = adopt.chats(work(cut_at, told))
    assert first is not None
    assert second is not None
    assert (first["adopted"], second["chats"], second["replaced"]) == (["Bob"], 1, 0)
    assert told == []
    catch_up_rooms()
    assert stage.room("Bob").room_id == bobs
    said = {
        room.room_id: list(
            Message.objects.filter(conversation__links__room=room).order_by("seq").values_list("role", "text")
        )
        for room in Room.objects.exclude(kind="space")
    }
    assert said[bobs] == [("user", "To Bob"), ("assistant", "You said: To Bob")]
    assert said[chat.room_id] == [("user", "In a chat"), ("assistant", "You said: In a chat")]
    report = stage.sync()
    assert report.applied == {}
    assert (set(stage.fake.rooms), set(stage.fake.users)) == (rooms, accounts)
    stage.drain()
    assert len(stage.world.requests) == asked, "nothing old is asked"
    stage.receive(stage.fake.person_says(chat.room_id, ALICE, "And now"))
    stage.drain()
    assert len(stage.world.requests) == asked + 1


def test_a_room_that_replaced_the_one_of_the_backup_is_the_agents_again(stage: Stage):
    ada = stage.agent()
    stage.enters(ada)
    stage.says(ada, "Before")
    stage.drain()
    cut_at = timezone.now()
    former, conversation = str(stage.room().room_id), Message.objects.first().conversation_id  # type: ignore[union-attr]
    account = ada.mapping.account.user_id
    newer = stage.fake.new_room(account, ALICE)
    newer.state["m.room.create", ""]["content"]["predecessor"] = {"room_id": former}
    stage.fake.person_joins(newer.room_id, ALICE)
    stage.fake.person_says(newer.room_id, ALICE, "In the newer room")
    draw_the_line(cut_at)
    result = adopt.chats(work(cut_at, []))
    assert result is not None
    assert (result["chats"], result["replaced"]) == (0, 1)
    room = stage.room()
    assert room.room_id == newer.room_id
    assert room.predecessors == [former]
    catch_up_rooms()
    assert list(Message.objects.filter(conversation_id=conversation, role="user").values_list("text", flat=True)) == [
        "Before",
        "In the newer room",
    ]
    assert len(stage.world.requests) == 1


def test_a_room_of_ours_is_a_chat_only_when_it_was_made_since_and_people_are_in_it(stage: Stage):
    """Switchboard opens rooms for conversations; one that is old, or that nobody joined, was let go on purpose."""
    ada = stage.agent()
    account = ada.mapping.account.user_id
    cut_at = timezone.now()

    def room(*members: str, age: timedelta = timedelta()) -> str:
        made = stage.fake.new_room(account, account, *members)
        made.state["m.room.create", ""]["origin_server_ts"] = int((cut_at - age).timestamp() * 1000)
        return str(made.room_id)

    opened, near = room(ALICE), room(ALICE, age=timedelta(minutes=4))
    old, alone = room(ALICE, age=timedelta(minutes=6)), room()
    space, left = stage.fake.new_room(ALICE, account), stage.fake.new_room(ALICE, account)
    space.state["m.room.create", ""]["content"]["type"] = "m.space"
    stage.fake._state(left, "m.room.tombstone", "", {"replacement_room": "!elsewhere:fake.test"}, ALICE)
    draw_the_line(cut_at)
    result = adopt.chats(work(cut_at, []))
    assert result is not None
    assert result["chats"] == 2
    found = set(Room.objects.filter(kind="direct").values_list("room_id", flat=True))
    assert found == {opened, near}
    assert not found & {old, alone, space.room_id, left.room_id}
    again = adopt.chats(work(cut_at, []))
    assert again == {"sentence": "No chats had been opened since.", "chats": 0, "replaced": 0}


def test_the_room_that_bears_the_agents_address_is_its_own_by_now(stage: Stage, settings: Any):
    """Its former room is no chat, and who was invited there only is not invited here."""
    ada = stage.agent()
    stage.enters(ada)
    settings.MATRIX_INVITE = [ALICE]
    room = stage.room()
    former, account = str(room.room_id), ada.mapping.account.user_id
    Invitation.objects.create(room=room, user_id="@gone:fake.test", state="invited")
    cut_at = timezone.now()
    newer = stage.fake.new_room(account, ALICE)
    stage.fake._state(newer, "m.room.canonical_alias", "", {"alias": room.alias}, account)
    stage.fake.person_joins(newer.room_id, ALICE)
    draw_the_line(cut_at)
    result = adopt.chats(work(cut_at, []))
    assert result is not None
    assert (result["chats"], result["replaced"]) == (0, 1)
    room.refresh_from_db()
    assert (room.room_id, room.predecessors) == (newer.room_id, [former])
    assert set(Invitation.objects.filter(room=room).values_list("user_id", flat=True)) == {ALICE}
    # It was made since, too, as far as the homeserver says, and people are in it.
    stage.fake.rooms[former].state["m.room.create", ""]["origin_server_ts"] = int(timezone.now().timestamp() * 1000)
    again = adopt.chats(work(cut_at, []))
    assert again == {"sentence": "No chats had been opened since.", "chats": 0, "replaced": 0}
    assert not Room.objects.filter(room_id=former).exists()


@pytest.mark.parametrize("kinds", [("people",), ("settings", "history"), ()])
def test_what_does_not_touch_rooms_looks_for_none(stage: Stage, kinds: tuple[str, ...]):
    stage.agent()
    cut_at = timezone.now()
    stage.fake.new_room(ALICE, stage.room().mapping.account.user_id)
    draw_the_line(cut_at)
    only = hooks.Reconcile(cut_at, timezone.now(), 1, kinds, False, "test", lambda finding: None)
    asked, rooms = len(stage.fake.requests), Room.objects.count()
    assert (adopt.adopt(only), adopt.chats(only)) == (None, None)
    assert (len(stage.fake.requests), Room.objects.count()) == (asked, rooms)


def test_sync_waits_until_rooms_were_looked_for(stage: Stage):
    stage.agent()
    restore = Restore.objects.create(
        source="x", state=RestoreState.RECONCILING, actor="test", applied_at=timezone.now()
    )
    with pytest.raises(SyncBusy, match="found again first"):
        stage.sync()
    stage.sync(trigger="restore")
    restore.report = {f"outside.{adopt.ADOPTING}": {"sentence": "Done."}}
    restore.save()
    stage.sync()
    restore.report, restore.applied_at = {}, timezone.now() - timedelta(hours=2)
    restore.save()
    stage.sync()
    assert Account.objects.filter(user_id__endswith=SERVER_NAME).count() == Agent.objects.count()
