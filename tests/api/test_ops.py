"""Services, jobs, checks, the audit log."""

from __future__ import annotations

import pytest

from agents.models import Agent
from ops.models import AuditEvent, CheckState, Job, Service
from ops.registry import CheckOutcome, register_check, unregister_check
from ops.runner import run_checks
from ops.services.jobs import job_start
from tests.api.conftest import SECRET


def test_a_service_is_made_changed_tested_and_removed(api):
    body = {"name": "mine", "kind": "demo", "credentials": {"api_key": SECRET}, "options": {"speed": 0}}
    made = api("post", "services", body, status=201)
    assert made["credentials_set"] == ["api_key"]
    assert "credentials" not in made
    api("post", "services", body, status=409, code="service.exists")
    changed = api("patch", "services/mine", {"options": {"speed": 5}})
    assert (changed["options"], changed["credentials_set"]) == ({"speed": 5}, ["api_key"])
    assert Service.objects.get().credentials == {"api_key": SECRET}
    api("patch", "services/mine", {"credentials": {}})
    assert Service.objects.get().credentials == {}
    tested = api("post", "services/mine/test")
    assert (tested["status"], tested["service"]["status"]) == ("ok", "ok")
    assert api("patch", "services/mine", {"enabled": False})["status"] == "off"
    assert [row["name"] for row in api("get", "services?kind=demo&status=off")["items"]] == ["mine"]
    assert api("delete", "services/mine", status=204) is None
    api("get", "services/mine", status=404, code="resource.not_found")
    actions = set(AuditEvent.objects.filter(actor="token:ci").values_list("action", flat=True))
    assert actions == {"service.created", "service.changed", "service.tested", "service.deleted"}


def test_a_service_with_wrong_fields_says_which(api):
    problem = api(
        "post",
        "services",
        {"name": "Bad Name", "kind": "letta", "base_url": "ftp://x"},
        status=422,
        code="request.invalid",
    )
    assert {error["field"] for error in problem["errors"]} == {"name", "base_url"}


def test_an_address_with_a_password_is_refused_and_not_repeated(api):
    problem = api("post", "services", {"name": "a", "kind": "letta", "base_url": f"http://u:{SECRET}@host"}, status=422)
    assert problem["errors"][0]["field"] == "base_url"


def test_a_service_in_use_stays(api, ada):
    problem = api("delete", "services/demo", status=409, code="resource.in_use")
    assert "1 agent belongs to it" in problem["detail"]
    assert Agent.objects.exists()


def test_unreadable_credentials_are_said_so(api, demo, settings):
    from cryptography.fernet import Fernet

    settings.FIELD_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    found = api("get", "services/demo")
    assert (found["credentials_readable"], found["credentials_set"]) == (False, [])


def test_a_job_with_its_log_is_read_and_cancelled(api, db):
    job = job_start(kind="agents.sync", actor="test", params={}, queue=False)
    for number in range(3):
        job.lines.create(at=job.created_at, level="info", text=f"line {number}")
    found = api("get", f"jobs/{job.pk}")
    assert [line["text"] for line in found["lines"]] == ["line 0", "line 1", "line 2"]
    assert len(api("get", f"jobs/{job.pk}?lines_after={found['lines'][1]['id']}")["lines"]) == 1
    assert [row["id"] for row in api("get", "jobs?state=queued&kind=agents.sync")["items"]] == [str(job.pk)]
    assert api("post", f"jobs/{job.pk}/cancel", status=202)["state"] == "cancelled"
    api("post", f"jobs/{job.pk}/cancel", status=409, code="job.ended")
    api("get", "jobs/00000000-0000-4000-8000-000000000000", status=404)


@pytest.fixture
def lab_check(db):
    box = {"outcome": CheckOutcome("pass", "It is well.")}
    register_check("lab.works", title="The lab works")(lambda: box["outcome"])
    yield box
    unregister_check("lab.works")


@pytest.mark.django_db(transaction=True)
def test_a_check_is_run_now_and_its_state_listed(api, lab_check):
    lab_check["outcome"] = CheckOutcome("fail", "The lab is on fire.", {"celsius": 800})
    runs = api("post", "checks/lab.works/run")["runs"]
    assert (runs[0]["status"], runs[0]["evidence"]) == ("fail", {"celsius": 800})
    states = api("get", "checks?status=fail")["items"]
    assert [(state["check"], state["title"], state["failures_in_a_row"]) for state in states] == [
        ("lab.works", "The lab works", 1)
    ]
    assert CheckState.objects.get().status == "fail"
    assert AuditEvent.objects.filter(action="check.run", actor="token:ci").exists()
    api("post", "checks/no.such/run", status=404, code="resource.not_found")
    assert run_checks(["lab.works"])


def test_the_audit_log_is_filtered(api, ada):
    api("patch", f"agents/{ada.pk}", {"paused": True})
    rows = api("get", f"audit?target_type=agents.agent&target_id={ada.pk}&actor=token:ci")["items"]
    assert [(row["action"], row["after"]) for row in rows] == [("agent.paused", {"paused": True})]
    assert rows[0]["request_id"]
    assert api("get", "audit?since=2199-01-01T00:00:00Z")["items"] == []
    assert Job.objects.count() == 0
