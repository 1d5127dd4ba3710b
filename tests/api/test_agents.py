"""Agents, memory, mappings, rooms, sync and the hook."""

from __future__ import annotations

import json

import pytest

from agents.models import Agent, Mapping, MemoryEdit, Room, SyncRun
from agents.services.sync import sync_agents
from ops.models import AuditEvent, Job
from tests.api.conftest import Api


@pytest.fixture
def connected(make_agent):
    return make_agent("demo-ada", "Ada", room=True)


def test_agents_are_listed_searched_and_read(api, connected, make_agent):
    make_agent("demo-echo", "Echo", state="archived", paused=True)
    found = api("get", "agents")["items"]
    assert [row["name"] for row in found] == ["Ada", "Echo"]
    assert found[0]["room"] == {
        "id": connected.mapping.room_id,
        "room_id": "!demo-ada:hs",
        "alias": "#agent_demo-ada:hs",
    }
    assert found[1]["room"] is None
    for query in (
        "search=ad",
        "search=@agent_demo-ada:hs",
        "search=demo-ada",
        "external_id=demo-ada",
        "state=active",
        "paused=false",
    ):
        assert [row["name"] for row in api("get", f"agents?{query}")["items"]] == ["Ada"], query
    one = api("get", f"agents/{connected.pk}")
    assert {key: one[key] for key in found[0] if key not in {"created_at", "updated_at"}} == {
        key: value for key, value in found[0].items() if key not in {"created_at", "updated_at"}
    }
    assert one["has_memory"] is True


def test_an_agent_is_paused_and_its_policy_set(api, ada):
    found = api("patch", f"agents/{ada.pk}", {"paused": True, "memory_policy": "shared"})
    assert (found["paused"], found["memory_policy"]) == (True, "shared")
    assert api("patch", f"agents/{ada.pk}", {"paused": False})["paused"] is False
    api("patch", "agents/4711", {"paused": True}, status=404, code="resource.not_found")


@pytest.mark.django_db(transaction=True)
def test_memory_is_read_replaced_and_its_edits_kept(api, make_agent):
    agent = make_agent("demo-librarian", "Librarian")
    blocks = {block["label"]: block for block in api("get", f"agents/{agent.pk}/memory")["items"]}
    label = next(label for label, block in blocks.items() if not block["read_only"])
    written = api("put", f"agents/{agent.pk}/memory/{label}", {"value": "Moss is a cat."})
    assert written["value"] == "Moss is a cat."
    edits = api("get", f"agents/{agent.pk}/memory-edits")["items"]
    assert [(edit["label"], edit["after"], edit["actor"]) for edit in edits] == [(label, "Moss is a cat.", "token:ci")]
    api("put", f"agents/{agent.pk}/memory/no/such", {"value": "x"}, status=422, code="backend.rejected")
    api("put", f"agents/{agent.pk}/memory/{label}", {}, status=422, code="request.invalid")
    assert MemoryEdit.objects.count() == 1


def test_mappings_are_listed_and_read(api, connected):
    mapping = Mapping.objects.get()
    row = api("get", f"mappings?agent={connected.pk}&service=demo&trouble=false")["items"][0]
    assert (row["status"], row["account"]) == ("connected", "@agent_demo-ada:hs")
    assert api("get", f"mappings/{mapping.pk}") == row
    assert api("get", "mappings?trouble=true")["items"] == []
    api("get", "mappings/999", status=404)


def test_recreating_without_a_homeserver_says_so(api, connected):
    problem = api("post", f"mappings/{Mapping.objects.get().pk}/recreate", status=503, code="homeserver.unreachable")
    assert "does not answer" in problem["detail"]


def test_rooms_are_listed_read_and_quieted(api, connected):
    room = Room.objects.get()
    row = api("get", "rooms?search=ada&kind=agent&quiet=false")["items"][0]
    assert (row["agent"], row["link"]) == (connected.pk, "https://matrix.to/#/!demo-ada:hs")
    assert api("patch", f"rooms/{room.pk}", {"quiet": True})["quiet"] is True
    assert api("get", f"rooms/{room.pk}")["quiet"] is True
    api("patch", f"rooms/{room.pk}", {}, status=422, code="request.invalid")


@pytest.mark.django_db(transaction=True)
def test_a_dry_run_is_the_plan_and_changes_nothing(api, demo):
    plan = api("post", "sync", {"dry_run": True})
    assert plan["planned"]["agent.create"] >= 5
    assert plan["run"] is None
    assert not Agent.objects.exists()
    assert not Job.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_sync_starts_one_job_however_often_it_is_asked_for(api, demo):
    first = api("post", "sync", {}, status=202)
    assert api("post", "sync", {}, status=202)["id"] == first["id"]
    assert (first["kind"], first["actor"], first["trigger"]) == ("agents.sync", "token:ci", "api")
    assert api("get", first["url"])["id"] == first["id"]
    problem = api("post", "sync", {"service": "nobody"}, status=422, code="sync.unknown_service")
    assert problem["errors"][0]["field"] == "service"
    api("post", "sync", {"service": "nobody", "dry_run": True}, status=422, code="sync.unknown_service")


@pytest.mark.django_db(transaction=True)
def test_passes_of_sync_are_listed_with_their_steps(api, demo):
    sync_agents(actor="test")
    run = SyncRun.objects.get()
    row = api("get", "sync/runs?state=done")["items"][0]
    assert (row["id"], row["counts"]["agent.create"]) == (run.pk, Agent.objects.count())
    assert len(api("get", f"sync/runs/{run.pk}")["plan"]) >= Agent.objects.count()
    api("get", "sync/runs/999", status=404)


BODY = {"agent_id": "agent-1", "timestamp": "2026-01-01T00:00:00Z"}


def test_the_hook_starts_a_sync_with_its_own_token(db, demo, settings):
    settings.NEW_AGENT_WEBHOOK_TOKEN = "hook-token-123456"
    hook = Api("hook-token-123456")
    answer = hook("post", "/webhook/new-agent", BODY, status=202)
    assert (answer["status"], answer["agent_id"]) == ("accepted", "agent-1")
    assert hook("post", "/webhook/new-agent", {**BODY, "agent_id": "agent-2"}, status=202)["job"] == answer["job"]
    assert hook("post", "/webhook/new-agent", status=202)["job"] == answer["job"]
    assert Job.objects.get().actor == "webhook:new-agent"
    # Nothing else opens with it.
    hook("get", "me", status=401)


def test_the_hook_takes_operators_tokens_that_write(api, reader, demo, settings):
    settings.NEW_AGENT_WEBHOOK_TOKEN = ""
    api("post", "/webhook/new-agent", BODY, status=202)
    assert AuditEvent.objects.get(action="job.started").actor == "token:ci"
    reader("post", "/webhook/new-agent", BODY, status=403, code="auth.scope")
    for wrong in ("", "Bearer ", "Bearer wrong"):
        Api()("post", "/webhook/new-agent", BODY, status=401, **({"Authorization": wrong} if wrong else {}))


@pytest.mark.parametrize(
    ("body", "status"), [(b"{", 400), (b"[]", 422), (b'{"agent_id": 5}', 422), (b" " * 70000, 413)]
)
def test_the_hook_refuses_bad_bodies(api, body, status):
    api("post", "/webhook/new-agent", body, status=status)
    assert not Job.objects.exists()


def test_the_hook_may_be_repeated_with_a_key(api, demo):
    first = api("post", "/webhook/new-agent", BODY, status=202, key="k1")
    assert api("post", "/webhook/new-agent", BODY, status=202, key="k1") == first
    assert api.response.headers["Idempotency-Replayed"] == "true"
    assert json.loads(api.response.content) == first
