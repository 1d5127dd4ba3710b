"""The server goes, politely or not, in the middle of an answer; and a client that is no Python."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chat.socket.place import Person, Place, State
from tests.up.running import Up

pytestmark = pytest.mark.e2e


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[Up, Callable[[], Place]]]:
    """An installation for one test, and what makes its place anew."""
    up = Up(tmp_path / "up", "--no-homeserver")
    made: list[Place] = []

    def place() -> Place:
        made.append(Place(up.url, up.environment))
        return made[-1]

    yield up, place
    for one in made:
        one.stop()
    if up.process is not None and up.process.poll() is None:
        up.kill9()


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_restart_in_the_middle_of_an_answer(own: tuple[Up, Callable[[], Place]], how: str) -> None:
    up, make = own
    up.start(180)
    place = make()
    place.speed(5)
    ada = place.person("ada")
    conversation = ada.conversation("Echo")
    state = State()
    client = ada.client(state=state)
    client.subscribe(conversation)
    sent = client.do("send", conversation=conversation, client_id="a", text="word " * 40)
    client.until(lambda _: len(state.turns[sent["turn"]].text) > 15 if sent["turn"] in state.turns else False)
    if how == "kill":
        up.kill9()
        assert client.until_closed().code == 1006
    else:
        assert up.process is not None
        up.process.send_signal(signal.SIGTERM)
        closed = client.until_closed()
        assert (closed.code, client.frames[-1]["type"]) == (4503, "bye")
        up.process.wait(30)
    place.speed(0)
    up.start(180)
    client = ada.client(state=state)
    client.subscribe(conversation)
    turn = client.until_over(sent["turn"], 90)
    client.until(lambda _: turn.state["reply"] in state.messages)
    assert turn.text == place.answer(sent["turn"])
    assert turn.resets == 1, "it was answered anew, and the client was told"
    # Said again after the cut: still the same message.
    again = client.do("send", conversation=conversation, client_id="a", text="word " * 40)
    assert (again["message"], again["repeated"]) == (sent["message"], True)


def test_a_client_in_another_language(embedded: Place, ada: Person) -> None:
    """Node, with nothing but what it brings: the handshake and the framing are written out."""
    node = shutil.which("node")
    if node is None:
        pytest.fail("node is missing: install it, the socket has to be tried with a client that is not ours")
    conversation = ada.conversation("Echo")
    done = subprocess.run(
        [node, str(Path(__file__).with_name("client.mjs")), embedded.url, ada.ticket(), str(conversation), "héllo \N{PARTY POPPER} you"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() == "héllo \N{PARTY POPPER} you"
