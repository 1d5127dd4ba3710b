"""Rows went back in time, the room did not: what was said since is history, nothing old is answered or sent, and talk goes on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from agents.matrix.keys import MARKER
from agents.models import Invitation, InvitationState, Room
from agents.services.backends import open_homeserver
from chat.matrix import gaps
from chat.models import Conversation, Delivery, IntakeEpoch, Message, Turn, TurnState
from chat.restoring.past import number, put_together, split_at
from chat.services.messages import message_send
from chat.turns import run
from ops.backup import hooks
from ops.models import MaintenanceWindow, Service
from tests.support.stage import ALICE, BOB, Stage

pytestmark = pytest.mark.django_db

KINDS = ("settings", "people", "mappings", "conversations", "history")


@pytest.fixture
def house(stage: Stage) -> Stage:
    """Ada with Alice in its room, who said something that was answered."""
    stage.enters(stage.agent())
    stage.says(stage.fresh(), "Before")
    stage.drain()
    return stage


class Cut:
    """The rows of this moment, to go back to."""

    def __init__(self) -> None:
        self.at = timezone.now()
        self.models = (Delivery, Turn, Message)
        self.last = {
            model: model.objects.order_by("-pk").values_list("pk", flat=True).first() or 0 for model in self.models
        }
        self.conversations = list(Conversation.objects.values("pk", "next_seq", "head_id"))
        self.turns = list(Turn.objects.values())
        self.deliveries = list(Delivery.objects.values())

    def restore(self, **more: Any) -> list[Any]:
        """As a restore would; returns what the fences said."""
        told: list[Any] = []
        with transaction.atomic():
            for model in self.models:
                model.objects.filter(pk__gt=self.last[model]).delete()
            for row in self.conversations:
                Conversation.objects.filter(pk=row["pk"]).update(next_seq=row["next_seq"], head_id=row["head_id"])
            for model, rows in ((Turn, self.turns), (Delivery, self.deliveries)):
                for row in rows:
                    model.objects.filter(pk=row["id"]).update(**row)
            fence = hooks.Fence(
                **{
                    "alias": "default",
                    "cut_at": self.at,
                    "now": timezone.now(),
                    "epoch": 1,
                    "kinds": KINDS,
                    "fresh": False,
                    "say": told.append,
                    **more,
                }
            )
            for function in hooks.fences().values():
                function(fence)
        gaps.forget()
        return told


def said() -> list[tuple[str, str]]:
    return list(Message.objects.order_by("conversation_id", "seq").values_list("role", "text"))


def catch_up() -> None:
    from chat.matrix.watch import catch_up_rooms

    catch_up_rooms()


def test_what_was_said_since_comes_back_in_order_and_nothing_of_it_is_answered_again(house: Stage):
    cut = Cut()
    house.says(house.fresh(), "Since")
    house.drain()
    house.says(house.fresh(), "And more", person=BOB)
    house.drain()
    before, asked = said(), len(house.world.requests)
    assert len(before) == 6
    shown = house.fake.shown(str(house.room().room_id))
    cut.restore()
    assert len(said()) == 2
    catch_up()
    assert said() == before
    assert set(Message.objects.filter(pk__gt=cut.last[Message], role="user").values_list("guard", flat=True)) == {
        "restored"
    }
    house.drain()
    house.hurry()
    house.drain()
    assert len(house.world.requests) == asked, "nothing old is asked"
    assert house.fake.shown(str(house.room().room_id)) == shown, "nothing old is sent"
    answers = Message.objects.filter(role="assistant").order_by("seq")
    assert [one.in_reply_to.text for one in answers] == ["Before", "Since", "And more"]
    # Again, and pushed again by a homeserver that had no answer: nothing twice.
    gaps.raise_epoch(Service.objects.get(kind="homeserver"), "test")
    house.receive(
        *[{**event, "room_id": house.room().room_id} for event in house.fake.rooms[str(house.room().room_id)].events]
    )
    assert said() == before


def test_what_was_said_before_the_room_was_ours_stays_out(house: Stage):
    """Removed by a reset, or said to a predecessor: no walk brings it in, and that after a restore neither."""
    house.says(house.fresh(), "Not ours")
    house.drain()
    times = [event["origin_server_ts"] for event in house.fake.rooms[str(house.room().room_id)].events]
    Turn.objects.all().delete()
    Delivery.objects.all().delete()
    Message.objects.all().delete()
    cut = Cut()
    Room.objects.filter(pk=house.room().pk).update(taken_over_at=datetime.fromtimestamp(max(times) / 1000, tz=UTC))
    house.says(house.fresh(), "Since")
    house.drain()
    cut.restore()
    assert said() == []
    catch_up()
    assert [text for role, text in said() if role == "user"] == ["Since"]


def test_what_is_said_after_the_restore_is_answered_once_behind_its_history(house: Stage):
    cut = Cut()
    house.says(house.fresh(), "Since")
    house.drain()
    cut.restore()
    asked = len(house.world.requests)
    house.says(house.fresh(), "Now")
    house.drain()
    assert [text for role, text in said() if role == "user"] == ["Before", "Since", "Now"]
    assert [request.text for request in house.world.requests[asked:]] == ["Now"]
    assert len([text for role, text in said() if role == "assistant"]) == 3
    assert house.room().history_until is None, "the room was read; from now on all is as always"


def test_what_was_open_at_the_cut_ends_and_is_settled_by_what_the_room_shows(house: Stage):
    house.says(house.fresh(), "Asked before the cut")
    cut = Cut()
    house.drain()
    shown = house.fake.shown(str(house.room().room_id))
    told = cut.restore()
    turn = Turn.objects.order_by("-pk").first()
    assert turn is not None
    assert (turn.state, turn.finish_reason, turn.error_code) == (TurnState.CANCELLED, "restored", "restored")
    assert turn.fence >= 1000, "a worker that lives on cannot write to it"
    assert "1 answer" in told[0].sentence
    house.drain()
    assert house.fake.shown(str(house.room().room_id)) == shown
    catch_up()
    turn.refresh_from_db()
    assert turn.state == TurnState.DONE
    assert turn.reply is not None
    assert turn.reply.text == shown[-1]
    assert Message.objects.filter(text=shown[-1]).count() == 1


def test_an_answer_that_waited_to_be_sent_is_known_as_sent_when_the_room_has_it(
    house: Stage, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(run, "run_delivery", lambda delivery: None)
    house.says(house.fresh(), "Again")
    house.run_turns()
    cut = Cut()
    house.run_deliveries()
    cut.restore()
    delivery = Delivery.objects.order_by("-pk").first()
    assert delivery is not None
    assert (delivery.state, delivery.error_code) == ("discarded", "restored")
    messages = Message.objects.count()
    catch_up()
    delivery.refresh_from_db()
    assert delivery.state == "sent"
    assert delivery.shown[0]["event_id"]
    assert Message.objects.count() == messages, "the backup had the answer already"
    # One that never got there stays discarded.
    house.says(house.fresh(), "Never sent")
    house.run_turns()
    cut = Cut()
    cut.restore()
    catch_up()
    house.drain()
    last = Delivery.objects.order_by("-pk").first()
    assert last is not None
    assert last.state == "discarded"


def test_edits_redactions_and_words_from_the_portal_come_back_as_they_read_last(house: Stage):
    cut = Cut()
    room_id, agent = str(house.room().room_id), house.fresh()
    first = house.says(agent, "Teh word")
    house.drain()
    house.fake.person_says(
        room_id,
        ALICE,
        "* The word",
        **{
            "m.new_content": {"msgtype": "m.text", "body": "The word"},
            "m.relates_to": {"rel_type": "m.replace", "event_id": first["event_id"]},
        },
    )
    gone = house.says(agent, "Never mind")
    house.drain()
    house.fake.add(room_id, ALICE, {"redacts": gone["event_id"]}, kind="m.room.redaction")
    message_send(agent=agent, text="From *elsewhere*", speaker_name="Bob", speaker_id="bob")
    house.drain()
    cut.restore()
    catch_up()
    people = [text for role, text in said() if role == "user"]
    assert people == ["Before", "The word", "From *elsewhere*"]
    assert Message.objects.get(text="From *elsewhere*").sender.name == "Bob"
    assert not Turn.objects.filter(state="queued").exists()


def test_every_room_is_read_even_where_the_backup_says_it_was_read_in_a_later_epoch(house: Stage):
    """On an empty machine the homeserver's epoch begins anew, while rooms remember high numbers."""
    IntakeEpoch.objects.all().delete()
    Room.objects.update(caught_up_epoch=7)
    Cut().restore(fresh=True)
    homeserver = Service.objects.get(kind="homeserver")
    assert gaps.current_epoch(homeserver) == 8
    assert [room.pk for room in gaps.rooms_to_walk(homeserver, 8)] == [house.room().pk]


def test_new_rows_get_numbers_on_an_empty_machine_that_none_had_before(house: Stage):
    highest = Message.objects.order_by("-pk").values_list("pk", flat=True)[0]
    Cut().restore(fresh=True)
    house.says(house.fresh(), "Now")
    assert Message.objects.order_by("-pk").values_list("pk", flat=True)[0] > highest + 999_999
    house.drain()
    assert Turn.objects.order_by("-pk").values_list("pk", flat=True)[0] > 999_999


def test_the_homeservers_clock_decides_not_ours(house: Stage, monkeypatch: pytest.MonkeyPatch):
    """Its clock is an hour ahead: what was said a minute before the restore bears a later time than our line."""
    line = datetime.now().astimezone()
    ahead = timedelta(hours=1)
    events = [{"origin_server_ts": int((line + ahead + timedelta(minutes=n)).timestamp() * 1000)} for n in (-1, 1)]
    assert split_at(events, line) == ([], events)
    cut = Cut()
    client = open_homeserver().client
    monkeypatch.setattr(client, "_ahead", ahead)
    monkeypatch.setattr(client, "_ahead_at", float("inf"))
    cut.restore()
    from chat.restoring import history

    room = house.room()
    old, new = history.split(room, events)
    assert (old, new) == (events[:1], events[1:])
    # By place as well: another server's event that pretends to be from tomorrow stands before one that is old.
    late = {"origin_server_ts": int((line + timedelta(days=1)).timestamp() * 1000)}
    assert history.split(room, [late, *events])[0] == [late, events[0]]


def test_invitations_and_alarms_wait(house: Stage):
    room = house.room()
    Invitation.objects.create(room=room, user_id=BOB, state=InvitationState.PENDING)
    Cut().restore()
    assert Invitation.objects.get(user_id=BOB).not_before > timezone.now() + timedelta(minutes=50)
    assert MaintenanceWindow.objects.get().ends_at > timezone.now() + timedelta(minutes=5)
    house.fake.person_joins(str(room.room_id), BOB)
    from agents.restoring.invited import look

    Invitation.objects.create(room=room, user_id="@carol:fake.test", state=InvitationState.PENDING)
    Cut().restore()
    told: list[Any] = []
    work = hooks.Reconcile(timezone.now(), timezone.now() - timedelta(minutes=1), 1, KINDS, False, "test", told.append)
    result = look(work)
    assert result is not None
    assert result["known"] == 1
    assert Invitation.objects.get(user_id=BOB).state == InvitationState.JOINED
    assert Invitation.objects.get(user_id="@carol:fake.test").not_before is None, "looked at, it may be sent"


def test_other_kinds_leave_what_is_said_alone_and_numbers_leap_on_an_empty_machine_only(house: Stage):
    house.says(house.fresh(), "Waits")
    highest = Message.objects.order_by("-pk").values_list("pk", flat=True)[0]
    assert Cut().restore(kinds=("people", "settings")) == []
    assert Turn.objects.order_by("-pk")[0].state == TurnState.QUEUED
    assert house.room().history_until is None
    assert not IntakeEpoch.objects.filter(reason="a backup was restored").exists()
    house.says(house.fresh(), "Goes on")
    assert Message.objects.order_by("-pk").values_list("pk", flat=True)[0] < highest + 1000


def test_the_line_is_where_stillness_began_and_rooms_are_read_from_the_cut(
    house: Stage, monkeypatch: pytest.MonkeyPatch
):
    cut = Cut()
    still = timezone.now()
    monkeypatch.setattr("ops.quiet.still_since", lambda: still)
    turn = Turn.objects.order_by("-pk")[0]
    Turn.objects.filter(pk=turn.pk).update(state=TurnState.DEAD, fence=3)
    cut.turns = list(Turn.objects.values())
    Room.objects.filter(pk=house.room().pk).update(last_event_at=timezone.now(), last_event_id="$late")
    cut.restore()
    room = house.room()
    assert (room.history_until, room.last_event_at, room.last_event_id) == (still, cut.at, "")
    turn.refresh_from_db()
    assert turn.fence >= 1003, "an operator may have taken it up again meanwhile"


def test_with_rooms_alone_the_line_is_drawn_and_what_is_said_goes_on(house: Stage):
    house.says(house.fresh(), "Waits")
    space = Room.objects.filter(kind="space").first()
    Cut().restore(kinds=("mappings",))
    assert house.room().history_until is not None
    assert Turn.objects.order_by("-pk")[0].state == TurnState.QUEUED
    assert space is not None
    space.refresh_from_db()
    assert space.history_until is None, "nobody speaks in it"


def test_a_delivery_that_was_given_up_cannot_be_written_by_whoever_took_it_up_since(house: Stage):
    delivery = Delivery.objects.order_by("-pk")[0]
    Delivery.objects.filter(pk=delivery.pk).update(state="dead", fence=3)
    Cut().restore()
    delivery.refresh_from_db()
    assert (delivery.state, delivery.fence >= 1003) == ("dead", True)


def test_what_was_being_shown_ends_and_rooms_that_were_read_up_to_before_the_cut_go_on_from_there(
    house: Stage, monkeypatch: pytest.MonkeyPatch
):
    delivery = Delivery.objects.order_by("-pk")[0]
    Delivery.objects.filter(pk=delivery.pk).update(state="streaming")
    room = house.room()
    cut = Cut()
    assert room.last_event_at is not None
    assert room.last_event_at < cut.at
    monkeypatch.setattr("ops.quiet.still_since", lambda: cut.at - timedelta(hours=1))
    cut.restore(fresh=True)
    delivery.refresh_from_db()
    assert (delivery.state, delivery.error_code) == ("discarded", "restored")
    after = house.room()
    assert (after.last_event_at, after.last_event_id) == (room.last_event_at, room.last_event_id)
    assert after.history_until is not None
    assert after.history_until > cut.at, "on an empty machine nobody had to stand still"


def said_in(*events: dict[str, Any]) -> Any:
    return put_together(events, lambda sender: sender.startswith("@agent_"))


def words(number: int, sender: str, body: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "m.room.message", "event_id": f"${number}", "room_id": "!r:fake.test", "sender": sender,
        "origin_server_ts": 1_770_000_000_000 + number, "content": {"msgtype": "m.text", "body": body, **more},
    }  # fmt: skip


def test_nobody_speaks_for_us_or_changes_what_others_said():
    forged = words(1, ALICE, "I am the agent", **{MARKER: {"message": 7, "turn": 1}})
    ours = words(2, "@agent_ada:fake.test", "I am", **{MARKER: {"message": True, "turn": 8}})
    edit = {"m.relates_to": {"rel_type": "m.replace", "event_id": "$1"}}
    foreign = words(3, BOB, "* changed", **{**edit, "m.new_content": {"msgtype": "m.text", "body": "changed"}})
    past = said_in(forged, ours, foreign)
    assert [(one.own, one.pieces[0].body) for one in past.said] == [(False, "I am the agent"), (True, "I am")]
    assert number(past.said[1].marker, "message") is None, "True is no number"
    assert number(past.said[1].marker, "turn") == 8
