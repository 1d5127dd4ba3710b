"""Several turns named by one task."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from chat import wakeup
from chat.turns import batches, run
from tests.chat.turns.helpers import ask, state
from tests.support.stage import Stage


class Seen:
    """What was run, what was woken elsewhere, and when something was."""

    def __init__(self) -> None:
        self.run: list[int] = []
        self.woken: list[int] = []
        self.passed = threading.Event()

    def wake(self, ids: list[int]) -> None:
        self.woken += ids
        if len(self.woken) == 2:
            self.passed.set()


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    found = Seen()
    monkeypatch.setattr(batches, "wake_turns", found.wake)
    monkeypatch.setattr(batches, "A_MOMENT", 0.01)
    return found


def test_those_that_wait_for_nobody_run_one_after_the_other_however_long_they_take(seen: Seen) -> None:
    def busy(pk: int) -> None:
        seen.run.append(pk)
        assert not seen.passed.wait(0.1)

    batches.run_batch([1, 2, 3], busy)
    assert (seen.run, seen.woken) == ([1, 2, 3], [])


def test_one_that_waits_for_its_backend_passes_the_others_on(seen: Seen) -> None:
    def slow(pk: int) -> None:
        seen.run.append(pk)
        with batches.waiting():
            assert seen.passed.wait(60)

    batches.run_batch([1, 2, 3], slow)
    assert (seen.run, seen.woken) == ([1], [2, 3])


def test_short_waits_of_a_lane_add_up(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "A_MOMENT", 0.2)

    def lane(pk: int) -> None:
        seen.run.append(pk)
        for _ in range(6000):
            with batches.waiting():
                if seen.passed.wait(0.05):
                    return

    batches.run_batch([1, 2, 3], lane)
    assert (seen.run, seen.woken) == ([1], [2, 3])


def test_a_failure_leaves_nothing_that_is_watched(seen: Seen) -> None:
    def broken(pk: int) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        batches.run_batch([1, 2], broken)
    assert not batches._watcher._batches
    # What this thread waits for from here on belongs to no batch.
    with batches.waiting():
        assert not seen.passed.wait(0.1)


@pytest.mark.django_db
def test_a_turn_waits_while_its_backend_is_asked(stage: Stage, seen: Seen) -> None:
    turns = [ask(stage, f"Q{number}") for number in range(3)]

    def meanwhile(request: Any) -> None:
        assert seen.passed.wait(60)

    stage.world.script(meanwhile, "A")
    run.run_turns([turn.pk for turn in turns])
    assert [state(turn) for turn in turns] == ["done", "queued", "queued"]
    assert seen.woken == [turn.pk for turn in turns[1:]]


def test_many_are_named_a_few_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(wakeup, "_send", lambda task, *ids: sent.append(ids))
    wakeup.wake_turns(range(wakeup.AT_ONCE + 2))
    assert sent == [tuple(range(wakeup.AT_ONCE)), (wakeup.AT_ONCE, wakeup.AT_ONCE + 1)]
    sent.clear()
    wakeup.wake_turns([])
    assert sent == []
