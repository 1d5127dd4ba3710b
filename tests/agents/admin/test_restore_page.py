"""After a loss: what the homeserver has of ours is shown before a row is written, with what is in doubt."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse

from agents.admin import restore
from agents.backends.base import AgentInfo
from agents.services.backends import homeserver_of
from agents.services.rebuild import RebuildPlan
from agents.sync.rebuild import Claim, Doubt, Search, Wanted
from agents.sync.seen import SeenAccount, SeenRoom
from ops.models import Job
from tests.admin.conftest import World

ADDRESS = "admin:homeserver_restore"


def found(world: World) -> RebuildPlan:
    room = SeenRoom("!found:hs.test", "@agent_9:hs.test", "", "Nine", "", "#agent_9:hs.test", False, "", "", {}, {})
    account = SeenAccount("@agent_9:hs.test", "Nine", "", "!found:hs.test", (room,))
    claim = Claim(Wanted("demo", "demo", AgentInfo(external_id="id-9", name="Nine")), account, room, "alias")
    doubt = Doubt("demo/id-8", "Eight", "Two rooms are equally good.", ("!one:hs.test", "!two:hs.test"))
    return RebuildPlan(homeserver_of(world.homeserver), "", Search(claims=[claim], doubts=[doubt]), known=1)


def test_looking_shows_and_changes_nothing_and_writing_is_a_job(
    world: World, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(restore, "rebuild_plan", lambda **given: asked.append(given) or found(world))
    text = client.get(reverse(ADDRESS)).content.decode()
    assert not asked
    assert "Write these rows" not in text
    text = client.get(reverse(ADDRESS), {"look": "yes", "service": "demo"}).content.decode()
    assert asked[0]["service_name"] == "demo"
    assert "The homeserver has 1 agent that is not mapped here" in text
    for words in ("!found:hs.test", "@agent_9:hs.test", "Two rooms are equally good.", "!two:hs.test"):
        assert words in text
    assert not Job.objects.filter(kind="agents.rebuild").exists()
    answer = client.post(reverse(ADDRESS), {"service": "demo"})
    job = Job.objects.get(kind="agents.rebuild")
    assert answer["Location"] == reverse("admin:ops_job_change", args=[job.pk])
    assert job.params == {"service": "demo"}


def test_a_homeserver_that_does_not_answer_is_said(world: World, client: Any) -> None:
    # Nothing listens at its address.
    text = client.get(reverse(ADDRESS), {"look": "yes"}).content.decode()
    assert "Cannot be looked at" in text
    assert "Write these rows" not in text
    assert "There is no enabled service" in client.get(reverse(ADDRESS), {"look": "1", "service": "x"}).content.decode()
