"""``faults.resume``: answers that are cut at random moments and gone on with on another process are the same to the byte."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.chat.socket.client import Client, State
from tests.chat.socket.scaled import Scaled, running_scaled
from tests.peers.postgres import Postgres
from tests.peers.redis import Redis

pytestmark = pytest.mark.e2e

# Words, an emoji outside the basic plane, and things that JSON escapes.
TEXT = " ".join(f'w{number} "é" \\ \N{PARTY POPPER}' for number in range(60))


@pytest.fixture(scope="module")
def scaled(postgres: Postgres, redis_server: Redis) -> Iterator[Scaled]:
    with running_scaled(postgres, redis_server, database="resume", lossy=("", "", "some", "all")) as place:
        yield place


@pytest.fixture(autouse=True)
def _fresh(scaled: Scaled) -> Iterator[None]:
    for web in scaled.webs:
        if not web.is_running:
            web.start()
    yield
    scaled.hang_up()


def _cut(client: Client, rng: random.Random) -> None:
    """As a network does it: no closing handshake."""
    if rng.random() < 0.5:
        client.socket.socket.close()
    else:
        client.socket.close()


def _follow(client: Client, turn: int, seconds: float) -> bool:
    """Read for so long; True when the turn is over."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        try:
            client.next(left)
        except TimeoutError:
            break
        held = client.state.turns.get(turn)
        if held is not None and held.state.get("final"):
            return True
    return False


def _is_whole(place: Scaled, state: State, turn: int) -> None:
    stored = place.ask(
        "t = Turn.objects.select_related('reply').get(pk=turn)\n"
        "result = {'text': t.reply.text, 'parts': t.reply.parts, 'id': t.reply_id, 'state': t.state}",
        turn=turn,
    )
    held = state.turns[turn]
    assert held.text.encode() == stored["text"].encode()
    beside = {
        index: part
        for index, part in enumerate(stored["parts"])
        if part["type"] in {"reasoning", "tool_call", "tool_result"}
    }
    assert {index: _plain(part) for index, part in held.parts.items()} == {
        index: _plain(part) for index, part in beside.items()
    }
    assert held.state["state"] == stored["state"]
    assert state.messages[stored["id"]]["text"] == stored["text"]


def _plain(part: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in part.items() if key not in {"end", "index"}}


@pytest.mark.parametrize("seed", range(6))
def test_cut_at_random_and_gone_on_with_elsewhere(scaled: Scaled, seed: int) -> None:
    rng = random.Random(seed)
    scaled.speed(60)
    agent, text = rng.choice([("Echo", TEXT), ("Tinker", "12 * (3 + 4)"), ("Ada", "tell me about rooms")])
    person = scaled.person("cut")
    conversation = person.conversation(agent)
    state = State()
    client = person.client(scaled.webs[0].url, state=state, compact=bool(seed % 2))
    client.subscribe(conversation)
    sent = client.do("send", conversation=conversation, client_id="a", text=text)
    cuts = 0
    while not _follow(client, sent["turn"], rng.uniform(0.05, 0.7)):
        _cut(client, rng)
        cuts += 1
        assert cuts < 200
        if rng.random() < 0.3:
            time.sleep(rng.uniform(0, 1.0))
        client = person.client(rng.choice(scaled.webs).url, state=state, compact=bool(seed % 2))
        client.subscribe(conversation)
    assert cuts
    client.until(lambda _: state.turns[sent["turn"]].state["reply"] in state.messages)
    _is_whole(scaled, state, sent["turn"])
    assert state.turns[sent["turn"]].resets == 0


def test_every_frame_of_the_layer_lost_loses_nothing(scaled: Scaled) -> None:
    scaled.speed(40)
    person = scaled.person("deaf")
    conversation = person.conversation("Tinker")
    clients = [person.client(web.url) for web in scaled.webs]
    for client in clients:
        client.subscribe(conversation)
    sent = clients[0].do("send", conversation=conversation, client_id="a", text="7 * 6")
    for client in clients:
        client.until_over(sent["turn"])
        client.until(lambda _, c=client: c.state.turns[sent["turn"]].state["reply"] in c.state.messages)
        _is_whole(scaled, client.state, sent["turn"])
    # Another title, another branch: noticed by looking as well.
    deaf = clients[-1]
    again = clients[0].do("regenerate", message=sent["message"])
    deaf.until_over(again["turn"])
    assert {one["seq"] for one in deaf.state.messages.values()} == {1, 2, 3}


def test_a_web_process_that_is_killed(scaled: Scaled) -> None:
    rng = random.Random(11)
    scaled.speed(12)
    person = scaled.person("killed")
    conversation = person.conversation("Echo")
    state = State()
    client = person.client(scaled.webs[0].url, state=state)
    client.subscribe(conversation)
    sent = client.do("send", conversation=conversation, client_id="a", text=TEXT)
    for killed, following in ((0, 1), (1, 2)):
        assert not _follow(client, sent["turn"], rng.uniform(0.3, 1.5))
        scaled.webs[killed].kill9()
        assert client.until_closed(10).code == 1006
        client = person.client(scaled.webs[following].url, state=state)
        client.subscribe(conversation)
    client.until_over(sent["turn"])
    client.until(lambda _: state.turns[sent["turn"]].state["reply"] in state.messages)
    _is_whole(scaled, state, sent["turn"])


def test_stop_still_works_after_going_on_elsewhere(scaled: Scaled) -> None:
    scaled.speed(10)
    person = scaled.person("stopper")
    conversation = person.conversation("Echo")
    state = State()
    client = person.client(scaled.webs[0].url, state=state)
    client.subscribe(conversation)
    sent = client.do("send", conversation=conversation, client_id="a", text=TEXT)
    _follow(client, sent["turn"], 1.0)
    client.socket.socket.close()
    client = person.client(scaled.webs[1].url, state=state)
    client.subscribe(conversation)
    client.do("stop", turn=sent["turn"])
    turn = client.until_over(sent["turn"])
    client.until(lambda _: turn.state["reply"] in state.messages)
    assert turn.state["state"] == "cancelled"
    assert len(turn.text) < len(TEXT) / 2
    _is_whole(scaled, state, sent["turn"])


def test_a_worker_that_dies_is_told_as_a_new_attempt(scaled: Scaled) -> None:
    scaled.speed(15)
    person = scaled.person("again")
    conversation = person.conversation("Echo")
    state = State()
    client = person.client(scaled.webs[1].url, state=state)
    client.subscribe(conversation)
    sent = client.do("send", conversation=conversation, client_id="a", text=TEXT)
    client.until(lambda _: len(state.turns.get(sent["turn"], _EMPTY).text) > 40)
    [worker] = scaled.stack.workers
    worker.kill9()
    worker.start()
    turn = client.until_over(sent["turn"], 90)
    client.until(lambda _: turn.state["reply"] in state.messages)
    assert turn.resets >= 1
    assert turn.state["fence"] == 2
    _is_whole(scaled, state, sent["turn"])


class _EMPTY:
    text = ""
