"""Plans are pure: every case of what backends say against what the rows know, without database or server."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agents.backends.base import AgentInfo, AgentListing
from agents.sync.observe import KnownAccount, KnownAgent, KnownRoom, Observed, ServiceView, fingerprint
from agents.sync.plan import ARCHIVE_AFTER, make_plan, topic_for
from agents.sync.steps import Step, SyncPlan

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
NEW_STEPS = ["agent.create", "mapping.create", "account.register", "account.profile", "room.create", "space.add"]


def info(number: int | str, name: str = "", **fields: Any) -> AgentInfo:
    return AgentInfo(f"agent-{number}", name or f"Agent {number}", **fields)


def known(agent: AgentInfo, pk: int, service_id: int = 1, **changes: Any) -> KnownAgent:
    """An agent that is wholly set up."""
    values: dict[str, Any] = {
        "pk": pk,
        "service_id": service_id,
        "external_id": agent.external_id,
        "name": agent.name,
        "description": agent.description,
        "avatar_url": agent.avatar_url,
        "fingerprint": fingerprint(agent),
        "state": "active",
        "missed_passes": 0,
        "missing_since": None,
        "account": KnownAccount(pk, f"@a{pk}:s", True, agent.name, agent.avatar_url),
        "room": KnownRoom(pk * 10, f"!r{pk}", f"#a{pk}:s", agent.name, topic_for(agent.name, agent.description), True),
        **changes,
    }
    return KnownAgent(**values)


def view(agents: Sequence[AgentInfo], *, complete: bool = True, service_id: int = 1, name: str = "one") -> ServiceView:
    return ServiceView(
        service_id, name, "letta", AgentListing(agents, complete, "counted" if complete else "page 2 failed")
    )


SPACE = KnownRoom(1, "!space", "#space:s", "Letta Agents", "", True)


def observed(views: list[ServiceView], agents: list[KnownAgent], **fields: Any) -> Observed:
    return Observed(services=views, agents=agents, **{"homeserver_id": 7, "server_name": "s", "space": SPACE, **fields})


def kinds(plan: SyncPlan) -> list[str]:
    return [step.kind for step in plan.steps]


def plan_of(views: list[ServiceView], agents: list[KnownAgent], force: bool = False, **fields: Any) -> SyncPlan:
    return make_plan(observed(views, agents, **fields), now=NOW, force=force)


def test_a_new_agent_gets_everything_in_order() -> None:
    plan = plan_of([view([info(1)])], [])
    assert kinds(plan) == NEW_STEPS
    assert {step.key for step in plan.steps} == {"1/agent-1"}
    assert plan.counts["agent.create"] == 1


def test_without_a_homeserver_agents_are_taken_up_and_no_more() -> None:
    plan = plan_of([view([info(1)])], [known(info(2), 2, account=None, room=None)], homeserver_id=None, space=None)
    assert kinds(plan) == ["agent.create", "agent.miss"]


def test_unchanged_agents_need_nothing() -> None:
    agents = [info(number) for number in range(10_000)]
    assert plan_of([view(agents)], [known(one, number + 1) for number, one in enumerate(agents)]).steps == []


def test_a_renamed_agent_is_renamed_everywhere() -> None:
    plan = plan_of([view([info(1, "New")])], [known(info(1, "Old"), 1)])
    assert kinds(plan) == ["agent.update", "account.profile", "room.describe"]
    assert plan.steps[0].sentence == "Update New (Old → New)"


def test_a_new_description_changes_the_topic_only() -> None:
    plan = plan_of([view([info(1, description="Knows all")])], [known(info(1), 1)])
    assert kinds(plan) == ["agent.update", "room.describe"]


def test_a_new_picture_changes_the_profile_only() -> None:
    plan = plan_of([view([info(1, avatar_url="mxc://s/1")])], [known(info(1), 1)])
    assert kinds(plan) == ["agent.update", "account.profile"]


def test_a_vanished_agent_is_archived_at_the_second_sight_only() -> None:
    agent = known(info(1), 1)
    assert kinds(plan_of([view([])], [agent])) == ["agent.miss"]
    missing = dataclasses.replace(agent, state="missing", missed_passes=1, missing_since=NOW - ARCHIVE_AFTER)
    assert kinds(plan_of([view([])], [missing])) == ["agent.archive", "space.remove"]


def test_the_second_sight_counts_only_after_a_while() -> None:
    missing = known(
        info(1), 1, state="missing", missed_passes=1, missing_since=NOW - ARCHIVE_AFTER + timedelta(seconds=1)
    )
    assert plan_of([view([])], [missing]).steps == []


def test_an_archived_agent_stays_archived_without_a_step() -> None:
    room = dataclasses.replace(known(info(1), 1).room, in_space=False)
    assert plan_of([view([])], [known(info(1), 1, state="archived", room=room)]).steps == []


def test_an_archived_agent_that_is_still_in_the_space_is_taken_out() -> None:
    """A crash, or a homeserver that was down, between the two steps of archiving."""
    for listing in (view([]), view([], complete=False), ServiceView(1, "one", "letta", None, "down")):
        assert kinds(plan_of([listing], [known(info(1), 1, state="archived")])) == ["space.remove"]


@pytest.mark.parametrize("state", ["missing", "archived"])
def test_a_returned_agent_is_taken_back(state: str) -> None:
    room = dataclasses.replace(known(info(1), 1).room, in_space=state == "missing")
    plan = plan_of([view([info(1)])], [known(info(1), 1, state=state, room=room)])
    assert kinds(plan) == ["agent.return"] + (["space.add"] if state == "archived" else [])


def test_nothing_is_archived_on_an_incomplete_list() -> None:
    missing = known(info(1), 1, state="missing", missed_passes=1, missing_since=NOW - timedelta(days=1))
    many = [known(info(number), number) for number in range(10, 40)]
    plan = plan_of([view([info(2)], complete=False)], [missing, *many], force=True)
    assert kinds(plan) == NEW_STEPS
    assert [finding.code for finding in plan.findings] == ["sync.incomplete_list"]
    assert "page 2 failed" in plan.findings[0].sentence


def test_a_half_made_room_is_finished_on_an_incomplete_list() -> None:
    half = known(info(1), 1, room=KnownRoom(10, "", "#a1:s", "", "", False))
    assert kinds(plan_of([view([], complete=False)], [half])) == ["room.create", "space.add"]


def test_an_unreadable_service_leaves_its_agents_alone_but_finishes_rooms() -> None:
    whole, half = known(info(1), 1), known(info(2), 2, account=None, room=None)
    plan = plan_of([ServiceView(1, "one", "letta", None, "connection refused", "backend.unavailable")], [whole, half])
    assert kinds(plan) == NEW_STEPS[1:]
    assert {step.agent_pk for step in plan.steps} == {2}
    assert [(finding.code, finding.target) for finding in plan.findings] == [("backend.unavailable", "one")]
    assert "connection refused" in plan.findings[0].sentence


@pytest.mark.parametrize(
    ("population", "gone", "stops"), [(3, 3, False), (4, 4, True), (10, 3, False), (20, 4, False), (20, 5, True), (100, 20, False), (100, 21, True)]
)  # fmt: skip
def test_a_plan_that_would_archive_too_many_stops(population: int, gone: int, stops: bool) -> None:
    agents = [info(number) for number in range(population)]
    rows = [known(one, number + 1) for number, one in enumerate(agents)]
    plan = plan_of([view(agents[gone:])], rows)
    assert bool(plan.stopped) is stops
    assert len(plan.steps) == (0 if stops else gone)
    if stops:
        assert plan.findings[0].code == "sync.suspicious"
        assert f"{gone} of {population}" in plan.findings[0].sentence


def test_force_applies_a_suspicious_plan() -> None:
    rows = [known(info(number), number) for number in range(1, 11)]
    plan = plan_of([view([])], rows, force=True)
    assert plan.counts == {"agent.archive": 10, "space.remove": 10}
    assert plan.stopped == []


def test_a_suspicious_service_stops_alone() -> None:
    rows = [known(info(number), number) for number in range(1, 11)]
    other = view([info("b")], service_id=2, name="two")
    plan = plan_of([view([info("new")]), other], rows, space=None)
    assert plan.stopped == ["one"]
    assert kinds(plan) == ["space.create", *NEW_STEPS]
    assert {step.key for step in plan.steps[1:]} == {"2/agent-b"}


def test_archived_agents_do_not_count_towards_the_population() -> None:
    room = dataclasses.replace(known(info(1), 1).room, in_space=False)
    archived = [known(info(number), number, state="archived", room=room) for number in range(100, 200)]
    active = [known(info(number), number) for number in range(1, 5)]
    assert plan_of([view([])], [*archived, *active]).stopped == ["one"]


def test_disabled_ids_are_neither_taken_up_nor_suspicious() -> None:
    rows = [known(info(number), number) for number in range(1, 6)]
    agents = [info(number) for number in range(1, 8)]
    plan = plan_of([view(agents)], rows, skip=frozenset(f"agent-{number}" for number in range(1, 8)))
    assert plan.stopped == []
    assert plan.counts == {"agent.miss": 5}


def test_disabled_agents_do_not_hide_a_suspicious_loss() -> None:
    rows = [known(info(number), number) for number in range(1, 11)]
    plan = plan_of([view([info(1)])], rows, skip=frozenset({"agent-1"}))
    assert plan.stopped == ["one"]


def test_an_id_that_a_server_lists_twice_is_one_agent() -> None:
    assert plan_of([view([info(1), info(1, "Twin")])], []).counts["agent.create"] == 1


def test_two_services_may_have_the_same_id() -> None:
    plan = plan_of([view([info(1)]), view([info(1)], service_id=2, name="two")], [known(info(1), 1)])
    assert kinds(plan) == NEW_STEPS
    assert plan.steps[0].key == "2/agent-1"
    assert plan.steps[0].detail == {"service": "two"}


def test_the_space_is_made_first_and_renamed() -> None:
    plan = plan_of([view([info(1)])], [], space=None)
    assert kinds(plan)[0] == "space.create"
    unfinished = dataclasses.replace(SPACE, room_id="")
    assert kinds(plan_of([view([])], [], space=unfinished)) == ["space.create"]
    plan = make_plan(observed([view([])], []), now=NOW, space_name="Team")
    assert [(step.kind, step.label) for step in plan.steps] == [("room.describe", "Team")]


def test_people_are_invited_once_to_the_space_and_to_each_room() -> None:
    rows = [known(info(1), 1)]
    plan = plan_of([view([info(1)])], rows, invitees=("@a:s", "@b:s"), invited={(1, "@a:s"), (10, "@b:s")})
    assert [(step.key, step.detail["user_id"]) for step in plan.steps] == [("space", "@b:s"), ("1/agent-1", "@a:s")]
    settled = {(1, "@a:s"), (1, "@b:s"), (10, "@a:s"), (10, "@b:s")}
    assert plan_of([view([info(1)])], rows, invitees=("@a:s", "@b:s"), invited=settled).steps == []


def test_a_room_that_is_yet_to_be_made_invites_nobody_beforehand() -> None:
    half = known(info(1), 1, room=KnownRoom(10, "", "#a1:s", "", "", False))
    plan = plan_of([view([info(1)])], [half], invitees=("@a:s",), invited={(1, "@a:s")})
    assert kinds(plan) == ["room.create", "space.add"]


def test_every_kind_of_step_has_a_sentence() -> None:
    for kind in [*NEW_STEPS, "agent.update", "agent.miss", "agent.archive", "agent.return", "room.describe", "space.create", "space.remove", "invite"]:  # fmt: skip
        sentence = Step(kind, "k", "Ada", {"user_id": "@a:s"}).sentence
        assert "Ada" in sentence
        assert "{" not in sentence


def apply_to_rows(
    rows: dict[int, KnownAgent], steps: list[Step], invited: set[tuple[int, str]], invitees: tuple[str, ...]
) -> None:
    """What applying would write, on plain values."""
    by_key = {f"{row.service_id}/{row.external_id}": pk for pk, row in rows.items()}
    for step in steps:
        if step.key == "space":
            invited.add((1, step.detail["user_id"]))
            continue
        pk = by_key.get(step.key)
        if step.kind == "agent.create":
            assert step.info is not None
            pk = by_key[step.key] = max(rows, default=0) + 1
            rows[pk] = known(step.info, pk, service_id=int(step.key.partition("/")[0]), account=None, room=None)
            continue
        assert pk is not None
        row = rows[pk]
        account, room = row.account, row.room
        change: dict[str, Any] = {}
        if step.kind == "agent.update":
            assert step.info is not None
            one = step.info
            change = {
                "name": one.name,
                "description": one.description,
                "avatar_url": one.avatar_url,
                "fingerprint": fingerprint(one),
            }
        elif step.kind == "agent.miss":
            change = {"state": "missing", "missed_passes": 1, "missing_since": NOW}
        elif step.kind == "agent.archive":
            change = {"state": "archived"}
        elif step.kind == "agent.return":
            change = {"state": "active", "missed_passes": 0, "missing_since": None}
        elif step.kind == "mapping.create":
            change = {
                "account": account or KnownAccount(pk, f"@a{pk}:s", False, "", ""),
                "room": room or KnownRoom(pk * 10, "", f"#a{pk}:s", "", "", False),
            }
        elif step.kind == "account.register":
            change = {"account": dataclasses.replace(account, registered=True)}
        elif step.kind == "account.profile":
            change = {"account": dataclasses.replace(account, display_name=row.name, avatar_source=row.avatar_url)}
        elif step.kind == "room.create":
            change = {
                "room": dataclasses.replace(
                    room, room_id=f"!r{pk}", name=row.name, topic=topic_for(row.name, row.description)
                )
            }
            invited.update((room.pk, person) for person in invitees)
        elif step.kind == "room.describe":
            change = {"room": dataclasses.replace(room, name=row.name, topic=topic_for(row.name, row.description))}
        elif step.kind in {"space.add", "space.remove"}:
            change = {"room": dataclasses.replace(room, in_space=step.kind == "space.add")}
        elif step.kind == "invite":
            invited.add((room.pk, step.detail["user_id"]))
        rows[pk] = dataclasses.replace(row, **change)


def random_world(
    dice: random.Random,
) -> tuple[list[ServiceView], dict[int, KnownAgent], set[tuple[int, str]], tuple[str, ...]]:
    """Any mixture of lists and rows, half-made ones included."""
    views, rows, invited = [], {}, set()
    people = tuple(f"@p{number}:s" for number in range(dice.randrange(3)))
    for service_id in range(1, dice.randrange(2, 4)):
        agents = [
            info(
                number,
                f"Name {dice.randrange(3)}",
                description=dice.choice(["", "x"]),
                avatar_url=dice.choice(["", "mxc://s/1"]),
            )
            for number in range(12)
            if dice.random() < 0.7
        ]
        complete = dice.random() < 0.8
        views.append(
            ServiceView(service_id, f"s{service_id}", "letta", None, "down")
            if dice.random() < 0.1
            else view(agents, complete=complete, service_id=service_id, name=f"s{service_id}")
        )
        for number in range(12):
            if dice.random() < 0.5:
                pk = len(rows) + 1
                row = known(info(number, f"Name {dice.randrange(3)}"), pk, service_id)
                roll = dice.random()
                if roll < 0.15:
                    row = dataclasses.replace(row, account=None, room=None)
                elif roll < 0.3:
                    row = dataclasses.replace(
                        row, room=dataclasses.replace(row.room, room_id="", name="", topic="", in_space=False)
                    )
                elif roll < 0.45:
                    row = dataclasses.replace(
                        row, account=dataclasses.replace(row.account, registered=False, display_name="")
                    )
                elif roll < 0.6:
                    row = dataclasses.replace(
                        row, state="missing", missed_passes=1, missing_since=NOW - timedelta(hours=dice.randrange(2))
                    )
                elif roll < 0.75:
                    row = dataclasses.replace(
                        row, state="archived", missed_passes=1, missing_since=NOW - timedelta(days=9)
                    )
                rows[pk] = row
                for person in people:
                    if dice.random() < 0.5:
                        invited.add((pk * 10, person))
    return views, rows, invited, people


@pytest.mark.parametrize("seed", range(60))
def test_applying_a_plan_leaves_nothing_to_plan(seed: int) -> None:
    views, rows, invited, people = random_world(random.Random(seed))
    fields: dict[str, Any] = {"invitees": people, "invited": invited}
    force = seed % 2 == 0
    before = dict(rows)
    first = plan_of(views, list(rows.values()), force, **fields)
    apply_to_rows(rows, first.steps, invited, people)
    # Agents that were only made or noted now get their invitations, and nothing else, in a later plan.
    second = plan_of(views, list(rows.values()), force, **fields)
    assert second.steps == []
    unproven = {
        one.service_id for one in views if one.listing is None or not one.listing.complete or one.name in first.stopped
    }
    for pk, row in before.items():
        if row.service_id in unproven and row.state != "archived":
            assert rows[pk].state != "archived"
            assert rows[pk].missed_passes in {row.missed_passes, 0}
