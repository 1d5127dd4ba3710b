from __future__ import annotations

import json
import time

import pytest

from agents.backends.base import ServiceSpec
from agents.backends.chunks import Finished, ToolCall, ToolResult
from agents.backends.demo import DemoBackend
from agents.backends.demo.characters import calculate, find_sum
from agents.backends.errors import (
    AgentGone,
    BackendBroken,
    BackendBusy,
    BackendRateLimited,
    BackendRejected,
    BackendUnavailable,
)

from .asking import StopAtFirstWord, ask, request, text_of


def demo(**options) -> DemoBackend:
    return DemoBackend(ServiceSpec("demo", "demo", "", options={"speed": 0, **options}))


def test_six_characters_and_as_many_more_as_wanted():
    listing = demo(count=120).list_agents()
    assert listing.complete
    assert len(listing.agents) == 126
    assert len({agent.external_id for agent in listing.agents}) == 126
    assert demo(count=3).get_agent("demo-extra-000003").name == "Agent 000003"
    assert demo(count=3).get_agent("demo-extra-000004") is None


def test_echo_loses_nothing():
    said = "  one  two\n\n\tthree ü \n"
    chunks = ask(demo(), request(said, "demo-echo"))
    assert text_of(chunks) == said
    assert isinstance(chunks[-1], Finished)
    assert sum(isinstance(chunk, Finished) for chunk in chunks) == 1


def test_ada_answers_what_was_said():
    assert "account and a room" in text_of(ask(demo(), request("Hello", "demo-ada")))
    assert "Element" in text_of(ask(demo(), request("where are the rooms", "demo-ada")))
    assert "blue giraffe" in text_of(ask(demo(), request("a blue giraffe", "demo-ada")))


def test_tinker_uses_a_tool():
    chunks = ask(demo(), request("Hello - what is 12 * (3 + 4), roughly?", "demo-tinker"))
    call = next(chunk for chunk in chunks if isinstance(chunk, ToolCall))
    result = next(chunk for chunk in chunks if isinstance(chunk, ToolResult))
    assert (call.name, json.loads(call.arguments)) == ("calculator", {"expression": "12 * (3 + 4)"})
    assert (result.id, result.output, result.ok) == (call.id, "84", True)
    assert "84" in text_of(chunks)


@pytest.mark.parametrize(
    ("text", "found", "value"),
    [("2+2", "2+2", "4"), ("(see 2^10)", "2^10", "1024"), ("1.5 times", "1.5", "1.5"), ("7/2?", "7/2", "3.5")],
)
def test_sums(text, found, value):
    assert find_sum(text) == found
    assert calculate(found) == value


@pytest.mark.parametrize("bad", ["1/0", "9**999", "(" * 90 + "1", "2 3", "__import__('os')", "9" * 300])
def test_sums_that_are_refused(bad):
    with pytest.raises(ValueError):
        calculate(bad)


def test_slow_joe_can_be_stopped():
    slow = DemoBackend(ServiceSpec("demo", "demo", ""))
    begin = time.monotonic()
    chunks = ask(slow, request("go", "demo-slow-joe"), StopAtFirstWord())
    assert time.monotonic() - begin < 15, "the whole of it takes twenty seconds"
    assert chunks[-1].reason == "cancelled"
    assert text_of(chunks)


def test_words_come_at_the_chosen_speed():
    begin = time.monotonic()
    ask(
        DemoBackend(ServiceSpec("demo", "demo", "", options={"speed": 50})), request("a b c d e f g h i j", "demo-echo")
    )
    assert 0.15 < time.monotonic() - begin < 30


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("hello", BackendUnavailable),
        ("half", BackendBroken),
        ("busy", BackendBusy),
        ("limit", BackendRateLimited),
        ("refuse", BackendRejected),
    ],
)
def test_grumble_fails_as_asked(said, error):
    with pytest.raises(error, match="Grumble") as caught:
        ask(demo(), request(said, "demo-grumble"))
    assert caught.type is error


def test_grumble_gives_in_at_the_second_attempt():
    with pytest.raises(BackendUnavailable):
        ask(demo(), request("please", "demo-grumble"))
    assert "please" in text_of(ask(demo(), request("please", "demo-grumble", attempt=2)))


def test_the_librarian_remembers_across_restarts(tmp_path):
    ask(demo(state_dir=str(tmp_path)), request("Remember that my cat is Moss", "demo-librarian"))
    ask(demo(state_dir=str(tmp_path)), request("Remember that my cat is Moss", "demo-librarian", attempt=2))
    again = demo(state_dir=str(tmp_path))
    assert "my cat is Moss" in text_of(ask(again, request("what do you remember?", "demo-librarian")))
    notes = {block.label: block for block in again.read_memory("demo-librarian")}["notes"]
    assert notes.value.count("Moss") == 1
    written = again.write_memory("demo-librarian", "notes", "nothing")
    assert written.value == "nothing"
    assert {b.label: b.value for b in demo(state_dir=str(tmp_path)).read_memory("demo-librarian")}["notes"] == "nothing"


def test_memory_refuses_what_it_must(tmp_path):
    backend = demo(state_dir=str(tmp_path))
    for agent, label, value in (
        ("demo-librarian", "desk", "x"),
        ("demo-librarian", "attic", "x"),
        ("demo-librarian", "notes", "x" * 4001),
        ("demo-echo", "notes", "x"),
    ):
        with pytest.raises(BackendRejected):
            backend.write_memory(agent, label, value)
    assert list(backend.read_memory("demo-echo")) == []
    with pytest.raises(AgentGone):
        backend.read_memory("demo-nobody")


def test_a_broken_memory_file_shows_in_health(tmp_path):
    backend = demo(state_dir=str(tmp_path))
    assert backend.health().ok
    (tmp_path / "demo-memory-demo.json").write_text("{half")
    assert not backend.health().ok
    assert "cannot be read" in backend.health().detail


def test_an_unknown_agent_and_bad_options():
    with pytest.raises(AgentGone):
        ask(demo(), request("x", "demo-nobody"))
    with pytest.raises(BackendRejected, match="numbers"):
        demo(count="many")
