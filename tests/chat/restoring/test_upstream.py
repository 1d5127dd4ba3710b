"""After a restore nobody waits for what agents' servers are still at: runs are stopped there and waiting tool calls refused."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from agents.backends.chunks import Finished, ToolCall
from agents.backends.errors import BackendUnavailable
from chat.models import Message, Turn
from chat.restoring import upstream
from ops.backup import hooks
from ops.models import RestoreEpoch, Service
from tests.chat.turns.helpers import KEEPS, ask
from tests.support.scripted_backend import ScriptedBackend
from tests.support.stage import Stage

pytestmark = pytest.mark.django_db

KINDS = ("settings", "people", "mappings", "conversations", "history")
CALL = ToolCall("c1", "send_parcel", "{}", needs_approval=True)


def work(told: list[Any], noted: dict[str, Any] | None = None, kinds: tuple[str, ...] = KINDS) -> hooks.Reconcile:
    now = timezone.now()
    return hooks.Reconcile(now, now, 1, kinds, False, "test", told.append, extra=noted or {})


def fence() -> None:
    """The rows are those of the backup now."""
    now = timezone.now()
    RestoreEpoch.objects.create(number=1, at=now)
    with transaction.atomic():
        for function in hooks.fences().values():
            function(hooks.Fence("default", now, now, 1, KINDS, False, lambda finding: None))


def running(stage: Stage) -> Turn:
    turn = ask(stage, kind=KEEPS)
    Turn.objects.filter(pk=turn.pk).update(state="running", upstream_ref="run-1", backend_ref="conv-1")
    return turn


def waiting(stage: Stage) -> Turn:
    stage.world.script("Let me see.", CALL, Finished("approval", 1, 1))
    turn = ask(stage, kind=KEEPS)
    stage.run_turns()
    return turn


def test_an_answer_that_the_backup_does_not_know_is_ended_although_its_row_is_gone(stage: Stage):
    turn = running(stage)
    agent = turn.agent.external_id
    noted = upstream.note(KINDS)
    assert noted is not None
    assert stage.world.cancelled == [], "nothing is ended before it is certain that the rows change"
    Message.objects.all().delete()
    assert not Turn.objects.exists()
    told: list[Any] = []
    said = upstream.end_upstream(work(told, noted))
    assert stage.world.cancelled == [(agent, "run-1", "conv-1")]
    assert said is not None
    assert (said["ended"], told) == (1, [])


def test_an_answer_that_the_backup_knows_as_open_is_ended_once(stage: Stage):
    turn = running(stage)
    agent = turn.agent.external_id
    noted = upstream.note(KINDS)
    fence()
    upstream.end_upstream(work([], noted))
    assert stage.world.cancelled == [(agent, "run-1", "conv-1")]


def test_a_tool_call_that_waits_for_a_word_is_refused(stage: Stage):
    turn = waiting(stage)
    noted = upstream.note(KINDS)
    Message.objects.all().delete()
    upstream.end_upstream(work([], noted))
    assert [(agent, calls) for agent, calls, _ in stage.world.refused] == [(turn.agent.external_id, ("c1",))]


def test_what_cannot_be_ended_is_said_and_not_counted(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    turn = running(stage)

    def cancel(*_: Any) -> None:
        raise BackendUnavailable("It does not answer.")

    monkeypatch.setattr(ScriptedBackend, "cancel", cancel)
    noted = upstream.note(KINDS)
    fence()
    told: list[Any] = []
    assert upstream.end_upstream(work(told, noted)) is None
    assert [(one.code, one.target) for one in told] == [("restore.not_stopped", turn.agent.name)]
    assert "It does not answer." in told[0].sentence


def test_who_is_asked_for_other_rows_only_goes_on(stage: Stage):
    running(stage)
    assert upstream.note(("people", "settings")) is None
    assert upstream.end_upstream(work([], kinds=("people",))) is None
    assert stage.world.cancelled == []


def test_what_an_earlier_restore_ended_or_what_has_its_answer_is_left(stage: Stage):
    turn = running(stage)
    fence()
    ended = Turn.objects.get(pk=turn.pk)
    Turn.objects.filter(pk=turn.pk).update(finished_at=ended.finished_at - timedelta(hours=1))  # type: ignore[operator]
    assert upstream.end_upstream(work([])) is None
    Turn.objects.filter(pk=turn.pk).update(finished_at=ended.finished_at, reply=Message.objects.get(role="user"))
    assert upstream.end_upstream(work([])) is None
    Turn.objects.filter(pk=turn.pk).update(reply=None, error_code="stopped")
    assert upstream.end_upstream(work([])) is None
    assert stage.world.cancelled == []
    Turn.objects.filter(pk=turn.pk).update(error_code="restored")
    said = upstream.end_upstream(work([]))
    assert said is not None
    assert said["sentence"] == "1 answer that nobody waits for any more was ended at the agents' servers."


def test_a_server_that_is_switched_off_is_not_asked(stage: Stage):
    turn = running(stage)
    fence()
    Service.objects.filter(pk=turn.agent.service_id).update(enabled=False)
    assert upstream.end_upstream(work([])) is None
    assert stage.world.cancelled == []


def test_a_tool_call_of_somebody_elses_program_is_not_refused(stage: Stage):
    """Others that use the agent decide about theirs."""
    turn = waiting(stage)
    rows = Turn.objects.get(pk=turn.pk)
    for call in rows.approvals:
        call["foreign"] = True
    rows.save(update_fields=["approvals"])
    noted = upstream.note(KINDS)
    assert noted is not None
    assert noted["work"][0]["calls"] == []
    upstream.end_upstream(work([], noted))
    assert stage.world.refused == []
