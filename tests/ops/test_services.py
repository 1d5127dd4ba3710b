from __future__ import annotations

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from ops.models import AuditEvent, Service
from ops.registry import TestResult
from ops.services.services import service_delete, service_ensure_from_environment, service_save, service_test

SECRET = "lab-token-778899"
pytestmark = pytest.mark.django_db


def save(**fields):
    return service_save(
        **{
            "actor": "person:alice",
            "name": "lab-1",
            "kind": "lab",
            "base_url": "http://127.0.0.1:9/",
            "credentials": {"token": SECRET},
            "options": {},
            **fields,
        }
    )


def test_saving_creates_audits_and_hides(lab_kind):
    service = save()
    assert service.base_url == "http://127.0.0.1:9"
    assert service.spec_dict() == {
        "name": "lab-1",
        "kind": "lab",
        "base_url": "http://127.0.0.1:9",
        "credentials": {"token": SECRET},
        "options": {},
    }
    event = AuditEvent.objects.get()
    assert event.action == "service.created"
    assert SECRET not in str(event.after)


def test_credentials_that_are_not_given_stay(lab_kind):
    save()
    assert save(credentials=None, options={"depth": 2}).spec_dict()["credentials"] == {"token": SECRET}
    event = AuditEvent.objects.first()
    assert (event.action, event.after) == ("service.changed", {"options": {"depth": 2}})


def test_changed_credentials_are_noted_without_their_value(lab_kind):
    save()
    save(credentials={"token": "another-token-1"})
    event = AuditEvent.objects.first()
    assert event.after == {"credentials_changed": True}


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"name": "Bad Name"}, "name"),
        ({"kind": "nonsense"}, "kind"),
        ({"base_url": ""}, "base_url"),
        ({"base_url": "ftp://x"}, "base_url"),
        ({"base_url": "http://u:p@x"}, "base_url"),
        ({"base_url": "http://x?key=1"}, "base_url"),
        ({"base_url": "http://x:99999"}, "base_url"),
        ({"credentials": {}}, "credentials"),
    ],
)
def test_what_cannot_work_is_refused_at_its_field(lab_kind, fields, place):
    with pytest.raises(ValidationError) as caught:
        save(**fields)
    assert place in caught.value.message_dict
    assert not Service.objects.exists()


def test_the_environment_writes_once(lab_kind, django_assert_num_queries):
    def ensure(**more):
        return service_ensure_from_environment(
            name="env", kind="lab", base_url="http://x", credentials={"token": SECRET}, options={"depth": 1}, **more
        )

    first = ensure()
    stamp = Service.objects.get().updated_at
    assert ensure().pk == first.pk
    assert Service.objects.get().updated_at == stamp
    assert AuditEvent.objects.count() == 1
    Service.objects.update(enabled=False)
    assert ensure().enabled is False


def test_the_environment_leaves_an_operators_service_alone(lab_kind):
    save(name="env")
    service = service_ensure_from_environment(
        name="env", kind="lab", base_url="http://other", credentials={"token": "x" * 8}
    )
    assert service.base_url == "http://127.0.0.1:9"
    assert service.managed_by == "operator"


def test_a_test_stores_what_it_found(lab_kind):
    service = save()
    lab_kind["answer"] = TestResult("ok", "Fine.", version="2.1", capabilities={"spaces": True}, latency_ms=12)
    assert service_test(service=service, actor="person:alice").ok
    read = Service.objects.get()
    assert (read.status, read.version, read.latency_ms, read.capabilities) == ("ok", "2.1", 12, {"spaces": True})
    assert read.last_ok_at is not None
    changed_at = read.status_changed_at
    service_test(service=read, actor="system")
    assert Service.objects.get().status_changed_at == changed_at
    assert AuditEvent.objects.filter(action="service.tested").count() == 1


def test_a_tester_that_raises_means_down_without_its_secret(lab_kind):
    service = save()
    lab_kind["answer"] = RuntimeError(f"401 for Bearer {SECRET}")
    result = service_test(service=service, actor="system")
    read = Service.objects.get()
    assert (result.status, read.status) == ("down", "down")
    assert SECRET not in read.status_sentence
    assert "401" in read.status_sentence


def test_a_result_for_an_old_configuration_is_not_stored(lab_kind):
    service = save()
    save(base_url="http://elsewhere")
    service_test(service=service, actor="system")
    assert Service.objects.get().status == "unknown"


def test_a_service_that_is_off_stays_off(lab_kind):
    service = save(enabled=False)
    service_test(service=service, actor="system")
    assert Service.objects.get().status == "off"
    assert save(enabled=True).status == "unknown"


def test_deleting_leaves_an_event(lab_kind):
    service_delete(service=save(), actor="person:alice")
    assert AuditEvent.objects.first().action == "service.deleted"
    assert not Service.objects.filter(created_at__lte=timezone.now()).exists()
