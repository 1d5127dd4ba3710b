"""Size, speed, number, silence: each limit is said clearly, and ends the socket where it has to."""

from __future__ import annotations

import contextlib
import json
import socket
import time

import pytest
from websockets.exceptions import ConnectionClosed

from tests.chat.socket.client import Closed
from tests.chat.socket.place import Person, Place

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("text", ["", "nonsense", "[]", "1", '"x"', "{}", '{"type": 5}', "[" * 50_000, '{"type"'])
def test_what_is_no_frame_ends_the_socket(embedded: Place, ada: Person, text: str) -> None:
    client = ada.client()
    client.socket.send(text)
    closed = client.until_closed()
    assert (closed.code, client.frames[-1]["type"]) == (4400, "bye")


def test_a_binary_frame_ends_the_socket(embedded: Place, ada: Person) -> None:
    client = ada.client()
    client.socket.send(b'{"type": "ping"}')
    assert client.until_closed().code == 4400


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "nonsense", "id": "a"},
        {"type": "subscribe", "id": "a"},
        {"type": "subscribe", "id": "a", "conversation": "1"},
        {"type": "subscribe", "id": "a", "conversation": True},
        {"type": "subscribe", "id": "a", "conversation": -1},
        {"type": "subscribe", "id": "a", "conversation": 10**30},
        {"type": "subscribe", "id": "a", "conversation": 1, "cursor": "x"},
        {"type": "subscribe", "id": "a", "conversation": 1, "turns": {"1": "2"}},
        {"type": "subscribe", "id": "a", "conversation": 1, "turns": {"x": "1:2"}},
        {"type": "subscribe", "id": "a", "conversation": 1, "turns": []},
        {"type": "send", "id": "a", "conversation": 1, "client_id": "has space", "text": "x"},
        {"type": "send", "id": "a", "conversation": 1, "client_id": "", "text": "x"},
        {"type": "send", "id": "a", "conversation": 1, "client_id": "x" * 65, "text": "x"},
        {"type": "send", "id": "a", "conversation": 1, "client_id": "x", "text": "nul \x00"},
        {"type": "send", "id": "a", "conversation": 1, "client_id": "x", "text": "half \ud83d"},
        {"type": "send", "id": "a", "conversation": 1, "client_id": "x", "text": "x", "attachments": [1]},
        {"type": "approve", "id": "a", "turn": 1, "call": "c", "approve": "yes"},
    ],
)
def test_a_frame_that_cannot_be_used_is_answered(embedded: Place, ada: Person, frame: dict[str, object]) -> None:
    client = ada.client()
    client.socket.send(json.dumps(frame))
    answer = client.until("error")
    assert (answer["code"], answer["id"]) == ("frame.invalid", "a")
    client.do("ping")


def test_a_large_frame_ends_the_socket(embedded: Place, ada: Person) -> None:
    conversation = ada.conversation()
    client = ada.client()
    client.do("send", conversation=conversation, client_id="big", text="x" * 200_000)
    client.send("send", id=2, conversation=conversation, client_id="bigger", text="x" * 300_000)
    assert client.until_closed().code == 4413
    client = ada.client()
    # The server does not even read all of one that is much too large.
    client.socket.send(json.dumps({"type": "ping", "id": "x" * 2_000_000}))
    assert client.until_closed().code in {1009, 1006}


def test_a_flood_is_refused_and_then_ended(embedded: Place, ada: Person) -> None:
    # It takes what comes also while it sends, and with it the word that it is ended.
    client = ada.client(max_queue=1000)
    # More than 60 at once, and 10 a second, however slowly a busy machine takes them; fewer than 50 too many.
    for number in range(100):
        client.send("ping", id=number)
    answers = [client.until(lambda frame, n=number: frame.get("id") == n) for number in range(100)]
    refused = [one for one in answers if one["type"] == "error"]
    assert refused
    assert all(one["code"] == "rate.limited" and one["retry_after"] > 0 for one in refused)
    assert len(refused) <= 42
    time.sleep(1.5)
    client.do("ping")
    # It may be ended before all of it is out.
    with contextlib.suppress(ConnectionClosed):
        for number in range(400):
            client.send("ping", id=number)
    assert client.until_closed().code == 4429


def test_a_slow_flood_is_ended_as_well_and_a_pause_forgives(embedded: Place, ada: Person) -> None:
    client = ada.client()
    # Each time forty more than may be said: all that is there at once, then what has come back.
    for count in (100, 80):
        for number in range(count):
            client.send("ping", id=f"{count} {number}")
        client.until(lambda frame, last=f"{count} {count - 1}": frame.get("id") == last, 120)
        time.sleep(4)

    def flood() -> None:
        """Never fifty too many in a row: one of each twenty gets through, or more of them where all goes slowly."""
        for _ in range(100):
            for _ in range(19):
                client.send("ping")
            client.ask("ping", 60)
            time.sleep(0.11)

    with pytest.raises(Closed) as closed:
        flood()
    assert closed.value.code == 4429


def test_a_person_s_sockets_are_counted(embedded: Place, ada: Person) -> None:
    opened = [ada.client() for _ in range(50)]
    assert embedded.client(query=f"ticket={ada.ticket()}").until_closed().code == 4429
    other = embedded.person("other").client()
    other.do("ping")
    opened.pop().socket.close()
    until = time.monotonic() + 60
    while time.monotonic() < until:
        client = embedded.client(query=f"ticket={ada.ticket()}")
        if client.next()["type"] == "welcome":
            break
    else:
        raise AssertionError("a socket that was closed still counts")


def test_silence_ends_the_socket_and_any_word_keeps_it(embedded: Place, ada: Person) -> None:
    embedded.ask("from ops.live import live_set\nlive_set(key='socket.heartbeat_seconds', value=5, actor='test')")
    try:
        ada.client()
        time.sleep(3.2)
        silent, alive = ada.client(pongs=False), ada.client()
        assert alive.frames[-1]["heartbeat"] == 5
        began, closed = time.monotonic(), None
        while closed is None and time.monotonic() - began < 40:
            alive.quiet(0.5)
            try:
                silent.next(0.5)
            except TimeoutError:
                continue
            except Closed as ended:
                closed = ended
        assert closed is not None
        assert closed.code == 4408
        assert time.monotonic() - began > 8
        assert [frame for frame in silent.frames if frame["type"] == "ping"], "it was asked first"
        alive.do("ping")
    finally:
        embedded.ask("from ops.live import live_clear\nlive_clear(key='socket.heartbeat_seconds', actor='test')")


def test_a_slow_reader_is_cut_and_goes_on_where_it_was(embedded: Place, ada: Person) -> None:
    conversation = ada.conversation()
    # Its system takes little for it, so that the rest waits at the server.
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    narrow.connect(("127.0.0.1", int(embedded.url.rpartition(":")[2])))
    slow = ada.client(sock=narrow, max_queue=1, ping_interval=None)
    slow.subscribe(conversation)
    other = ada.client()
    other.subscribe(conversation)
    text = "A long line that has to be read. " * 5000
    for number in range(40):
        sent = other.do("send", conversation=conversation, client_id=f"m{number}", text=text)
        other.until_over(sent["turn"])
    closed = slow.until_closed(150)
    # One that reads nothing for ten seconds more is dropped without a word.
    assert closed.code in {1013, 1006}, closed
    held = slow.state
    assert len(held.messages) < len(other.state.messages)
    again = ada.client(state=held)
    again.subscribe(conversation)
    again.until(lambda _: len(held.messages) == len(other.state.messages), 60)
    # What is shown of a turn within a message is of the moment in which it was told.
    told = [{pk: {**one, "turn": None} for pk, one in state.messages.items()} for state in (held, other.state)]
    assert told[0] == told[1]
    # Every process writes down how sockets ended four times a minute.
    until = time.monotonic() + 120
    while not embedded.ask("result = SocketClose.objects.filter(code=1013).count()"):
        assert time.monotonic() < until
        time.sleep(1)
    assert embedded.ask("from chat.socket import statistics\nresult = statistics.snapshot().closes.get(1013)") == 1
