"""Oneself over the API: profile, use, sign-ins, personal tokens, and what none of these may do for others."""

from __future__ import annotations

import pytest

from chat.access.tickets import ticket_redeem
from chat.models import Person, ProgramLogin
from chat.services.program_logins import login_open
from tests.api.people import ChatApi, person_named

pytestmark = pytest.mark.django_db


@pytest.fixture
def grace(db):
    return person_named("grace", email="grace@example.org")


@pytest.fixture
def chat(grace):
    return ChatApi(grace)


def test_a_profile_is_read_and_changed(chat, grace):
    shown = chat("get", "me")
    assert (shown["username"], shown["name"], shown["role"], shown["impersonated"]) == (
        "grace",
        "Grace",
        "person",
        False,
    )
    changed = chat("patch", "me", {"display_name": "Grace H.", "language": "de", "time_zone": "Europe/Berlin"})
    assert (changed["name"], changed["language"], changed["time_zone"]) == ("Grace H.", "de", "Europe/Berlin")
    chat("patch", "me", {"language": "xx"}, status=422, code="request.invalid")
    chat("patch", "me", {"time_zone": "Mars/Base"}, status=422, code="request.invalid")
    chat("patch", "me", {"is_staff": True}, status=422, code="request.invalid")
    chat("patch", "me", {"preferences": {"unheard_of": 1}}, status=422)
    assert Person.objects.get().language == "de"
    assert not Person.objects.get().is_staff


def test_use_of_today(chat):
    found = chat("get", "me/usage")
    assert found["messages"] == {"used": 0, "limit": None}
    assert found["days"] == []


def test_programs_are_signed_out(chat, grace, django_capture_on_commit_callbacks):
    tokens = login_open(person=grace, user_agent="client/1", actor="test")
    program = ChatApi(token=tokens.access)
    assert program("get", "me")["username"] == "grace"
    opened = chat("get", "me/sessions")["programs"]
    assert [one["user_agent"] for one in opened] == ["client/1"]
    with django_capture_on_commit_callbacks(execute=True):
        chat("delete", f"me/sessions/{opened[0]['id']}", status=204)
    program("get", "me", status=401)
    chat("delete", f"me/sessions/{opened[0]['id']}", status=404)
    assert ProgramLogin.objects.get().revoked_at is not None
    chat("delete", "me/sessions/nonsense", status=404)


def test_a_browser_is_signed_out(chat, grace):
    other = ChatApi(grace)
    chat("get", "me")
    other("get", "me")
    browsers = chat("get", "me/sessions")["browsers"]
    assert [one["this_one"] for one in browsers].count(True) == 1
    theirs = next(one for one in browsers if not one["this_one"])
    chat("delete", f"me/sessions/{theirs['id']}", status=204)
    other("get", "me", status=401)
    chat("get", "me")


def test_a_personal_token_talks_and_makes_no_others(chat):
    made = chat("post", "me/tokens", {"name": "laptop"}, status=201, key="token-1")
    program = ChatApi(token=made["token"])
    assert program("get", "conversations")["items"] == []
    for method, path, body in (
        ("get", "me/tokens", None),
        ("post", "me/tokens", {"name": "more"}),
        ("patch", "me", {"display_name": "x"}),
        ("get", "me/sessions", None),
        ("delete", f"me/tokens/{made['id']}", None),
    ):
        program(method, path, body, status=403, code="auth.personal_only")
    program("get", "/api/v1/agents", status=401)
    assert [one["name"] for one in chat("get", "me/tokens")["items"]] == ["laptop"]
    assert "token" not in chat("get", "me/tokens")["items"][0]
    chat("delete", f"me/tokens/{made['id']}", status=204)
    program("get", "conversations", status=401)


def test_a_ticket_opens_a_socket_once(chat, grace):
    ticket = chat("post", "socket-ticket", status=201)["ticket"]
    identity = ticket_redeem(ticket)
    assert identity is not None
    assert identity.person_id == grace.pk
    assert ticket_redeem(ticket) is None
