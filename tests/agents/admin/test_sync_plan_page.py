"""A plan that stopped asks in the words of what was lost, and is applied only when the right word is typed."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse

from agents.admin import sync
from agents.services.sync import SyncReport
from agents.sync.steps import Step, SyncPlan
from agents.sync.stops import HOMESERVER_EMPTY, STATE_LOST
from ops.findings import Finding
from ops.models import Job
from tests.admin.conftest import World

ADDRESS = "admin:agents_syncrun_plan"


@pytest.mark.parametrize(
    ("code", "title", "word", "other"),
    [
        (HOMESERVER_EMPTY, "Make everything again on the homeserver", "again", "archive"),
        (STATE_LOST, "Make new rooms anyway", "new", "again"),
    ],
)
def test_what_was_lost_is_named_and_its_word_is_needed(
    world: World, client: Any, monkeypatch: pytest.MonkeyPatch, code: str, title: str, word: str, other: str
) -> None:
    def planned(**given: Any) -> SyncReport:
        if given.get("force"):
            return SyncReport(SyncPlan([Step("account.register", "1", "Agent 000")]))
        finding = Finding("error", code, "It looks lost.")
        return SyncReport(SyncPlan(findings=[finding], stopped=["demo"]), findings=[finding])

    monkeypatch.setattr(sync, "sync_agents", planned)
    text = client.get(reverse(ADDRESS)).content.decode()
    assert "It looks lost." in text
    assert title in text
    assert "archive" not in text
    assert (reverse("admin:homeserver_restore") in text) is (code == STATE_LOST)
    said = {"service": "", "force": "yes", "word": word}
    client.post(reverse(ADDRESS), {**said, "confirm": other})
    client.post(reverse(ADDRESS), {**said, "word": "yes", "confirm": "yes"})
    assert not Job.objects.filter(kind="agents.sync", params__force=True).exists()
    client.post(reverse(ADDRESS), {**said, "confirm": word})
    assert Job.objects.filter(kind="agents.sync", params__force=True).count() == 1
