from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from ops import audit_guard
from ops.logs import bind
from ops.models import AuditEvent, AuditIsAppendOnly, AuditPruning, Service
from ops.services.audit import changes, prune, record


@pytest.mark.django_db
def test_an_event_says_who_did_what_to_what_within_which_request():
    service = Service.objects.create(name="letta", kind="lab")
    with bind(request_id="req-12345678"):
        record(
            actor="person:alice",
            action="service.changed",
            target=service,
            message="why",
            before={"a": 1},
            after={"a": 2},
        )
    event = AuditEvent.objects.get()
    assert (event.actor, event.action, event.request_id) == ("person:alice", "service.changed", "req-12345678")
    assert (event.target_type, event.target_id, event.target_label) == ("ops.service", str(service.pk), "letta")
    assert (event.before, event.after) == ({"a": 1}, {"a": 2})


@pytest.mark.django_db
def test_secrets_are_masked():
    record(
        actor="a",
        action="x",
        message="token=abc123456",
        after={"api_key": "abc123456", "when": timezone.now(), "n": {"password": "p"}},
    )
    event = AuditEvent.objects.get()
    assert "abc123456" not in f"{event.message}{event.after}"
    assert event.after["n"] == {"password": "[hidden]"}
    assert event.after["when"].startswith("20")


@pytest.mark.django_db
def test_the_orm_refuses_changes():
    event = record(actor="a", action="x")
    for attempt in (
        event.save,
        event.delete,
        AuditEvent.objects.all().delete,
        lambda: AuditEvent.objects.update(actor="b"),
        lambda: AuditEvent.objects.bulk_update([event], ["actor"]),
        lambda: AuditEvent._base_manager.all().delete(),
    ):
        with pytest.raises(AuditIsAppendOnly):
            attempt()


@pytest.mark.django_db
@pytest.mark.parametrize("statement", ["UPDATE ops_auditevent SET actor = 'b'", "DELETE FROM ops_auditevent"])
def test_the_database_refuses_raw_changes(statement):
    record(actor="a", action="x")
    assert audit_guard.is_installed(connection)
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
    assert AuditEvent.objects.get().actor == "a"


@pytest.mark.django_db
def test_pruning_needs_a_reason_and_leaves_a_record():
    record(actor="a", action="old")
    with pytest.raises(ValueError, match="reason"):
        prune(actor="person:alice", older_than=timezone.now(), reason=" ")
    assert prune(actor="person:alice", older_than=timezone.now() + timedelta(seconds=1), reason="GDPR request 7") == 1
    assert list(AuditEvent.objects.values_list("action", flat=True)) == ["audit.pruned"]
    pruning = AuditPruning.objects.get()
    assert (pruning.deleted, pruning.open, pruning.reason) == (1, False, "GDPR request 7")
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM ops_auditevent")


def test_changes_keeps_only_what_differs():
    assert changes({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}) == ({"b": 2}, {"b": 3, "c": 4})


@pytest.mark.django_db(transaction=True)
def test_flush_empties_the_log_and_the_guard_is_back():
    from django.core.management import call_command

    record(actor="a", action="x")
    call_command("flush", interactive=False, verbosity=0)
    assert not AuditEvent.objects.exists()
    assert audit_guard.is_installed(connection)
