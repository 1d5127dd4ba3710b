"""Ten thousand agents: what a check asks of the database and of the homeserver stays the same."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from agents.doctor.matrix import accounts, invites, senders, spaces
from agents.models import Account, Agent, Invitation, Mapping, Room
from agents.services.backends import open_homeserver
from ops.models import CheckState, Service
from tests.support.fake_homeserver import AS_TOKEN, SERVER_NAME, FakeHomeserver


def populate(first: int, last: int) -> None:
    """Agents with accounts and rooms, as rows."""
    homeserver, service = Service.objects.get(kind="homeserver"), Service.objects.get(name="scripts")
    now, numbers = timezone.now(), range(first, last)
    agents = Agent.objects.bulk_create([Agent(service=service, external_id=f"x{n}", name=f"A{n}") for n in numbers])
    users = Account.objects.bulk_create(
        [
            Account(
                homeserver=homeserver, user_id=f"@agent_x{n}:{SERVER_NAME}", localpart=f"agent_x{n}", registered_at=now
            )
            for n in numbers
        ]
    )
    rooms = Room.objects.bulk_create(
        [
            Room(homeserver=homeserver, room_id=f"!x{n}", alias=f"#agent_x{n}:{SERVER_NAME}", in_space=True)
            for n in numbers
        ]
    )
    Mapping.objects.bulk_create(
        [Mapping(agent=a, account=u, room=r) for a, u, r in zip(agents, users, rooms, strict=True)]
    )
    Invitation.objects.bulk_create(
        [Invitation(room=room, user_id="@ann:x", state="failed", attempts=4, error="no") for room in rooms[::5]]
    )


@pytest.fixture
def fake(db: None) -> Any:
    with FakeHomeserver() as server:
        Service.objects.create(
            name="homeserver", kind="homeserver", base_url=server.url, credentials={"as_token": AS_TOKEN},
            options={"server_name": SERVER_NAME},
        )  # fmt: skip
        Service.objects.create(name="scripts", kind="scripted")
        yield server


def test_queries_and_requests_do_not_grow_with_the_agents(fake: FakeHomeserver) -> None:
    sender = f"@switchboard:{SERVER_NAME}"
    fake.users[sender] = {}
    space = fake.new_room(sender)
    homeserver = Service.objects.get(kind="homeserver")
    Room.objects.create(homeserver=homeserver, kind="space", room_id=space.room_id, alias=f"#agent_space:{SERVER_NAME}")
    costs: list[dict[str, tuple[int, int, float]]] = []
    for first, last in ((0, 300), (300, 10_000)):
        populate(first, last)
        # Which accounts have sessions of their own is looked up now and then, whoever asks first.
        open_homeserver()
        cost = {}
        for name, check in (
            ("user_missing", lambda: accounts.user_missing("homeserver")),
            ("token_invalid", lambda: accounts.token_invalid("homeserver")),
            ("wrong_sender", lambda: senders.wrong_sender("homeserver")),
            ("rooms_missing", lambda: spaces.rooms_missing("homeserver")),
            ("invite_loop", invites.invite_loop),
        ):
            asked, started = len(fake.requests), time.thread_time()
            with CaptureQueriesContext(connection) as queries:
                check()
            cost[name] = (len(queries), len(fake.requests) - asked, time.thread_time() - started)
        costs.append(cost)
    for name, (queries, requests, seconds) in costs[1].items():
        small = costs[0][name]
        # The driver fetches many rows in portions; those are no further queries.
        assert queries == small[0], name
        assert requests == small[1] <= 320, name
        assert seconds < 10, f"{name} took {seconds:.1f} s"


def test_the_cursor_comes_round_and_red_ones_are_asked_again(
    fake: FakeHomeserver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "SLICE", 10)
    populate(0, 25)
    seen: list[tuple[str, ...]] = []

    def said(homeserver: Any, names: Any) -> Any:
        from agents.services.identities import Identity

        seen.append(tuple(names))
        return {name: Identity(name, "missing" if name.startswith("@agent_x3:") else "ok") for name in names}

    monkeypatch.setattr(accounts, "ask_identities", said)
    for _ in range(4):
        outcome = accounts.user_missing("homeserver")
        CheckState.objects.update_or_create(
            check_id="matrix.user_missing", target="homeserver",
            defaults={
                "status": outcome.status, "evidence": outcome.evidence, "since": timezone.now(), "checked_at": timezone.now(),
            },
        )  # fmt: skip
        # Whatever the slice, what was red stays in view until it is green.
        assert outcome.status == "fail"
        assert outcome.evidence["missing"] == [f"@agent_x3:{SERVER_NAME}"]
    asked = {name for names in seen[:3] for name in names}
    assert len(asked) == 25, "three runs see everybody"
    assert [len(names) for names in seen] == [10, 11, 6, 10]


def test_those_with_a_problem_come_first(fake: FakeHomeserver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "SLICE", 5)
    populate(0, 50)
    Mapping.objects.filter(agent__name="A49").update(problem="It cannot speak.")
    for name in range(50):
        fake.users[f"@agent_x{name}:{SERVER_NAME}"] = {}
    outcome = accounts.user_missing("homeserver")
    assert outcome.status == "pass"
    asked = {call.user for call in fake.requests if call.kind == "whoami"}
    assert f"@agent_x49:{SERVER_NAME}" in asked
    assert outcome.evidence["asked"] == 6
