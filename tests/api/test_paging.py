"""Lists: every row once, whatever happens meanwhile, at a constant number of queries."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from agents.models import Agent
from ops.models import Job


def _agents(service, start: int, count: int) -> None:
    Agent.objects.bulk_create(
        [Agent(service=service, external_id=f"a{n}", name=f"Agent {n}") for n in range(start, start + count)]
    )


@pytest.mark.parametrize("limit", [1, 7, 50, 200])
def test_a_walk_meets_each_agent_once_while_rows_are_inserted(api, demo, limit):
    _agents(demo, 0, 60)
    wanted = {row["external_id"] for row in api("get", "agents")["items"]}
    seen, following, added = [], f"agents?limit={limit}", 0
    while following:
        page = api("get", following)
        seen += [row["external_id"] for row in page["items"]]
        following = page["next"]
        if added < 20:
            _agents(demo, 1000 + added, 1)
            added += 1
    assert len(seen) == len(set(seen))
    assert wanted <= set(seen)


def test_newest_first_lists_are_not_shifted_by_new_rows(api, db):
    now = timezone.now()

    def job(number: int, at) -> None:
        Job.objects.filter(pk=Job.objects.create(kind="k", title=str(number), actor="t").pk).update(created_at=at)

    for number in range(25):
        # Pairs share their time: the id decides then.
        job(number, now - timedelta(seconds=number // 2))
    seen, following = [], "jobs?limit=4"
    while following:
        page = api("get", following)
        seen += [row["title"] for row in page["items"]]
        following = page["next"]
        job(99, timezone.now() + timedelta(hours=1))
    assert len(seen) == 25
    assert set(seen) == {str(number) for number in range(25)}


def test_a_row_deleted_at_the_edge_hides_no_other(api, demo):
    _agents(demo, 0, 10)
    page = api("get", "agents?limit=5")
    Agent.objects.filter(pk=page["items"][-1]["id"]).delete()
    rest = api.walk(page["next"])
    assert [row["external_id"] for row in rest] == [f"a{n}" for n in range(5, 10)]


def test_filters_travel_with_the_next_link(api, demo, make_agent):
    _agents(demo, 0, 10)
    Agent.objects.filter(external_id__in=["a1", "a3", "a5"]).update(state="archived")
    rows = api.walk("agents?limit=2&state=archived&service=demo")
    assert [row["external_id"] for row in rows] == ["a1", "a3", "a5"]


def test_a_cursor_of_another_list_is_refused(api, demo):
    _agents(demo, 0, 5)
    cursor = api("get", "agents?limit=2")["next"].partition("cursor=")[2]
    problem = api("get", f"jobs?cursor={cursor}", status=422, code="cursor.invalid")
    assert problem["errors"][0]["field"] == "cursor"


def test_the_number_of_queries_does_not_grow(api, make_agent):
    def queries(path: str) -> int:
        with CaptureQueriesContext(connection) as found:
            api("get", path)
        return len(found)

    # The first request of a minute also notes when the token was used.
    api("get", "me")
    for number in range(3):
        make_agent(f"x{number}", f"X {number}", room=True)
    paths = ("agents", "mappings", "rooms", "conversations", "services", "turns", "deliveries", "audit")
    few = {path: queries(path) for path in paths}
    for number in range(3, 30):
        make_agent(f"x{number}", f"X {number}", room=True)
    assert {path: queries(path) for path in paths} == few
    # The token, the page, and what is prefetched.
    assert few["agents"] == 2
    assert max(few.values()) <= 5
