"""Entries 86 to 92 of the catalogue: break, red, plan, repair, green, a second run changes nothing, undo."""

from __future__ import annotations

import pytest

import ops.doctor_logs  # noqa: F401
from ops.doctor.catalogue import checks_of, coverage
from ops.doctor.faults import get_fault
from ops.doctor.queries import offer_of
from ops.doctor.repairs import RepairRefused
from ops.logbook import explorer
from ops.models import AuditEvent, Capture, ErrorSignature, Issue, LogLine
from ops.registry import get_check
from ops.runner import run_checks
from ops.services.repairs import repair_plan, repair_start, repair_undo, why_not_undo

ENTRIES = (
    "debug.level",
    "debug.explorer",
    "debug.wire",
    "debug.profile",
    "logs.search",
    "logs.signatures",
    "support.bundle",
)

pytestmark = pytest.mark.django_db(transaction=True)


def outcome(check_id):
    (run,) = run_checks([check_id])
    return run


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_entry_is_broken_found_mended_and_undone(entry, data_dir):
    assert coverage(entry) == "repair"
    assert entry in [check.id for check in checks_of(entry)]
    assert outcome(entry).status == "pass", outcome(entry).sentence
    fault = get_fault(entry)
    memory = fault.cause()
    try:
        red = outcome(entry)
        assert red.status == "fail"
        assert set(fault.evidence) <= set(red.evidence)
        issue = Issue.objects.get(check_id=entry, state="open")
        offer = offer_of(issue)
        repair = fault.repair or offer.repair.id
        params = fault.repair_params(memory) if fault.repair_params else offer.params
        asked = {"repair_id": repair, "params": params, "actor": "test"}
        planned = repair_plan(**asked)
        assert planned.plan.changes
        assert outcome(entry).status == "fail"
        run = repair_start(**asked, trigger="command", issue=issue)
        assert (run.state, run.error) == ("succeeded", "")
        assert outcome(entry).status == "pass"
        assert repair_start(**asked, trigger="command").state == "unneeded"
        assert AuditEvent.objects.filter(action="repair.done").exists()
        if not why_not_undo(run):
            repair_undo(run=run, actor="test")
            assert outcome(entry).status == "fail"
    finally:
        fault.heal(memory)
    assert outcome(entry).status == "pass"


def test_only_the_broken_entry_turns_red(data_dir):
    for entry in ENTRIES:
        memory = get_fault(entry).cause()
        try:
            red = [run.check.id for run in run_checks(ENTRIES) if run.status in ("fail", "warn", "blocked")]
        finally:
            get_fault(entry).heal(memory)
        assert red == [entry]


def test_a_level_is_set_for_a_while_and_undone(db):
    params = {"logger": "chat.turns", "level": "debug", "minutes": 15}
    run = repair_start(repair_id="debug.set_level", params=params, actor="test", trigger="command")
    assert run.state == "succeeded"
    assert outcome("debug.level").status == "pass"
    assert repair_start(repair_id="debug.set_level", params=params, actor="test", trigger="command").state == "unneeded"
    assert AuditEvent.objects.filter(action="setting.changed").exists()
    repair_undo(run=run, actor="test")
    from ops.services.logbook import current_levels

    assert current_levels() == {}


def test_a_level_cannot_be_set_without_an_end(db):
    run = repair_start(
        repair_id="debug.set_level",
        params={"logger": "chat", "level": "debug", "minutes": 100000},
        actor="test",
        trigger="command",
    )
    assert run.state == "failed"
    assert "24 hours" in run.error


def test_captures_and_profiles_are_refused_with_a_reason(db):
    with pytest.raises(RepairRefused, match="no service"):
        repair_plan(repair_id="debug.capture", params={"service": "nobody"}, actor="test")
    with pytest.raises(RepairRefused, match="60 minutes"):
        repair_plan(repair_id="debug.capture", params={"minutes": 61}, actor="test")
    with pytest.raises(RepairRefused, match="no running process"):
        repair_plan(repair_id="debug.profile", params={"process": "nowhere:1:1"}, actor="test")


def test_a_capture_is_started_once_and_undone(db):
    asked = {"repair_id": "debug.capture", "params": {"minutes": 5, "agent": "Ada"}, "actor": "test"}
    run = repair_start(**asked, trigger="command")
    assert run.state == "succeeded"
    assert repair_start(**asked, trigger="command").state == "unneeded"
    repair_undo(run=run, actor="test")
    from django.utils import timezone

    assert not Capture.objects.filter(until__gt=timezone.now()).exists()


def test_a_signature_needs_words_and_a_pattern_that_works(db):
    with pytest.raises(RepairRefused, match=r"Say in words|missing"):
        repair_plan(repair_id="signature.add", params={"pattern": "boom"}, actor="test")
    for pattern in ("(", ".*", "(a+)+b"):
        with pytest.raises(RepairRefused):
            repair_plan(repair_id="signature.add", params={"pattern": pattern, "meaning": "x"}, actor="test")
    assert not ErrorSignature.objects.exists()


def test_a_log_line_becomes_a_signature(db):
    from django.utils import timezone

    line = LogLine.objects.create(at=timezone.now(), level="error", event="pump 12 of @a:hs failed", logger="x")
    params = {"line": str(line.pk), "meaning": "The pump is empty.", "check_id": "disk.low"}
    run = repair_start(repair_id="signature.add", params=params, actor="test", trigger="command")
    assert run.state == "succeeded"
    from ops.logbook.signatures import Dictionary

    other = LogLine(at=timezone.now(), level="error", event="pump 99 of @bert:other failed", logger="x")
    found = Dictionary().of_line(other)
    assert (found.meaning, found.check, found.own) == ("The pump is empty.", "disk.low", True)


def test_exported_lines_are_a_file_of_our_own_and_undone(data_dir):
    from django.utils import timezone

    from ops.support import folder

    assert repair_start(repair_id="logs.export", actor="test", trigger="command").state == "unneeded"
    LogLine.objects.create(at=timezone.now(), level="info", event="hello", agent="Ada")
    run = repair_start(repair_id="logs.export", params={"agent": "Ada"}, actor="test", trigger="command")
    assert run.state == "succeeded"
    path = folder.path_of(run.receipt["file"])
    assert path is not None, (run.receipt, folder.kept())
    assert '"event": "hello"' in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    repair_undo(run=run, actor="test")
    assert not path.exists()


def test_an_unreadable_logbook_and_lost_lines_are_told(db):
    from datetime import timedelta

    from django.utils import timezone

    from ops.leases import WORKER
    from ops.logbook.status import write_status
    from ops.models import Process
    from ops.processes.facts import boot_id

    write_status(process="h:1:1", role="worker", facts={"dropped": 12, "dropped_at": timezone.now().isoformat()})
    run = outcome("logs.search")
    assert (run.status, run.evidence["dropped"]) == ("warn", 12)
    LogLine.objects.all().delete()
    write_status(process="h:1:1", role="worker", facts={"trouble": "OperationalError: gone", "waiting": 3})
    assert outcome("logs.search").sentence.endswith(
        "cannot write its log lines: OperationalError: gone. They wait in memory."
    )
    LogLine.objects.all().delete()
    # The process lives and its logbook has said nothing for minutes.
    now = timezone.now()
    Process.objects.create(name=WORKER, role="worker", host="h", pid=1, boot_id=boot_id(), started_at=now, seen_at=now)
    write_status(process=WORKER, role="worker", facts={})
    LogLine.objects.update(at=now - timedelta(minutes=5))
    run = outcome("logs.search")
    assert run.status == "fail"
    assert run.evidence["silent"] == [WORKER]


def test_a_finder_that_finds_nothing_is_noticed(monkeypatch, db):
    monkeypatch.setitem(
        explorer._finders, "void", explorer.Finder("void", "empty things", lambda term: [], lambda: "something")
    )
    run = outcome("debug.explorer")
    assert run.status == "fail"
    assert "empty things" in run.sentence


def test_a_captured_secret_is_noticed(db):
    from django.utils import timezone

    from ops.models import Exchange
    from ops.redaction import add_secret

    capture = Capture.objects.create(until=timezone.now(), started_by="test")
    Exchange.objects.create(
        capture=capture, at=timezone.now(), method="GET", url="http://x", request_body="the-word-of-the-day"
    )
    assert outcome("debug.wire").status == "pass"
    add_secret("the-word-of-the-day")
    assert outcome("debug.wire").status == "fail"


def test_checks_ask_a_constant_number_of_times(db, django_assert_max_num_queries):
    from django.utils import timezone

    LogLine.objects.bulk_create(
        LogLine(at=timezone.now(), level="error", event=f"boom {n}", logger="x") for n in range(3000)
    )
    with django_assert_max_num_queries(8):
        get_check("logs.signatures").function()


def test_ordinary_words_of_a_repair_stay_readable_and_its_secrets_do_not(db):
    from ops.models import RepairRun
    from ops.redaction import redact_text

    RepairRun.objects.create(
        repair_id="x",
        repair_class="A",
        actor="test",
        params={"logger": "chat.somewhere", "new_password": "opensesame-1"},
        snapshot={"rows": [{"name": "Prudence", "access_token": "opensesame-2"}], "secrets": ["opensesame-3"]},
    )
    text = "chat.somewhere Prudence opensesame-1 opensesame-2 opensesame-3"
    assert redact_text(text) == "chat.somewhere Prudence [hidden] [hidden] [hidden]"
