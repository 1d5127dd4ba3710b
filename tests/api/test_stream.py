"""Server-sent events of a turn that really runs."""

from __future__ import annotations

import asyncio
import functools
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from channels.layers import get_channel_layer
from django.db import connections
from django.test import AsyncClient
from django.urls import get_resolver

from chat import live
from chat.api import stream as stream_module
from chat.models import Turn
from chat.services.messages import message_send
from chat.services.turns import turn_cancel
from chat.turns.run import run_turn
from ops.models import ApiToken
from ops.services.tokens import token_revoke

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def own_threads(monkeypatch):
    """The threads that read rows end with the test, and their database connections with them. What the first request of a
    process loads is there before an answer begins."""
    get_resolver().url_patterns  # noqa: B018
    with ThreadPoolExecutor(max_workers=2) as pool:
        monkeypatch.setattr(stream_module, "_pool", pool)
        yield


def in_loop(test):
    """Runs an async test; what it does in the database happens in the test's own thread."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        async_to_sync(test)(*args, **kwargs)

    return run


@pytest.fixture
def spoken(demo, ada):
    """A queued turn of an agent that takes a while."""

    def say(text: str = "tell me about rooms", speed: float = 40) -> Turn:
        demo.options = {"speed": speed}
        demo.save()
        ada.refresh_from_db()
        return message_send(agent=ada, text=text).turn

    return say


def _in_thread(turn: Turn) -> threading.Thread:
    def work() -> None:
        try:
            run_turn(turn.pk)
        finally:
            connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


class Listener:
    """Reads a stream as a client would: events, and the text that they make."""

    def __init__(self, token: str) -> None:
        self.token, self.events, self.text, self.id, self.beats = token, [], "", "", 0
        self.arrived: list[float] = []

    async def listen(self, turn: Turn, query: str = "", *, until: int = 0, last_id: str = "") -> Listener:
        live.use_loop(asyncio.get_running_loop())
        headers = {"Authorization": f"Bearer {self.token}", **({"Last-Event-ID": last_id} if last_id else {})}
        response = await AsyncClient().get(f"/api/v1/turns/{turn.pk}/stream{query}", headers=headers)
        assert response.status_code == 200
        assert response.headers["Content-Type"].startswith("text/event-stream")
        body = response.streaming_content
        async for block in body:
            self._take(block.decode())
            if until and len(self.text) >= until:
                await body.aclose()
                break
        return self

    def _take(self, block: str) -> None:
        if block.startswith(":"):
            self.beats += 1
            return
        fields = dict(line.split(": ", 1) for line in block.strip().split("\n"))
        name, data = fields["event"], json.loads(fields["data"])
        self.id = fields.get("id", self.id)
        if name == "delta":
            assert data["offset"] == len(self.text)
            self.text += data["text"]
            self.arrived.append(time.monotonic())
        if name == "reset":
            self.text = ""
        self.events.append((name, data))

    @property
    def last(self) -> dict:
        return self.events[-1][1]


async def _answer(turn: Turn) -> str:
    found = await sync_to_async(Turn.objects.select_related("reply").get)(pk=turn.pk)
    return found.reply.text


async def _run_and_listen(token: str, turn: Turn, **options) -> Listener:
    thread = _in_thread(turn)
    listener = await asyncio.wait_for(Listener(token).listen(turn, **options), 30)
    await sync_to_async(thread.join)(30)
    return listener


@in_loop
async def test_the_answer_comes_as_it_is_written(write_token, spoken):
    turn = await sync_to_async(spoken)()
    heard = await _run_and_listen(write_token, turn)
    assert heard.text == await _answer(turn)
    assert (heard.last["final"], heard.last["state"], heard.last["length"]) == (True, "done", len(heard.text))
    # Live: many pieces, and not all at the end.
    assert len(heard.arrived) > 5
    assert heard.arrived[-1] - heard.arrived[0] > 0.3


@in_loop
async def test_without_live_frames_the_row_is_followed(write_token, spoken, monkeypatch):
    monkeypatch.setattr(live, "publish", lambda *args: None)
    monkeypatch.setattr(stream_module, "POLL_SECONDS", 0.2)
    turn = await sync_to_async(spoken)(speed=15)
    heard = await _run_and_listen(write_token, turn)
    assert heard.text == await _answer(turn)
    assert len(heard.arrived) > 1


@in_loop
async def test_every_second_frame_lost_loses_nothing(write_token, spoken, monkeypatch):
    publish, count = live.publish, iter(range(10_000))
    monkeypatch.setattr(live, "publish", lambda *args: publish(*args) if next(count) % 2 else None)
    turn = await sync_to_async(spoken)()
    heard = await _run_and_listen(write_token, turn)
    assert heard.text == await _answer(turn)


@in_loop
async def test_it_goes_on_from_an_offset_and_from_the_last_event(write_token, spoken):
    turn = await sync_to_async(spoken)()
    thread = _in_thread(turn)
    first = await asyncio.wait_for(Listener(write_token).listen(turn, until=20), 30)
    held = len(first.text)
    assert held >= 20
    second, third = Listener(write_token), Listener(write_token)
    second.text = third.text = first.text
    await asyncio.wait_for(
        asyncio.gather(second.listen(turn, f"?from={held}"), third.listen(turn, last_id=first.id)), 30
    )
    await sync_to_async(thread.join)(30)
    answer = await _answer(turn)
    assert (second.text, third.text) == (answer, answer)
    assert "reset" not in {name for name, _ in second.events + third.events}
    # After the end as well.
    late = Listener(write_token)
    late.text = answer[:30]
    await late.listen(turn, "?from=30")
    assert late.text == answer
    assert [name for name, _ in late.events if name != "reasoning"] == ["delta", "turn"]


@in_loop
async def test_tools_are_shown_as_parts(write_token, demo, make_agent):
    tinker = await sync_to_async(make_agent)("demo-tinker", "Tinker")
    demo.options = {"speed": 40}
    await sync_to_async(demo.save)()
    sent = await sync_to_async(message_send)(agent=tinker, text="12 * (3 + 4)")
    heard = await _run_and_listen(write_token, sent.turn)
    assert [data["part"]["type"] for name, data in heard.events if name == "part"] == ["tool_call", "tool_result"]
    assert "84" in heard.text


@in_loop
async def test_a_stopped_answer_ends_with_what_was_said(write_token, spoken):
    turn = await sync_to_async(spoken)("tell me about rooms", 10)
    thread = _in_thread(turn)
    listener = Listener(write_token)
    listening = asyncio.create_task(listener.listen(turn))
    while len(listener.text) < 10:
        await asyncio.sleep(0.05)
    await sync_to_async(turn_cancel)(turn=turn, actor="test")
    await asyncio.wait_for(listening, 30)
    await sync_to_async(thread.join)(30)
    assert listener.last["state"] == "cancelled"
    assert listener.text == await _answer(turn)


@in_loop
async def test_a_revoked_token_closes_the_stream_within_two_seconds(write_token, spoken):
    turn = await sync_to_async(spoken)()
    listener = Listener(write_token)
    listening = asyncio.create_task(listener.listen(turn))
    while not listener.events:
        await asyncio.sleep(0.02)
    token = await sync_to_async(ApiToken.objects.get)()
    await sync_to_async(token_revoke)(token=token, actor="test")
    started = time.monotonic()
    await asyncio.wait_for(listening, 60)
    assert time.monotonic() - started < 2
    assert (listener.events[-1][0], listener.last["code"]) == ("error", "auth.revoked")


@in_loop
async def test_a_silent_stream_says_that_it_lives(write_token, spoken, monkeypatch):
    monkeypatch.setattr(stream_module, "HEARTBEAT_SECONDS", 0.2)
    turn = await sync_to_async(spoken)()
    listener = Listener(write_token)
    listening = asyncio.create_task(listener.listen(turn))
    while listener.beats < 3:
        await asyncio.sleep(0.05)
    await sync_to_async(turn_cancel)(turn=turn, actor="test")
    await asyncio.wait_for(listening, 60)
    assert [data["state"] for name, data in listener.events if name == "turn"] == ["queued", "cancelled"]


@in_loop
async def test_a_listener_that_leaves_is_forgotten(write_token, spoken):
    turn = await sync_to_async(spoken)()
    listener = Listener(write_token)
    listening = asyncio.create_task(listener.listen(turn))
    while not listener.events:
        await asyncio.sleep(0.02)
    assert live.group_of(turn.conversation_id) in get_channel_layer().groups
    # What the server does when the client hangs up.
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening
    assert live.group_of(turn.conversation_id) not in get_channel_layer().groups
