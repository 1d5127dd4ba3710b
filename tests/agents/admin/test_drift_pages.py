"""Drift stands where an operator looks for it: in the lists, on the agent's page, and with both sides on its own page."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from agents.admin import agent_deeds
from agents.models import Drift, DriftKind, Mapping
from tests.admin.conftest import World, make_agents


def make_drift(mapping: Mapping | None, world: World, kind: str = DriftKind.ROOM_NAME, **fields: Any) -> Drift:
    now = timezone.now()
    values = {
        "sentence": "The room is called Bibliothek.",
        "detail": {"stored": {"name": "Agent 000", "topic": ""}, "found": {"name": "Bibliothek", "topic": ""}},
        "found_at": now,
        "seen_at": now,
    }
    return Drift.objects.create(homeserver=world.homeserver, mapping=mapping, kind=kind, **{**values, **fields})


def page(client: Any, name: str, *args: Any, **query: Any) -> str:
    answer = client.get(reverse(f"admin:{name}", args=args), query)
    assert answer.status_code == 200
    return str(answer.content.decode())


def test_an_agents_page_shows_what_differs_side_by_side(world: World, client: Any) -> None:
    row = make_drift(world.mapping, world, error="M_FORBIDDEN: not allowed")
    text = page(client, "agents_agent_change", world.agent.pk)
    assert "Differs on the homeserver" in text
    assert "The room is called Bibliothek." in text
    assert '<code class="sb-differs">Bibliothek</code>' in text
    assert "M_FORBIDDEN: not allowed" in text
    assert reverse("admin:agents_drift_change", args=[row.pk]) in text
    Drift.objects.update(mended_at=timezone.now())
    assert "Differs on the homeserver" not in page(client, "agents_agent_change", world.agent.pk)


def test_a_difference_says_what_mends_it_or_that_it_is_a_decision(world: World, client: Any) -> None:
    mended_by_sync = make_drift(world.mapping, world)
    decision = make_drift(world.mapping, world, DriftKind.ROOM_DOUBLE, mends=False, sentence="Two rooms.")
    text = page(client, "agents_drift_change", mended_by_sync.pk)
    assert "The next sync mends it" in text
    assert reverse("admin:agents_syncrun_plan") in text
    assert "Two rooms." in text  # the agent's other difference
    text = page(client, "agents_drift_change", decision.pk)
    assert "Needs a decision" in text
    assert "either side may be the right one" in text


def test_the_list_holds_what_is_open_and_finds_the_rest(world: World, client: Any) -> None:
    make_drift(world.mapping, world, sentence="Open one.")
    make_drift(None, world, DriftKind.SPACE_DOUBLE, mends=False, sentence="A second space.")
    make_drift(world.mapping, world, sentence="Mended one.", key="other", mended_at=timezone.now())

    def found(**query: Any) -> set[str]:
        text = page(client, "agents_drift_changelist", **query)
        return {one for one in ("Open one.", "A second space.", "Mended one.") if one in text}

    assert found() == {"Open one.", "A second space."}
    assert found(standing="decide") == {"A second space."}
    assert found(standing="mended") == {"Mended one."}
    assert found(standing="all") == {"Open one.", "A second space.", "Mended one."}
    assert found(q="second") == {"A second space."}


def test_lists_of_agents_and_mappings_show_and_filter_drift(world: World, client: Any) -> None:
    make_agents(world.demo, world.homeserver, 2, start=1)
    second = Mapping.objects.get(agent__name="Agent 001")
    make_drift(world.mapping, world)
    make_drift(second, world)
    make_drift(second, world, DriftKind.ROOM_DOUBLE, mends=False)
    for name in ("agents_agent_changelist", "agents_mapping_changelist"):
        text = page(client, name)
        assert "Room has another name or topic" in text
        assert "2 differences" in text

        def found(name: str = name, **query: Any) -> list[str]:
            text = page(client, name, **query)
            return [one for one in ("Agent 000", "Agent 001", "Agent 002") if f">{one}<" in text]

        assert found(drift="open") == ["Agent 000", "Agent 001"]
        assert found(drift="decide") == ["Agent 001"]
        assert found(drift="none") == ["Agent 002"]


def test_decisions_are_told_on_the_dashboard_and_counted_in_the_navigation(world: World, client: Any) -> None:
    assert "waits for a decision" not in page(client, "index")
    make_drift(world.mapping, world)
    make_drift(None, world, DriftKind.SPACE_DOUBLE, mends=False)
    text = page(client, "index")
    assert "1 difference between a mapping and the homeserver waits for a decision." in text
    assert reverse("admin:agents_drift_changelist") + "?standing=decide" in text


def test_queries_do_not_grow_with_drift(world: World, client: Any) -> None:
    def queries(name: str, *args: Any) -> int:
        with CaptureQueriesContext(connection) as asked:
            page(client, name, *args)
        return len(asked)

    names: list[tuple[Any, ...]] = [
        ("agents_agent_changelist",),
        ("agents_mapping_changelist",),
        ("agents_drift_changelist",),
        ("agents_agent_change", world.agent.pk),
    ]
    make_agents(world.demo, world.homeserver, 4, start=1)
    one = make_drift(world.mapping, world)
    page(client, "index")
    few = [queries(*name) for name in names]
    few_on_page = queries("agents_drift_change", one.pk)
    make_agents(world.demo, world.homeserver, 60, start=5)
    for mapping in Mapping.objects.all():
        for number in range(3):
            make_drift(mapping, world, key=str(number))
    assert [queries(*name) for name in names] == few
    assert queries("agents_drift_change", one.pk) == few_on_page


def test_an_operator_may_compare_at_once(world: World, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    address = reverse("admin:agents_agent_deed", args=[world.agent.pk, "compare"])
    assert address in page(client, "agents_agent_change", world.agent.pk)
    # Nothing listens at its address: it is said, and nothing is written.
    client.post(address)
    assert not Drift.objects.exists()
    asked: list[Any] = []

    def look(**given: Any) -> list[Drift]:
        asked.append(given["mappings"])
        return [make_drift(world.mapping, world)]

    monkeypatch.setattr(agent_deeds, "look", look)
    answer = client.post(address, follow=True)
    assert asked == [[world.mapping]]
    assert "1 difference found. The page shows what mends it." in answer.content.decode()
    assert "The room is called Bibliothek." in answer.content.decode()
