"""Several turns named by one task."""

from __future__ import annotations

import threading

import pytest

from chat import wakeup
from chat.turns import run


@pytest.fixture
def seen(monkeypatch):
    """What was run, and what was woken elsewhere."""
    found = {"run": [], "woken": [], "passed": threading.Event()}

    def wake(ids):
        found["woken"] += ids
        found["passed"].set()

    monkeypatch.setattr(run, "wake_turns", wake)
    monkeypatch.setattr(run, "run_turn", found["run"].append)
    return found


def test_short_ones_run_one_after_the_other(seen, monkeypatch):
    monkeypatch.setattr(run, "A_MOMENT", 60)
    run.run_turns([1, 2, 3])
    assert (seen["run"], seen["woken"]) == ([1, 2, 3], [])


def test_one_that_waits_for_its_backend_passes_the_others_on(seen, monkeypatch):
    monkeypatch.setattr(run, "A_MOMENT", 0.01)

    def slow(pk):
        seen["run"].append(pk)
        assert seen["passed"].wait(60)

    monkeypatch.setattr(run, "run_turn", slow)
    run.run_turns([1, 2, 3])
    assert (seen["run"], seen["woken"]) == ([1], [2, 3])


def test_a_failure_leaves_no_timer_behind(seen, monkeypatch):
    def broken(pk):
        raise RuntimeError("no")

    monkeypatch.setattr(run, "A_MOMENT", 60)
    monkeypatch.setattr(run, "run_turn", broken)
    before = threading.active_count()
    with pytest.raises(RuntimeError):
        run.run_turns([1, 2])
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join(60)
    assert threading.active_count() <= before


def test_many_are_named_a_few_a_task(monkeypatch):
    sent = []
    monkeypatch.setattr(wakeup, "_send", lambda task, *ids: sent.append(ids))
    wakeup.wake_turns(range(wakeup.AT_ONCE + 2))
    assert sent == [tuple(range(wakeup.AT_ONCE)), (wakeup.AT_ONCE, wakeup.AT_ONCE + 1)]
    sent.clear()
    wakeup.wake_turns([])
    assert sent == []
