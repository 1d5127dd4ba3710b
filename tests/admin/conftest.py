"""A small world that has one of everything an operator can look at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from agents.models import Account, Agent, Mapping, MemoryEdit, Room, RoomKind, SyncRun, SyncState
from chat.models import (
    Conversation,
    Delivery,
    DeliveryState,
    Link,
    LinkKind,
    Message,
    Participant,
    ParticipantKind,
    Person,
    RefusedEvent,
    Role,
    Turn,
    TurnState,
)
from ops.models import ApiToken, CheckResult, CheckState, Job, JobLine, Service
from ops.services.services import service_save
from ops.services.tokens import token_create

SECRET = "s3cret-of-the-server"


@dataclass
class World:
    """Rows that tests refer to by name."""

    operator: Person
    person: Person
    homeserver: Service
    demo: Service
    agent: Agent
    mapping: Mapping
    conversation: Conversation
    failed: Turn
    queued: Turn
    dead: Delivery
    job: Job
    token: ApiToken


def make_agents(service: Service, homeserver: Service, count: int, start: int = 0) -> list[Agent]:
    """Connected agents, each with account and room."""
    now = timezone.now()
    found = []
    for number in range(start, start + count):
        agent = Agent.objects.create(service=service, external_id=f"id-{number}", name=f"Agent {number:03}")
        account = Account.objects.create(
            homeserver=homeserver, user_id=f"@agent_{number}:hs.test", localpart=f"agent_{number}", registered_at=now
        )
        room = Room.objects.create(
            homeserver=homeserver,
            room_id=f"!r{number}:hs.test",
            alias=f"#agent_{number}:hs.test",
            name=agent.name,
            in_space=True,
        )
        Mapping.objects.create(agent=agent, account=account, room=room)
        found.append(agent)
    return found


def make_turn(
    world_agent: Agent, conversation: Conversation, who: Participant, seq: int, state: str, **fields: Any
) -> Turn:
    """A message and the turn that answers it."""
    now = timezone.now()
    message = Message.objects.create(
        conversation=conversation, seq=seq, sender=who, role=Role.USER, text=f"Question {seq}", transport="matrix",
        external_id=f"$event{seq}", received_at=now, stored_at=now,
    )  # fmt: skip
    return Turn.objects.create(
        conversation=conversation, agent=world_agent, message=message, seq=seq, state=state, lane=f"lane{seq}",
        not_before=now, created_at=now, **fields,
    )  # fmt: skip


@pytest.fixture
def world(db: None) -> World:
    now = timezone.now()
    operator = Person.objects.create_user("ada", password="a long passphrase", is_staff=True)
    person = Person.objects.create_user("bea", password="a long passphrase")
    homeserver = service_save(
        actor="environment", name="homeserver", kind="homeserver", base_url="http://127.0.0.1:1",
        credentials={"as_token": SECRET, "hs_token": SECRET}, options={"server_name": "hs.test"}, managed_by="environment",
    )  # fmt: skip
    demo = service_save(actor="system", name="demo", kind="demo")
    (agent,) = make_agents(demo, homeserver, 1)
    mapping = agent.mapping
    Room.objects.create(
        homeserver=homeserver, kind=RoomKind.SPACE, room_id="!space:hs.test", name="Agents", in_space=True
    )
    conversation = Conversation.objects.create(title="Agent 000", next_seq=5, last_message_at=now)
    Link.objects.create(conversation=conversation, kind=LinkKind.ROOM, room=mapping.room)
    who = Participant.objects.create(
        conversation=conversation, kind=ParticipantKind.GUEST, external_id="@bob:hs.test", name="Bob"
    )
    speaker = Participant.objects.create(
        conversation=conversation,
        kind=ParticipantKind.AGENT,
        external_id=agent.external_id,
        agent=agent,
        name=agent.name,
    )
    failed = make_turn(
        agent, conversation, who, 1, TurnState.DEAD, error_code="backend.unavailable",
        error_reason="connection refused", started_at=now, finished_at=now,
    )  # fmt: skip
    queued = make_turn(agent, conversation, who, 2, TurnState.QUEUED)
    done = make_turn(agent, conversation, who, 3, TurnState.DONE, started_at=now, first_token_at=now, finished_at=now)
    reply = Message.objects.create(
        conversation=conversation, seq=4, sender=speaker, role=Role.ASSISTANT, text="An answer", transport="agent",
        received_at=now, stored_at=now, parts=[{"type": "tool_call", "name": "look", "arguments": {}}],
    )  # fmt: skip
    Turn.objects.filter(pk=done.pk).update(reply=reply)
    dead = Delivery.objects.create(
        message=reply, turn=done, target="matrix", room=mapping.room, account=mapping.account, lane="room:1", not_before=now,
        created_at=now, state=DeliveryState.DEAD, error_code="M_FORBIDDEN", error_reason="not in the room",
    )  # fmt: skip
    job = Job.objects.create(kind="agents.sync", title="Sync agents", actor="person:ada")
    JobLine.objects.create(job=job, at=now, text="Read 1 agent.")
    SyncRun.objects.create(
        state=SyncState.STOPPED, finished_at=now, plan=[{"kind": "agent.archive", "agent": "Agent 000"}],
        findings=[{"severity": "error", "code": "sync.suspicious", "sentence": "9 of 9 are gone.", "evidence": {"gone": ["A"]}}],
    )  # fmt: skip
    CheckState.objects.create(check_id="some.check", status="fail", sentence="It fails.", since=now, checked_at=now)
    CheckResult.objects.create(check_id="some.check", status="fail", sentence="It fails.", at=now, changed=True)
    RefusedEvent.objects.create(
        transport="matrix", external_id="$own", place="!r0:hs.test", reason="own", sentence="Ours."
    )
    MemoryEdit.objects.create(agent=agent, label="persona", before="a", after="b", actor="person:ada")
    token, _ = token_create(owner=operator, name="script", actor="person:ada", expires_at=now + timedelta(days=1))
    return World(
        operator, person, homeserver, demo, agent, mapping, conversation, failed, queued, dead, job, token
    )  # fmt: skip


@pytest.fixture
def client(world: World, client: Any) -> Any:
    """A browser in which the operator is signed in."""
    client.force_login(world.operator)
    return client


@pytest.fixture
def house(transactional_db: None, settings: Any, tmp_path: Any, monkeypatch: Any) -> Client:
    """An installation with its data directory, an operator who is signed in, and nobody outside who would have to be asked."""
    from django.contrib import admin

    from ops import disk_guard

    admin.autodiscover()

    settings.DATA_DIR = tmp_path / "data"
    settings.DATA_DIR.mkdir()
    disk_guard.forget()
    monkeypatch.setattr("ops.quiet.CACHE_SECONDS", 0.0)
    monkeypatch.setattr("ops.backup.hooks._reconciles", {})
    person = Person.objects.create_user("ada", password="a long passphrase", is_staff=True)
    demo = service_save(actor="system", name="demo", kind="demo")
    Agent.objects.create(service=demo, external_id="a", name="Librarian")
    client = Client()
    client.force_login(person)
    return client
