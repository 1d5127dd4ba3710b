"""What has had its time: counted, shown, exported, removed, brought back."""

from __future__ import annotations

import json
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from django.core.exceptions import ValidationError
from django.core.serializers import serialize
from django.utils import timezone

from chat.models import Conversation, Delivery, Message, Participant, Turn
from ops.doctor.repairs import RepairRefused
from ops.doctor_data import fault_files
from ops.live import forget, live_set
from ops.models import AlertMessage, Issue, Service
from ops.retention import purge_automatic, register_retention
from ops.services.pruning import prune
from ops.services.repairs import repair_plan, repair_start, repair_undo
from tests.admin.conftest import make_turn

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def data_dir(settings, tmp_path):
    settings.DATA_DIR = tmp_path
    forget()
    yield tmp_path
    forget()


def purge(**params):
    return repair_start(repair_id="retention.run", actor="test", trigger="command", typed="purge", params=params)


def everything():
    models = (Conversation, Participant, Message, Turn, Delivery)
    return {model.__name__: json.loads(serialize("json", model.objects.order_by("pk"))) for model in models}


@pytest.fixture
def talk(transactional_db):
    """Ten old questions in one conversation, each answered, each answer a reply to its question; the newest two are new."""
    from agents.models import Agent

    service = Service.objects.create(name="demo", kind="demo")
    agent = Agent.objects.create(service=service, external_id="a", name="Ada")
    conversation = Conversation.objects.create(title="Talk", next_seq=40)
    who = Participant.objects.create(conversation=conversation, kind="guest", external_id="@bob:x", name="Bob")
    speaker = Participant.objects.create(
        conversation=conversation, kind="agent", external_id="a", agent=agent, name="Ada"
    )
    now = timezone.now()
    for number in range(12):
        state = "done"
        turn = make_turn(agent, conversation, who, 2 * number, state, started_at=now, finished_at=now)
        reply = Message.objects.create(
            conversation=conversation, seq=2 * number + 1, sender=speaker, role="assistant", text=f"Answer {number}",
            transport="agent", in_reply_to=turn.message, received_at=now, stored_at=now,
        )  # fmt: skip
        Turn.objects.filter(pk=turn.pk).update(reply=reply, lane=f"l{number}")
        Delivery.objects.create(
            message=reply, turn=turn, target="matrix", lane="room:1", not_before=now, created_at=now, state="sent"
        )
        if number < 10:
            old = now - timedelta(days=100 - number)
            Message.objects.filter(pk__in=[turn.message_id, reply.pk]).update(stored_at=old)
    return conversation


class TestMessages:
    def test_without_days_they_are_kept_for_ever(self, check, talk):
        assert check("data.retention").status == "pass"
        assert purge().state == "unneeded"

    def test_break_red_preview_export_purge_green_undo(self, check, talk):
        live_set(key="retention.messages.days", value=90, actor="test")
        before = everything()
        run = check("data.retention")
        assert run.status == "fail"
        assert run.evidence["due"]["messages"]["rows"] == 20
        planned = repair_plan(repair_id="retention.run", actor="test")
        oldest = Message.objects.earliest("stored_at").stored_at.strftime("%Y-%m-%d")
        # What was said, and for each message an empty list of parts: [].
        size = sum(len(text) + 2 for text in Message.objects.filter(seq__lt=20).values_list("text", flat=True))
        assert size == 225
        assert planned.plan.sentence == (
            f"Would remove 20 messages (oldest {oldest}), about {size} bytes. They are exported first."
        )
        assert everything() == before
        with pytest.raises(RepairRefused, match="Type 'purge'"):
            repair_start(repair_id="retention.run", actor="test", trigger="command")
        done = purge()
        assert done.state == "succeeded", done.error
        assert done.receipt["rows"] == {"chat.message": 20, "chat.turn": 10, "chat.delivery": 10}
        assert (Message.objects.count(), Turn.objects.count()) == (4, 2)
        (path,) = [Path(name) for name in done.receipt["files"]]
        assert path.stat().st_mode & 0o777 == 0o600
        assert sum("pk" in json.loads(line) for line in path.read_text().splitlines()) == 40
        assert check("data.retention").status == "pass"
        assert purge().state == "unneeded"
        repair_undo(run=done, actor="test")
        assert everything() == before
        assert check("data.retention").status == "fail"
        assert purge().state == "succeeded"

    def test_lost_references_of_rows_that_stay_come_back(self, talk):
        first, last = Message.objects.order_by("seq").first(), Message.objects.order_by("-seq").first()
        Message.objects.filter(pk=last.pk).update(in_reply_to=first)
        live_set(key="retention.messages.days", value=90, actor="test")
        before = everything()
        done = purge()
        last.refresh_from_db()
        assert last.in_reply_to_id is None
        repair_undo(run=done, actor="test")
        assert everything() == before

    def test_what_is_open_and_each_conversation_s_newest_stay(self, talk):
        live_set(key="retention.messages.days", value=1, actor="test")
        Message.objects.update(stored_at=timezone.now() - timedelta(days=5))
        turn = Turn.objects.order_by("pk").first()
        Turn.objects.filter(pk=turn.pk).update(state="queued")
        dead = Delivery.objects.order_by("pk")[3]
        Delivery.objects.filter(pk=dead.pk).update(state="dead")
        newest = Message.objects.order_by("-seq").first()
        purge()
        kept = {turn.message_id, dead.turn.message_id, dead.message_id, newest.pk}
        assert set(Message.objects.values_list("pk", flat=True)) == kept

    def test_many_batches_come_back_in_the_right_order(self, talk, monkeypatch):
        from ops.doctor_data import retention

        monkeypatch.setattr(retention, "_BATCH", 3)
        chain = list(Message.objects.order_by("seq"))
        for one, other in pairwise(chain):
            Message.objects.filter(pk=other.pk).update(in_reply_to=one)
        live_set(key="retention.messages.days", value=90, actor="test")
        before = everything()
        done = purge(kind="messages")
        repair_undo(run=done, actor="test")
        assert everything() == before

    def test_it_is_refused_with_the_reason_when_their_conversation_is_gone(self, talk):
        live_set(key="retention.messages.days", value=90, actor="test")
        done = purge()
        Message.objects.all().delete()
        Participant.objects.all().delete()
        talk.delete()
        with pytest.raises(RepairRefused, match="cannot be brought back"):
            repair_undo(run=done, actor="test")
        assert not Message.objects.exists()

    def test_it_is_refused_when_the_export_is_gone(self, talk):
        live_set(key="retention.messages.days", value=90, actor="test")
        done = purge()
        Path(done.receipt["files"][0]).unlink()
        with pytest.raises(RepairRefused, match="is gone"):
            repair_undo(run=done, actor="test")

    def test_legal_hold_stops_everybody(self, check, talk):
        live_set(key="retention.messages.days", value=90, actor="test")
        live_set(key="retention.hold", value="true", actor="test")
        assert check("data.retention").evidence["hold"] is True
        with pytest.raises(RepairRefused, match="Legal hold"):
            purge()
        memory = fault_files.age_rows()
        assert purge_automatic() == {}
        fault_files.forget_rows(memory)

    def test_a_failure_half_way_takes_back_what_was_done(self, talk, monkeypatch):
        from ops.doctor_data import exports, retention

        monkeypatch.setattr(retention, "_BATCH", 4)
        live_set(key="retention.messages.days", value=90, actor="test")
        before, real, calls = everything(), exports.Writer.remove, []

        def remove(self, rows):
            calls.append(len(rows))
            if len(calls) == 3:
                raise OSError("No space left on device")
            return real(self, rows)

        monkeypatch.setattr(exports.Writer, "remove", remove)
        done = purge()
        assert done.state == "failed"
        assert "No space left" in done.error
        assert everything() == before


class TestAutomatic:
    def test_what_pruning_forgot_is_red_and_removed(self, check):
        memory = fault_files.age_rows()
        run = check("data.retention")
        assert (run.status, run.evidence["due"]["issues"]["rows"]) == ("fail", 25)
        done = purge()
        assert done.receipt["rows"] == {"ops.issue": 25}
        assert check("data.retention").status == "pass"
        repair_undo(run=done, actor="test")
        assert Issue.objects.filter(check_id=fault_files.PRACTICE_CHECK).count() == 25
        assert prune()["issues"] == 25
        fault_files.forget_rows(memory)

    def test_alerts_that_wait_are_no_business_of_age(self, transactional_db):
        from ops.services.alerts import channel_save

        channel = channel_save(actor="test", name="x", url="json://127.0.0.1:9/")
        for state in ("sent", "queued"):
            AlertMessage.objects.create(
                channel=channel, kind="test", key=state, title="x", state=state, due_at=timezone.now()
            )
        AlertMessage.objects.update(created_at=timezone.now() - timedelta(days=91))
        assert purge_automatic()["alert_messages"] == 1
        assert AlertMessage.objects.get().state == "queued"


@pytest.mark.parametrize("value", [-1, "soon", True, 99999])
def test_days_that_make_no_sense_are_refused(value, transactional_db):
    with pytest.raises(ValidationError):
        live_set(key="retention.messages.days", value=value, actor="test")


def test_rows_with_secrets_cannot_be_exported(transactional_db):
    with pytest.raises(ValueError, match="secrets"):
        register_retention("services", label="x", rows=lambda before: Service.objects.all(), time_field="created_at")


def test_lines_of_the_log_have_days_of_their_own_and_go_to_a_file_when_asked(transactional_db, tmp_path, settings):
    from ops.models import LogLine
    from ops.services.pruning import prune

    settings.DATA_DIR = tmp_path
    now = timezone.now()
    for days in (1, 3, 5, 10):
        LogLine.objects.create(
            at=now - timedelta(days=days), level="info", logger="test.kept", event=f"{days} days ago"
        )
    lines = LogLine.objects.filter(logger="test.kept")
    prune()
    assert sorted(lines.values_list("event", flat=True)) == ["1 days ago", "3 days ago", "5 days ago"]
    live_set(key="retention.logs.days", value=4, actor="test")
    done = repair_start(
        repair_id="retention.run", params={"kind": "logs"}, typed="purge", actor="test", trigger="command"
    )
    assert done.state in ("succeeded", "unproven"), done.error
    (file,) = (tmp_path / "exports").glob("retention-*-logs.jsonl")
    assert "5 days ago" in file.read_text()
    assert sorted(lines.values_list("event", flat=True)) == ["1 days ago", "3 days ago"]
    live_set(key="retention.logs.days", value=2, actor="test")
    prune()
    assert list(lines.values_list("event", flat=True)) == ["1 days ago"]
