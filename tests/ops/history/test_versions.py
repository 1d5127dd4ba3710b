"""Versions of objects: written with the change, nothing for nothing, secrets sealed, brought back through the services."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from ops.history import beginnings
from ops.history.registry import CannotBringBack
from ops.live import live, live_clear, live_set
from ops.models import AlertChannel, AuditEvent, ObjectVersion, Service
from ops.retention import purge_automatic
from ops.services.alerts import channel_delete, channel_save
from ops.services.audit import record, record_each
from ops.services.services import service_delete, service_save, service_test
from ops.services.versions import bring_back, changed, deleted_objects, difference, versions_of, with_changes

pytestmark = pytest.mark.django_db
FIRST, SECOND = "lab-token-778899", "lab-token-000111"


def save(**fields):
    return service_save(
        **{
            "actor": "person:alice",
            "name": "lab-1",
            "kind": "lab",
            "base_url": "http://127.0.0.1:9",
            "credentials": {"token": FIRST},
            "options": {"depth": 3},
            **fields,
        }
    )


def test_a_change_leaves_a_version_and_what_is_observed_leaves_none(lab_kind):
    service = save()
    save(base_url="http://127.0.0.1:10", options={"depth": 4})
    service_test(service=Service.objects.get(), actor="person:alice")
    newest, first = versions_of(service)
    assert (newest.action, newest.actor, newest.label) == ("service.changed", "person:alice", "lab-1")
    assert {(one.field, one.before, one.after) for one in changed(first, newest)} == {
        ("base_url", "http://127.0.0.1:9", "http://127.0.0.1:10"),
        ("options.depth", 3, 4),
    }
    assert [[one.field for one in found] for _, found in with_changes([newest, first])] == [
        ["base_url", "options.depth"],
        [],
    ]
    # The last one of a page knows what came before it, on the next page.
    assert [[one.field for one in found] for _, found in with_changes([newest])] == [["base_url", "options.depth"]]


def test_a_version_goes_with_the_transaction_of_its_change(lab_kind):
    service = save()
    with transaction.atomic():
        save(base_url="http://127.0.0.1:10")
        assert versions_of(service).count() == 2
        transaction.set_rollback(True)
    assert versions_of(service).count() == 1


def test_secrets_lie_sealed_and_come_back(lab_kind):
    service = save()
    save(credentials={"token": SECOND})
    first = versions_of(service).last()
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM ops_objectversion")
        stored = repr(cursor.fetchall())
    assert "enc1:" in stored
    assert FIRST not in stored
    assert SECOND not in stored
    [one] = difference(first)
    assert (one.field, one.secret) == ("credentials", True)
    assert FIRST not in repr(one)
    done = bring_back(version=first, actor="person:bob")
    assert Service.objects.get().credentials == {"token": FIRST}
    assert FIRST not in done.sentence
    newest = versions_of(service).first()
    assert newest.actor == "person:bob"
    assert newest.message.startswith("As it was on ")
    assert difference(first) == []


def test_what_was_deleted_comes_back_with_its_versions(lab_kind):
    service = save()
    key = service.pk
    service_delete(service=service, actor="person:alice")
    [gone] = deleted_objects("ops.Service")
    assert (gone.deleted, gone.action, gone.label) == (True, "service.deleted", "lab-1")
    done = bring_back(version=gone, actor="person:bob")
    again = Service.objects.get()
    assert (again.credentials, again.options) == ({"token": FIRST}, {"depth": 3})
    assert done.object_id == str(again.pk)
    # Its whole history stands under the number that it has now.
    assert [row.action for row in versions_of(again)] == ["service.created", "service.deleted", "service.created"]
    if again.pk != key:
        assert not versions_of("ops.service", key).exists()
    assert not deleted_objects("ops.Service").exists()
    assert AuditEvent.objects.filter(action="version.brought_back", target_id=str(again.pk)).exists()


def test_what_cannot_be_brought_back_says_why_and_changes_nothing(lab_kind):
    service = save()
    save(base_url="http://127.0.0.1:10")
    first = versions_of(service).last()
    first.state["kind"] = "gone-kind"
    first.save()
    with pytest.raises(CannotBringBack) as caught:
        bring_back(version=first, actor="person:bob")
    assert "gone-kind" in caught.value.sentence
    assert Service.objects.get().base_url == "http://127.0.0.1:10"
    assert not AuditEvent.objects.filter(action="version.brought_back").exists()


def test_an_object_older_than_its_history_shows_what_the_first_change_found(lab_kind):
    save()
    ObjectVersion.objects.all().delete()
    service = save(base_url="http://127.0.0.1:10")
    newest, began = versions_of(service)
    assert (began.action, began.state["base_url"]) == ("history.began", "http://127.0.0.1:9")
    assert newest.state["base_url"] == "http://127.0.0.1:10"


def test_channels_and_settings_come_back():
    channel = channel_save(actor="person:alice", name="Night", url="json://user:pass-4711@127.0.0.1:9/", enabled=False)
    channel_delete(channel=channel, actor="person:alice")
    bring_back(version=deleted_objects("ops.AlertChannel").get(), actor="person:bob")
    again = AlertChannel.objects.get()
    assert (again.name, str.__str__(again.url)) == ("Night", "json://user:pass-4711@127.0.0.1:9/")
    assert not again.enabled
    before = live("retention.hold")
    live_set(key="retention.hold", value=True, actor="person:alice")
    live_clear(key="retention.hold", actor="person:alice")
    assert live("retention.hold") is before
    bring_back(version=deleted_objects("ops.LiveSetting").get(), actor="person:bob")
    assert live("retention.hold") is True
    live_clear(key="retention.hold", actor="person:alice")
    live_set(key="retention.hold", value=True, actor="person:alice", expires_at=timezone.now() + timedelta(seconds=30))
    short = versions_of("ops.livesetting", "retention.hold").first()
    short.state["expires_at"] = (timezone.now() - timedelta(seconds=1)).isoformat()
    with pytest.raises(CannotBringBack, match="held until"):
        bring_back(version=short, actor="person:bob")


def test_thousands_cost_few_statements_and_unchanged_ones_no_rows():
    services = Service.objects.bulk_create([Service(name=f"many-{n}", kind="lab") for n in range(1200)])
    with CaptureQueriesContext(connection) as asked:
        record_each(actor="sync", action="service.seen", targets=[(row, "") for row in services])
    assert ObjectVersion.objects.count() == 1200
    # SQLite takes about a hundred rows a statement.
    assert len(asked) < 50
    record_each(actor="sync", action="service.seen", targets=[(row, "") for row in services])
    assert ObjectVersion.objects.count() == 1200


def test_what_keeps_no_versions_costs_nothing(alice):
    with CaptureQueriesContext(connection) as asked:
        record(actor="person:alice", action="token.created", target="ops.apitoken:7")
    assert len(asked) == 1


def test_objects_without_a_history_get_a_beginning_once_and_only_new_ones_are_looked_at(lab_kind):
    beginnings.forget()
    Service.objects.bulk_create([Service(name=f"many-{n}", kind="lab") for n in range(7)])
    known = save()
    assert beginnings.begin_histories(most=5) == 5
    assert beginnings.begin_histories() == 2
    assert beginnings.begin_histories() == 0
    assert ObjectVersion.objects.filter(action="history.began").count() == 7
    assert versions_of(known).count() == 1
    [later] = Service.objects.bulk_create([Service(name="later", kind="lab")])
    assert beginnings.begin_histories() == 1
    assert versions_of(later).get().state["name"] == "later"


def test_old_versions_go_but_what_an_object_is_stays(lab_kind):
    service = save()
    save(base_url="http://127.0.0.1:10")
    gone = save(name="lab-2")
    service_delete(service=gone, actor="person:alice")
    ObjectVersion.objects.update(at=timezone.now() - timedelta(days=400))
    save(base_url="http://127.0.0.1:11")
    save(name="lab-3")
    ObjectVersion.objects.filter(label="lab-3").update(at=timezone.now() - timedelta(days=400))
    # Of lab-1 both that are old, of lab-2, which is gone, everything; of lab-3 nothing came after its first.
    assert purge_automatic()["versions"] == 4
    assert [row.state["base_url"] for row in versions_of(service)] == ["http://127.0.0.1:11"]
    assert ObjectVersion.objects.filter(label="lab-3").count() == 1


def told(*arguments):
    out = StringIO()
    call_command("versions", *arguments, "--json", stdout=out)
    return json.loads(out.getvalue())


def test_from_the_terminal(lab_kind):
    service = save()
    save(base_url="http://127.0.0.1:10", credentials={"token": SECOND})
    assert {"kind": "ops.service", "label": "Service"} in told()
    newest, first = told("ops.service", str(service.pk))
    assert [(one["field"], one["after"]) for one in newest["changed"]] == [
        ("base_url", "http://127.0.0.1:10"),
        ("credentials", "[hidden]"),
    ]
    shown = told("--show", str(first["version"]))
    assert [one["before"] for one in shown["difference"]] == ["http://127.0.0.1:10", "[hidden]"]
    assert SECOND not in json.dumps([newest, first, shown])
    assert told("--bring-back", str(first["version"]))["object_id"] == str(service.pk)
    assert Service.objects.get().base_url == "http://127.0.0.1:9"
    service_delete(service=Service.objects.get(), actor="person:alice")
    assert [one["label"] for one in told("ops.service")] == ["lab-1"]
    with pytest.raises(CommandError, match="these do: "):
        told("ops.nothing")
