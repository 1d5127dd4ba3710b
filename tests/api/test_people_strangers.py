"""Nothing of another person's by any address: every route of the people's API that takes an id is tried by a stranger.

The routes are read from the routers: a new one is tried as soon as it exists, and fails here until a body for it is given below.
"""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from agents.models import Invitation, Room
from chat.api.people.routers import ROUTERS
from chat.models import Attachment, Conversation, Membership, Message, ProgramLogin, Turn
from chat.services.exports import export_start
from chat.services.personal_tokens import personal_token_create
from tests.api.people import ChatApi, conversation_with, person_named, said

pytestmark = pytest.mark.django_db

BODIES: dict[str, Any] = {
    "chat_conversation_change": {"title": "Mine now", "pinned": True},
    "chat_conversation_read": {"seq": 1},
    "chat_conversation_draft": {"text": "x"},
    "chat_say": {"client_id": "x", "text": "Hello"},
    "chat_edit": {"client_id": "x", "text": "Hello"},
    "chat_share": {},
    "chat_approve": {"call_id": "c1", "approve": True},
}


def _routes() -> list[Any]:
    found = []
    for router in ROUTERS:
        for path, view in router.path_operations.items():
            for operation in view.operations:
                if "{" in path:
                    found += [
                        pytest.param(method, path, operation.operation_id, id=f"{method} {path}")
                        for method in operation.methods
                    ]
    return found


@pytest.fixture
def theirs(ada, homeserver):
    """Everything that Grace has, by the name of the parameter under which an address takes it."""
    grace = person_named("grace")
    membership = conversation_with(grace, ada, "Secret plans")
    message = said(membership, "Meet me at nine")
    now = timezone.now()
    turn = Turn.objects.create(
        conversation=membership.conversation, agent=ada, message=message, seq=1, lane="x", not_before=now, created_at=now
    )  # fmt: skip
    attachment = Attachment.objects.create(
        owner=grace, name="plan.txt", media_type="text/plain", size=1, sha256="0" * 64, path="00/0"
    )
    login = ProgramLogin.objects.create(person=grace, digest="d", expires_at=now + timedelta(days=1))
    token, _ = personal_token_create(person=grace, name="mine", actor="test")
    grace.matrix_user_id = "@grace:hs"
    grace.save()
    room = Room.objects.create(homeserver=homeserver, room_id="!theirs:hs", kind="direct")
    Invitation.objects.create(room=room, user_id="@grace:hs", state="joined")
    job = export_start(person=grace, actor="test")
    return {
        "job_id": job.pk,
        "room_id": room.pk,
        "session_id": login.pk,
        "token_id": token.pk,
        "conversation_id": membership.conversation_id,
        "message_id": message.pk,
        "turn_id": turn.pk,
        "attachment_id": attachment.pk,
    }


def _fill(path: str, values: dict[str, Any]) -> str:
    for name, value in values.items():
        path = path.replace(f"{{{name}}}", str(value))
    assert "{" not in path, f"What is {path}? Add it to `theirs`."
    return path.lstrip("/")


def _rows() -> list[Any]:
    return [
        list(model.objects.order_by("pk").values()) for model in (Conversation, Membership, Message, Turn, Attachment)
    ]


@pytest.mark.parametrize(("method", "path", "operation"), _routes())
def test_a_stranger_finds_nothing(method, path, operation, theirs):
    """The same 404 as for something that does not exist, and nothing changes."""
    before = _rows()
    mallory = ChatApi(person_named("mallory"))
    problem = mallory(method, _fill(path, theirs), BODIES.get(operation), status=404, code="resource.not_found")
    assert _rows() == before
    nowhere = {name: uuid.uuid4() if isinstance(value, uuid.UUID) else 10**6 for name, value in theirs.items()}
    other = mallory(method, _fill(path, nowhere), BODIES.get(operation), status=404, code="resource.not_found")
    known, unknown = str(problem["detail"]), str(other["detail"])
    for name, value in sorted(theirs.items(), key=lambda found: -len(str(found[1]))):
        known, unknown = known.replace(str(value), "…"), unknown.replace(str(nowhere[name]), "…")
    assert known == unknown
    assert "Secret" not in known


@pytest.mark.parametrize(("method", "path", "operation"), _routes())
def test_nobody_gets_nothing(method, path, operation, theirs):
    ChatApi()(method, _fill(path, theirs), BODIES.get(operation), status=401, code="auth.required")


@pytest.mark.parametrize(("method", "path", "operation"), _routes())
def test_an_operator_is_a_stranger_here(method, path, operation, theirs, operator):
    ChatApi(operator)(method, _fill(path, theirs), BODIES.get(operation), status=404, code="resource.not_found")


def test_every_list_shows_ones_own_only(theirs):
    mallory = ChatApi(person_named("mallory"))
    for path in (
        "conversations",
        "conversations?archived=true",
        "conversations?removed=true",
        "conversations?q=Secret",
    ):
        assert mallory("get", path)["items"] == []
