"""Checks, issues, repairs."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from ops.doctor.guides import Guide, GuideStep, register_guide
from ops.models import AuditEvent, Issue, RepairRun
from ops.registry import register_check
from ops.runner import run_checks
from tests.ops.conftest import clean_registry  # noqa: F401
from tests.ops.doctor.conftest import clean_doctor, lamp  # noqa: F401
from tests.support.stage import _fake_homeserver, stage  # noqa: F401


@pytest.fixture
def issue(lamp, api):  # noqa: F811
    lamp.broken = {"agent:1", "agent:2"}
    run_checks()
    return Issue.objects.get()


def test_a_check_is_explained_with_its_remedy(lamp, api):  # noqa: F811
    @register_check("net.dns", title="Names resolve", depends_on=("lamp.on",))
    def dns():
        """Asks the resolver."""

    @register_guide("net.dns")
    def guide(target, evidence):
        return Guide("Make it resolve", "It is unknown.", (GuideStep("Add it.", "127.0.0.1 x", place="/etc/hosts"),))

    about = api("get", "checks/net.dns")
    assert (about["about"], about["guide"], about["entries"][0]["number"]) == ("Asks the resolver.", True, 16)
    assert api("get", "checks/lamp.on")["dependants"] == ["net.dns"]
    assert api("get", "checks/16/guide")["steps"][0]["place"] == "/etc/hosts"
    api("get", "checks/lamp.on/guide", status=404)
    api("get", "checks/nope", status=404)
    entries = api("get", "checks/entries")["items"]
    assert len(entries) == 121
    assert next(one for one in entries if one["id"] == "net.dns")["coverage"] == "guide"


def test_running_a_check_answers_what_it_found(lamp, api):  # noqa: F811
    lamp.broken = {"agent:1"}
    (run,) = api("post", "checks/lamp.on/run")["runs"]
    assert (run["status"], run["affected"], run["affected_count"]) == (
        "fail",
        [{"target": "agent:1", "sentence": "It is dark."}],
        1,
    )


def test_issues_are_listed_and_handled(issue, api):
    (one,) = api("get", "issues?state=unresolved&severity=critical&target=agent:2")["items"]
    assert (one["id"], one["fix"]["repair"], one["affected_count"]) == (issue.pk, "lamp.switch", 2)
    assert api("get", "issues?target=agent:9")["items"] == []
    found = api("get", f"issues/{issue.pk}")
    assert [row["target"] for row in found["affected"]] == ["agent:1", "agent:2"]
    assert api("post", f"issues/{issue.pk}/ack", {"note": "Mine."})["state"] == "acknowledged"
    until = (timezone.now() + timedelta(hours=1)).isoformat()
    assert api("post", f"issues/{issue.pk}/snooze", {"until": until})["state"] == "snoozed"
    past = (timezone.now() - timedelta(hours=1)).isoformat()
    problem = api("post", f"issues/{issue.pk}/snooze", {"until": past}, status=422)
    assert problem["errors"][0]["field"] == "until"
    assert api("post", f"issues/{issue.pk}/ignore", {})["state"] == "ignored"
    assert api("post", f"issues/{issue.pk}/reopen", {})["state"] == "open"
    api("get", "issues/999999", status=404)
    assert AuditEvent.objects.filter(actor="token:ci", action__startswith="issue.").count() == 4


def test_a_repair_is_planned_done_and_undone(issue, lamp, api):  # noqa: F811
    plan = api("post", f"issues/{issue.pk}/fix", {"dry_run": True})
    assert (plan["changes_count"], plan["unneeded"], lamp.applied) == (2, False, 0)
    run = api("post", f"issues/{issue.pk}/fix", {}, status=202, key="fix-1")
    assert (run["state"], run["checks_after"], run["undoable"]) == ("succeeded", {"lamp.on": "pass"}, True)
    assert api("post", f"issues/{issue.pk}/fix", {}, status=202, key="fix-1")["id"] == run["id"]
    assert RepairRun.objects.count() == 1
    assert api("post", "repairs/lamp.switch", {}, status=202)["state"] == "unneeded"
    assert api("get", f"repair-runs/{run['id']}")["id"] == run["id"]
    assert api("post", f"repair-runs/{run['id']}/undo")["state"] == "undone"
    assert lamp.broken == {"agent:1", "agent:2"}
    api("post", f"repair-runs/{run['id']}/undo", status=409, code="repair.refused")
    assert len(api("get", "repair-runs?repair=lamp.switch")["items"]) == 2


def test_repairs_are_listed_and_may_be_allowed(lamp, api):  # noqa: F811
    assert api("put", "repairs/lamp.switch/policy", {"automatic": True})["automatic"] is True
    mine = next(one for one in api("get", "repairs")["items"] if one["id"] == "lamp.switch")
    assert (mine["class"], mine["checks"], mine["automatic"]) == ("A", ["lamp.on"], True)
    assert api("get", "repairs/lamp.switch")["undo"] is True
    api("get", "repairs/nope", status=404)
    api("post", "repairs/nope", {}, status=404)


def test_one_without_a_repair_points_to_its_guide(api, issue):
    Issue.objects.update(check_id="other", fix={})
    problem = api("post", f"issues/{issue.pk}/fix", {}, status=409, code="repair.refused")
    assert "/api/v1/checks/other/guide" in problem["detail"]


def test_a_trace_says_where_it_stopped(api, stage):  # noqa: F811
    from chat.models import Message, Turn
    from ops.services.heartbeats import stamp

    stamp()
    agent = stage.agent("Ada")
    room = stage.room("Ada")
    stage.enters(agent)
    stage.says(agent, "Hello")
    message = Message.objects.get(role="user")
    found = api("get", f"traces/{message.pk}")
    assert (found["message"], found["agent"]) == (message.pk, agent.pk)
    assert {"homeserver", "received", "stored"} <= {hop["name"] for hop in found["hops"]}
    assert api("get", f"traces/agents/{agent.pk}")["message"] == message.pk
    assert api("get", f"traces/rooms/{room.pk}")["message"] == message.pk
    Turn.objects.update(state="dead", error_public="It broke.", error_code="backend.broken")
    red = api("get", f"traces/{message.pk}")
    assert red["red_hop"] is not None
    assert red["offer"]["repair"] == "agent.diagnose"
    api("get", "traces/999999", status=404)
    api("get", "traces/nothing/1", status=422)
