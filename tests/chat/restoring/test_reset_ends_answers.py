"""A reset of conversations ends at the agents' servers what nobody waits for any more: after the commit, when everybody works again."""

from __future__ import annotations

from typing import Any

import pytest

from chat.models import Conversation, Turn
from ops import quiet
from ops.services.resets import reset_now, reset_plan
from tests.chat.turns.helpers import KEEPS, ask
from tests.support.scripted_backend import ScriptedBackend
from tests.support.stage import Stage

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def data_dir(settings, tmp_path):
    settings.DATA_DIR = tmp_path
    settings.ATTACHMENTS_DIR = tmp_path / "attachments"


def running(stage: Stage) -> Turn:
    turn = ask(stage, kind=KEEPS)
    Turn.objects.filter(pk=turn.pk).update(state="running", upstream_ref="run-1", backend_ref="conv-1")
    return turn


def reset(only: str) -> dict[str, Any]:
    return reset_now(scopes=[only], typed=f"reset {only}", actor="test")


@pytest.mark.parametrize("only", ["conversations", "all"])
def test_an_answer_under_way_is_ended_when_its_row_is_gone(stage: Stage, monkeypatch: pytest.MonkeyPatch, only: str):
    agent = running(stage).agent.external_id
    seen: list[tuple[int, bool]] = []
    cancel = ScriptedBackend.cancel

    def look(self: ScriptedBackend, *given: Any) -> None:
        seen.append((Turn.objects.count(), quiet.held_here()))
        cancel(self, *given)

    monkeypatch.setattr(ScriptedBackend, "cancel", look)
    said = next(one for one in reset_plan(scopes=[only]).outside if one.code == "reset.open_turns")
    assert "are still at for them is ended there" in said.sentence
    done = reset(only)
    assert stage.world.cancelled == [(agent, "run-1", "conv-1")]
    assert seen == [(0, False)]
    assert done["findings"] == []


def test_what_is_kept_goes_on(stage: Stage):
    turn = running(stage)
    Conversation.objects.filter(pk=turn.conversation_id).update(hold="a lawsuit")
    reset("conversations")
    reset("people")
    assert Turn.objects.get() == turn
    assert stage.world.cancelled == []


def test_the_reset_stands_when_they_cannot_be_ended(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    running(stage)

    def broken(*_: Any) -> None:
        raise RuntimeError("Something nobody thought of.")

    monkeypatch.setattr(ScriptedBackend, "cancel", broken)
    done = reset("conversations")
    assert done["removed"]["chat.Turn"] == 1
    assert done["left"] == []
