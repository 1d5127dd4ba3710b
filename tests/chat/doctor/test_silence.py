"""Why is it silent? Every way in which a message can stand still is found at its hop, and one repair gets it going."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from agents.backends.errors import BackendUnavailable
from agents.models import Agent, Room
from chat.doctor import faults
from chat.doctor.silence import diagnose
from chat.doctor.stuck import stuck
from chat.models import Delivery, DeliveryState, Message, Turn, TurnState
from ops.doctor.targets import label_of, row_of, target_of
from ops.models import Issue, Service
from ops.runner import run_checks
from ops.services.repairs import repair_plan, repair_start, repair_undo
from tests.support.stage import Stage

LATE = timedelta(minutes=5)


def age() -> None:
    """Everything that was said was said five minutes ago."""
    Message.objects.update(
        received_at=F("received_at") - LATE, stored_at=F("stored_at") - LATE, said_at=F("said_at") - LATE
    )
    Turn.objects.update(created_at=F("created_at") - LATE, finished_at=F("finished_at") - LATE)
    Delivery.objects.update(created_at=F("created_at") - LATE)


def tomorrow() -> Any:
    return timezone.now() + timedelta(days=1)


def state(check: str = "agent.silent") -> Any:
    return next(run for run in run_checks([check]) if run.check.id == check)


def mend(target: str = "", repair: str = "agent.diagnose") -> Any:
    return repair_start(repair_id=repair, target=target, actor="test", trigger="command")


def said(house: Stage) -> Message:
    house.says(house.fresh(), "Is anybody there?")
    return Message.objects.filter(role="user").latest("pk")


def test_break_red_plan_repair_green_and_answered(house: Stage) -> None:
    assert state().status == "pass"
    memory = json.loads(json.dumps(faults.put_a_message_off()))
    found = state()
    assert found.status == "fail"
    assert found.evidence["hops"] == {"started": 1, "finished": 0, "delivered": 0}
    agent = Turn.objects.get().agent
    assert [one.target for one in found.affected] == [f"agent:{agent.pk}"]
    run = mend()
    assert (run.state, run.receipt) == ("succeeded", {"done": {"wake_turn": 1}})
    assert state().status == "pass"
    assert mend().state == "unneeded"
    house.drain()
    assert Turn.objects.get().state == TurnState.DONE
    faults.forget_the_message(memory)
    faults.forget_the_message(memory)
    assert not Message.objects.exists()


class TestEachHop:
    def test_a_turn_that_is_tried_again_and_again(self, house: Stage) -> None:
        house.world.script(BackendUnavailable("502 from there"))
        message = said(house)
        house.run_turns()
        age()
        Turn.objects.update(not_before=tomorrow())
        assert "502 from there" in state().sentence
        found = diagnose(message)
        assert found.red_hop is not None
        assert (found.red_hop.name, found.offer.repair.id) == ("started", "agent.diagnose")  # type: ignore[union-attr]
        assert mend(f"message:{message.pk}").state == "succeeded"
        house.drain()
        assert diagnose(message).red_hop is None

    def test_an_answer_that_is_put_off(self, house: Stage) -> None:
        message = said(house)
        house.run_turns()
        age()
        Delivery.objects.update(state="queued", sent_at=None, not_before=tomorrow())
        assert state().evidence["hops"]["delivered"] == 1
        found = diagnose(house.fresh())
        assert (found.message, found.red_hop.name) == (message, "delivered")  # type: ignore[union-attr]
        assert mend(f"room:{house.room().pk}").receipt == {"done": {"wake_delivery": 1}}
        house.drain()
        assert state().status == "pass"
        assert "answered the last message" in diagnose(house.room()).sentence

    def test_an_answer_that_nobody_sends(self, house: Stage) -> None:
        said(house)
        house.run_turns()
        age()
        Delivery.objects.update(state="queued", sent_at=None, not_before=timezone.now() - LATE)
        assert state().status == "fail"
        assert mend().state == "succeeded"
        assert house.woken_deliveries

    def test_an_answer_that_is_in_no_outbox(self, house: Stage) -> None:
        message = said(house)
        house.run_turns()
        Delivery.objects.all().delete()
        age()
        assert state().evidence["hops"]["delivered"] == 1
        found = diagnose(message)
        assert "never put into the outbox" in found.sentence
        assert mend(found.offer.target).receipt == {"done": {"wake_reply": 1}}  # type: ignore[union-attr]
        house.drain()
        assert Delivery.objects.get().state == DeliveryState.SENT
        assert house.fake.shown(str(house.room().room_id))[-1] == "You said: Is anybody there?"
        assert mend().state == "unneeded"

    def test_a_message_without_a_turn(self, house: Stage) -> None:
        message = said(house)
        Turn.objects.all().delete()
        age()
        assert state().evidence["hops"]["started"] == 1
        assert diagnose(message).red_hop.note == "No turn was made for it."  # type: ignore[union-attr]
        assert mend(f"agent:{house.fresh().pk}").receipt == {"done": {"wake_message": 1}}
        house.drain()
        assert Delivery.objects.filter(state=DeliveryState.SENT).count() == 1
        assert state().status == "pass"


class TestOtherChecks:
    """One cause, one red check."""

    def test_a_turn_that_nobody_takes_up(self, house: Stage) -> None:
        message = said(house)
        age()
        Turn.objects.update(not_before=timezone.now() - LATE)
        assert (state("turns.moving").status, state().status) == ("fail", "pass")
        assert mend(f"message:{message.pk}").state == "succeeded"
        assert house.woken_turns
        assert state("turns.moving").status == "pass"

    def test_dead_letters(self, house: Stage) -> None:
        message = said(house)
        house.run_turns()
        Delivery.objects.update(state=DeliveryState.DEAD, error_reason="not in the room")
        age()
        found = state("deliveries.dead_letters")
        assert (found.status, state().status) == ("fail", "pass")
        assert [one.target for one in found.affected] == [f"delivery:{Delivery.objects.get().pk}"]
        diagnosis = diagnose(message)
        assert diagnosis.red_hop.note == "not in the room"  # type: ignore[union-attr]
        assert mend(diagnosis.offer.target).receipt == {"done": {"retry_delivery": 1}}  # type: ignore[union-attr]
        house.drain()
        assert state("deliveries.dead_letters").status == "pass"
        Turn.objects.update(state=TurnState.DEAD)
        assert mend(f"agent:{house.fresh().pk}").receipt == {"done": {"retry_turn": 1}}

    def test_a_server_that_is_down_and_a_paused_agent(self, house: Stage) -> None:
        message = said(house)
        age()
        Turn.objects.update(not_before=tomorrow())
        Service.objects.filter(kind="scripted").update(status="down", status_sentence="Nobody answers.")
        assert not stuck()
        assert diagnose(message).red_hop.name == "backend"  # type: ignore[union-attr]
        Service.objects.update(status="ok")
        Agent.objects.filter(name="Ada").update(paused=True)
        assert not stuck()
        found = diagnose(house.fresh())
        assert (found.red_hop.name, found.offer.repair.id) == ("agent", "agent.resume")  # type: ignore[union-attr]
        run = mend(found.offer.target, "agent.resume")  # type: ignore[union-attr]
        assert not house.fresh().paused
        repair_undo(run=run, actor="test")
        assert house.fresh().paused

    def test_what_waits_in_line_is_not_told_twice(self, house: Stage) -> None:
        for _ in range(4):
            said(house)
        age()
        Turn.objects.update(not_before=tomorrow())
        assert [one.kind for one in stuck()] == ["turn"]
        assert stuck(room=house.room("Bea").pk) == []


class TestDiagnosis:
    def test_places_come_before_the_message(self, house: Stage) -> None:
        message = said(house)
        Room.objects.filter(pk=house.room().pk).update(encrypted=True)
        assert "encrypted" in diagnose(message).sentence
        Room.objects.update(encrypted=False)
        Service.objects.filter(kind="homeserver").update(status="down", status_sentence="Connection refused.")
        found = diagnose(house.room())
        assert (found.red_hop.name, found.offer) == ("homeserver", None)  # type: ignore[union-attr]
        assert "Connection refused." in found.sentence

    def test_nobody_has_said_anything_and_held_back(self, house: Stage) -> None:
        assert "nobody has said anything" in diagnose(house.fresh()).sentence
        Room.objects.update(quiet=True)
        message = said(house)
        found = diagnose(message)
        assert "quiet" in found.sentence
        assert found.offer is None
        assert diagnose(house.fresh()).message == message

    def test_a_worker_that_is_gone(self, house: Stage) -> None:
        from ops.models import Heartbeat

        Heartbeat.objects.all().delete()
        assert diagnose(said(house)).red_hop.name == "worker"  # type: ignore[union-attr]

    def test_its_json_and_words_that_never_arrived(self, house: Stage) -> None:
        message = said(house)
        house.drain()
        house.receive(
            {"type": "m.room.encrypted", "room_id": house.room().room_id, "event_id": "$x", "sender": "@alice:fake.test",
             "content": {}}
        )  # fmt: skip
        Room.objects.update(encrypted=False)
        found = diagnose(house.room()).to_dict()
        json.dumps(found)
        assert (found["message"], found["red_hop"], found["offer"]) == (message.pk, None, None)
        assert "not taken in" in next(hop["note"] for hop in found["hops"] if hop["name"] == "room")

    def test_an_open_issue_about_the_mapping_is_its_hop(self, house: Stage) -> None:
        memory = faults.swap_two_rooms()
        run_checks(["routing.wrong_agent"])
        found = diagnose(house.fresh())
        assert (found.red_hop.name, found.offer.repair.id) == ("room", "mapping.relink")  # type: ignore[union-attr]
        faults.swap_back(memory)


def test_many_messages_cost_no_more_queries_than_one(house: Stage) -> None:
    counts = []
    for number in (1, 20):
        for _ in range(number):
            faults.put_a_message_off()
        with CaptureQueriesContext(connection) as asked:
            assert stuck()
        counts.append(len(asked))
    assert counts[0] == counts[1] <= 5


class TestRouting:
    def test_break_red_plan_relink_green_undo(self, house: Stage) -> None:
        assert state("routing.wrong_agent").status == "pass"
        rooms = {name: house.room(name).pk for name in ("Ada", "Bea")}
        memory = json.loads(json.dumps(faults.swap_two_rooms()))
        found = state("routing.wrong_agent")
        assert (found.status, len(found.affected), found.evidence["mappings"]) == ("fail", 2, 2)
        planned = repair_plan(repair_id="mapping.relink", target=found.affected[0].target, actor="test")
        assert len(planned.plan.changes) == 2, "whoever holds what is another's is put right as well"
        run = mend("", "mapping.relink")
        assert run.state == "succeeded", run.error
        assert {name: house.room(name).pk for name in rooms} == rooms
        assert state("routing.wrong_agent").status == "pass"
        assert mend("", "mapping.relink").state == "unneeded"
        repair_undo(run=run, actor="test")
        assert state("routing.wrong_agent").status == "fail"
        faults.swap_back(memory)
        assert {name: house.room(name).pk for name in rooms} == rooms
        assert Issue.objects.filter(state="open").count() == 1

    def test_a_turn_of_another_agent(self, house: Stage) -> None:
        said(house)
        Turn.objects.update(agent=house.fresh("Bea"))
        found = state("routing.wrong_agent")
        assert found.affected[0].target == f"mapping:{house.mapping().pk}"
        assert "room of Ada was given to Bea" in found.sentence

    def test_a_room_without_a_mapping_is_refused_with_a_note(self, house: Stage) -> None:
        from chat.models import RefusedEvent

        room = house.fake.new_room("@alice:fake.test")
        event = house.fake.person_says(room.room_id, "@alice:fake.test", "Hello?")
        house.receive(event)
        assert RefusedEvent.objects.get(external_id=event["event_id"]).reason == "unknown_room"
        assert not Turn.objects.exists(), "there is no agent that steps in"


def test_targets_have_names(house: Stage) -> None:
    message = said(house)
    for row in (message, Turn.objects.get(), house.fresh(), house.room(), house.mapping(), message.conversation):
        target = target_of(row)
        assert row_of(target) == row
        assert label_of(target) == str(row)
