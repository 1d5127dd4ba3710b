"""An answer while it comes in: frames with offsets, a row that keeps up, and an event in the room that is edited now and then."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from agents.backends.chunks import Finished, RunStarted, TextDelta, ToolCall
from agents.backends.errors import BackendRejected, BackendUnavailable
from chat import live
from chat.deliveries import outbox
from chat.matrix import preview as preview_module
from chat.matrix.deliver import MAX_EVENTS
from chat.models import Delivery, Message, Turn
from chat.services.messages import message_send
from chat.turns import claim, run, stream
from chat.turns.stream import Collector
from tests.support.stage import ALICE, Clock, Inline, Stage

pytestmark = pytest.mark.django_db


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(stream, "time", clock)
    monkeypatch.setattr(preview_module, "time", clock)
    return clock


def later(clock: Clock, seconds: float) -> Any:
    def step(request: Any) -> None:
        clock.now += seconds

    return step


def claimed(stage: Stage) -> Turn:
    agent = stage.agent(homeserver=False)
    sent = message_send(agent=agent, text="Hello")
    assert sent.turn is not None
    turn = claim.load(sent.turn.pk)
    assert turn is not None
    assert claim.claim_turn(turn)
    return turn


# Frames


def test_frames_have_offsets_and_rebuild_the_text(stage: Stage, clock: Clock) -> None:
    turn = claimed(stage)
    collector = Collector(turn)
    words = [f"word{number} " for number in range(200)]
    for word in words:
        collector.take(TextDelta(word))
        clock.now += 0.013
    collector.flush()
    text = ""
    for frame in stage.deltas(turn.pk):
        assert frame["offset"] == len(text)
        text += frame["text"]
    assert text == "".join(words) == collector.text


def test_at_most_twenty_frames_a_second(stage: Stage, clock: Clock) -> None:
    collector = Collector(claimed(stage))
    for _ in range(2000):
        collector.take(TextDelta("x"))
        clock.now += 0.005
    assert 150 <= len(stage.deltas()) <= 201, "ten seconds of a fast model"


def test_the_row_keeps_up_twice_a_second(stage: Stage, clock: Clock, django_assert_max_num_queries: Any) -> None:
    turn = claimed(stage)
    collector = Collector(turn)
    writes: list[str] = []
    real = stream.fenced_update_and_look

    def counted(row: Turn, column: str, **fields: Any) -> str | None:
        if "partial" in fields:
            writes.append(fields["partial"])
        return real(row, column, **fields)

    patch = pytest.MonkeyPatch()
    patch.setattr(stream, "fenced_update_and_look", counted)
    # The write is the look as well: no statement besides it asks whether to stop.
    with django_assert_max_num_queries(20):
        for _ in range(1000):
            collector.take(TextDelta("x"))
            clock.now += 0.01
    patch.undo()
    assert 18 <= len(writes) <= 20
    turn.refresh_from_db()
    assert turn.partial == writes[-1]
    assert turn.first_token_at is not None


def test_a_write_hears_the_stop_that_was_asked_for(stage: Stage, clock: Clock) -> None:
    turn = claimed(stage)
    collector = Collector(turn)
    Turn.objects.filter(pk=turn.pk).update(stop_requested_by="person:ada")
    clock.now += stream.PERSIST_EVERY
    collector.take(TextDelta("x"))
    assert collector.stop_requested


def test_a_follower_that_missed_frames_finds_them_in_the_row(stage: Stage, clock: Clock) -> None:
    turn = claimed(stage)
    collector = Collector(turn)
    for word in ("One ", "two ", "three "):
        clock.now += 0.6
        collector.take(TextDelta(word))
    turn.refresh_from_db()
    last = stage.deltas()[-1]
    assert turn.partial[: last["offset"]] + last["text"] == "One two three "


def test_the_lease_is_renewed_while_nothing_comes(stage: Stage, clock: Clock) -> None:
    turn = claimed(stage)
    collector = Collector(turn)
    turn.refresh_from_db()
    before = turn.lease_until
    for _ in range(21):
        clock.now += 0.5
        assert collector.should_stop() is False
    turn.refresh_from_db()
    assert turn.lease_until > before


def test_the_run_is_written_down_at_once(stage: Stage, clock: Clock) -> None:
    turn = claimed(stage)
    Collector(turn).take(RunStarted("run-1"))
    assert Turn.objects.get(pk=turn.pk).upstream_ref == "run-1"


def test_an_endless_answer_is_cut(stage: Stage, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_TEXT", 100)
    collector = Collector(claimed(stage))
    for _ in range(100):
        collector.take(TextDelta("0123456789"))
    assert len(collector.text) == 100


def test_tools_are_told_to_followers(stage: Stage, clock: Clock) -> None:
    turn = claimed(stage)
    Collector(turn).take(ToolCall("1", "look", "{}"))
    assert [frame["part"]["name"] for frame in stage.frames if frame["type"] == "part"] == ["look"]


def test_the_end_is_told_to_followers(stage: Stage, django_capture_on_commit_callbacks: Any) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        sent = message_send(agent=stage.agent(homeserver=False), text="Hello")
    assert sent.turn is not None
    told = {"turn": sent.turn.pk, "message": sent.message.pk}
    with django_capture_on_commit_callbacks(execute=True):
        run.run_turn(sent.turn.pk)
    assert stage.frames[0] == {"type": "message", "message": sent.message.pk, "seq": 1}
    assert stage.frames[-1] == {"type": "turn", "state": "done", **told}
    assert {"type": "turn", "state": "running", **told} in stage.frames
    assert "".join(frame["text"] for frame in stage.deltas()) == "You said: Hello"


def test_frames_reach_the_channel_layer_and_too_many_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    from channels.layers import get_channel_layer

    from chat.live import group_of

    publish = live.publish
    layer = get_channel_layer()

    async def follow() -> Any:
        await layer.group_add(group_of(5), "test-channel")
        monkeypatch.setattr(live, "_loop", asyncio.get_running_loop())
        publish(5, {"type": "delta", "turn": 5, "offset": 0, "text": "Hi"})
        return await asyncio.wait_for(layer.receive("test-channel"), 5)

    assert asyncio.run(follow())["frame"]["text"] == "Hi"
    assert live._pending == 0
    monkeypatch.setattr(live, "_pending", live._MAX_PENDING)
    publish(5, {"type": "delta"})
    assert live._pending == live._MAX_PENDING


# The room


def chat(stage: Stage, *script: Any, text: str = "Tell me") -> tuple[str, Turn]:
    agent = stage.fresh() if Turn.objects.exists() else stage.agent()
    room_id = stage.enters(agent)
    stage.world.script(*script)
    stage.says(agent, text)
    return room_id, Turn.objects.latest("pk")


def test_a_quick_answer_is_one_event(stage: Stage, clock: Clock) -> None:
    room_id, _ = chat(stage, "One ", later(clock, 0.5), "two")
    stage.drain()
    [answer] = stage.fake.messages_of(room_id)[1:]
    assert answer["content"]["body"] == "One two"


def test_a_slow_answer_grows_in_one_event(stage: Stage, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    script: list[Any] = []
    for number in range(600):
        script += [f"word{number} ", later(clock, 0.25)]
    moments: list[float] = []

    class Watched(Inline):
        def submit(self, *arguments: Any, **named: Any) -> Any:
            moments.append(clock.now)
            return super().submit(*arguments, **named)

    monkeypatch.setattr(preview_module, "_pool", Watched())
    room_id, _ = chat(stage, *script)
    stage.run_turns()
    stage.hurry()
    stage.run_deliveries()
    events = stage.fake.messages_of(room_id)[1:]
    assert 8 <= len(events) <= MAX_EVENTS
    assert min(late - early for early, late in pairwise(moments)) >= 1.0
    assert moments[-1] - moments[0] > 60, "the edits are spread over the whole of it"
    shown = stage.fake.shown(room_id)
    assert len(shown) == 2
    assert shown[1] == "".join(f"word{number} " for number in range(600)).strip()
    assert len({event["sender"] for event in events}) == 1


def test_a_homeserver_that_was_slow_does_not_get_the_next_edit_at_once(
    stage: Stage, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: list[float] = []

    class Late(Inline):
        def submit(self, function: Any, /, *arguments: Any, **named: Any) -> Any:
            # The first one is long on its way, the others are not.
            clock.now += 0.0 if received else 3.0
            done = super().submit(function, *arguments, **named)
            received.append(clock.now)
            return done

    monkeypatch.setattr(preview_module, "_pool", Late())
    chat(stage, *[part for number in range(40) for part in (f"word{number} ", later(clock, 0.25))])
    stage.run_turns()
    assert len(received) > 3
    assert min(after - before for before, after in pairwise(received)) >= 1.0, received


def test_the_last_edit_waits_its_second(stage: Stage, clock: Clock) -> None:
    room_id, _ = chat(stage, "One ", later(clock, 1.2), "two ", later(clock, 0.1), "three")
    stage.run_turns()
    delivery = Delivery.objects.get()
    assert delivery.state == "queued"
    assert stage.fake.shown(room_id)[-1] == "One"
    assert ("wake_deliveries", delivery.pk) in [(name, pk) for name, pk, _ in stage.timers]
    stage.hurry()
    stage.run_deliveries()
    assert stage.fake.shown(room_id)[-1] == "One two three"


def test_a_piece_that_is_full_is_not_edited_for_nothing(stage: Stage, clock: Clock) -> None:
    script: list[Any] = ["x" * 10_000 + "\n\n" + "y" * 13_000]
    for _ in range(30):
        script += [" z", later(clock, 1.5)]
    room_id, _ = chat(stage, *script)
    stage.run_turns()
    contents = [event["content"] for event in stage.fake.messages_of(room_id)[1:]]
    bodies = [str(content.get("m.new_content", content)["body"]) for content in contents]
    assert len(bodies) == len(set(bodies)) > 1


def test_the_first_event_is_written_down_before_it_is_sent(stage: Stage, clock: Clock) -> None:
    seen: list[Any] = []
    from agents.matrix.client import AppserviceClient

    real = AppserviceClient.send
    patch = pytest.MonkeyPatch()

    def send(client: Any, *arguments: Any, **named: Any) -> str:
        seen.append((named["txn_id"], [entry["txn"] for entry in Delivery.objects.get().shown]))
        return real(client, *arguments, **named)

    patch.setattr(AppserviceClient, "send", send)
    chat(stage, "One ", later(clock, 1.2), "two")
    stage.run_turns()
    patch.undo()
    assert seen[0][1] == [seen[0][0]]


class Dies(BaseException):
    """The worker is killed."""


def crashes_at(stage: Stage, clock: Clock, patch: pytest.MonkeyPatch, after_sending: bool) -> tuple[str, Turn]:
    """A worker that is killed at the first event of an answer, before or after the homeserver has it."""
    from agents.matrix.client import AppserviceClient

    real = AppserviceClient.send

    def send(client: Any, *arguments: Any, **named: Any) -> str:
        if after_sending:
            real(client, *arguments, **named)
        raise Dies

    room_id, turn = chat(stage, "One ", later(clock, 1.2), "two ", later(clock, 0.1))
    with patch.context() as context:
        context.setattr(AppserviceClient, "send", send)
        context.setattr(preview_module, "_pool", Raising())
        with pytest.raises(Dies):
            run.run_turn(turn.pk)
    return room_id, turn


class Raising(Inline):
    """As inline, but what kills the worker is not kept in a future."""

    def submit(self, *arguments: Any, **named: Any) -> Any:
        future = super().submit(*arguments, **named)
        if isinstance(future.exception(), Dies):
            raise Dies
        return future


@pytest.mark.parametrize("after_sending", [False, True])
@pytest.mark.parametrize("then", ["quick", "slow"])
def test_a_crash_at_the_first_event_leaves_one_visible_reply(
    stage: Stage, clock: Clock, monkeypatch: pytest.MonkeyPatch, after_sending: bool, then: str
) -> None:
    from chat.turns import sweep

    room_id, _ = crashes_at(stage, clock, monkeypatch, after_sending)
    Turn.objects.update(worker="elsewhere:1:1", lease_until="2020-01-01T00:00:00Z")
    assert sweep.sweep()["freed_turns"] == 1
    slow = [later(clock, 1.2), " a", later(clock, 1.2), " b"] if then == "slow" else []
    stage.world.script("The answer", *slow)
    stage.run_turns()
    stage.hurry()
    stage.run_deliveries()
    shown = stage.fake.shown(room_id)
    assert shown == ["Tell me", "The answer" + (" a b" if slow else "")]
    assert Delivery.objects.count() == 1
    assert Message.objects.filter(role="assistant").count() == 1
    assert Delivery.objects.get().state == "sent"


def test_edits_of_all_attempts_count_together(stage: Stage, clock: Clock) -> None:
    slow: list[Any] = []
    for number in range(100):
        slow += [f"word{number} ", later(clock, 1.5)]
    room_id, _ = chat(stage, *slow, BackendUnavailable("broke"))
    for _ in range(3):
        stage.world.script(*slow, BackendUnavailable("broke"))
    for _ in range(6):
        stage.drain()
        stage.hurry()
    assert Turn.objects.get().state == "dead"
    assert len(stage.fake.messages_of(room_id)[1:]) <= MAX_EVENTS
    shown = stage.fake.shown(room_id)
    assert len(shown) == 2
    assert shown[1].startswith("word0 word1")
    assert "cannot be reached" in shown[1], "one sentence, behind the part that people have seen"


def test_an_answer_after_a_failure_takes_the_place_of_the_sentence(stage: Stage, clock: Clock) -> None:
    from chat.services.turns import turn_retry

    room_id, turn = chat(stage, "One ", later(clock, 1.2), "two ", later(clock, 0.1), BackendRejected("400"))
    stage.drain()
    stage.hurry()
    stage.drain()
    assert "refused the message" in stage.fake.shown(room_id)[-1]
    turn.refresh_from_db()
    turn_retry(turn=turn, actor="op")
    stage.world.script("All well")
    stage.drain()
    stage.hurry()
    stage.drain()
    assert stage.fake.shown(room_id) == ["Tell me", "All well"]


def test_a_homeserver_that_does_not_answer_never_stops_the_stream(stage: Stage, clock: Clock) -> None:
    room_id, turn = chat(stage, "One ", later(clock, 1.2), "two ", later(clock, 2), "three")
    stage.fake.fail("send", times=2, status=502)
    stage.run_turns()
    turn.refresh_from_db()
    assert turn.state == "done"
    stage.hurry()
    stage.run_deliveries()
    assert stage.fake.shown(room_id) == ["Tell me", "One two three"]


def test_a_stopped_answer_that_was_seen_gets_its_mark(stage: Stage, clock: Clock) -> None:
    from chat.services.turns import turn_cancel

    room_id, turn = chat(
        stage, "One ", later(clock, 1.2), "two", lambda _: turn_cancel(turn=turn, actor="a"), later(clock, 1), " three"
    )
    stage.run_turns()
    stage.hurry()
    stage.run_deliveries()
    assert stage.fake.shown(room_id)[-1].endswith("*(stopped)*")
    assert len(stage.fake.shown(room_id)) == 2


def test_a_preview_of_an_agent_that_lost_its_mapping_is_left_out(stage: Stage, clock: Clock) -> None:
    room_id, turn = chat(stage, "One ", later(clock, 1.2), "two", Finished("end"))
    turn.agent.mapping.delete()
    stage.run_turns()
    turn.refresh_from_db()
    assert turn.state == "done"
    assert stage.fake.shown(room_id) == ["Tell me"]
    assert outbox.room_lane(3) == "room:3"
    assert ALICE in str(stage.fake.messages_of(room_id)[0]["sender"])
