"""Embedded mode: what another process wrote is found at once, without a broker between them."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
from django.db import connection

from chat.models import Turn
from chat.turns import latecomers
from tests.chat.turns.helpers import ask
from tests.support.stage import Stage

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "sqlite", reason="other databases share a broker"),
]


def _another_process_writes() -> None:
    with sqlite3.connect(connection.settings_dict["NAME"]) as other:
        other.execute("update chat_conversation set title = title || '.'")


def test_a_turn_that_nobody_woke_is_found_when_somebody_has_written(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    turn = ask(stage)
    stage.woken_turns.clear()
    monkeypatch.setattr(latecomers, "GRACE", latecomers.GRACE * 0)
    watcher = latecomers.Latecomers()
    watcher.look()
    stage.woken_turns.clear()
    assert watcher.look() is False, "nobody has written since"
    assert stage.woken_turns == []
    _another_process_writes()
    assert watcher.look() is True
    assert stage.woken_turns == [turn.pk]
    Turn.objects.filter(pk=turn.pk).update(state="done")
    stage.woken_turns.clear()
    _another_process_writes()
    assert watcher.look() is True
    assert stage.woken_turns == []
