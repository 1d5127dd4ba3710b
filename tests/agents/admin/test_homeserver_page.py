"""The homeserver's page: what it can do and why it cannot, the accounts' sessions, and administering the way that it has."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from agents.models import Account, AccountSession, AccountWay, InviteePause
from agents.services import homeserver_admin
from ops.models import Service
from tests.admin.conftest import SECRET, World, make_agents

TOKEN = "administrators-t0ken"


def know(service: Service, *, admin: bool) -> None:
    """As if the homeserver had been asked: a Synapse, with an administrator's token or without."""
    service.credentials = {**service.credentials, **({"admin_token": TOKEN} if admin else {})}
    service.save()
    service.capabilities = {
        "server_name": "hs.test",
        "flavour": {
            "name": "synapse", "version": "1.163.2", "room_version": "12", "base_url": service.base_url,
            "can": {"appservice": True, "admin_api": True, "make_users": True},
            "auth": {"kind": "own", "sentence": "It keeps passwords itself."},
            "registration": {"kind": "closed", "flows": [], "sentence": "Registration is closed."},
            "admin": {"given": admin, "works": admin or None}, "secret": {"given": False, "works": None},
            "probed_at": (timezone.now() + timedelta(seconds=5)).isoformat(),
        },
    }  # fmt: skip
    Service.objects.filter(pk=service.pk).update(capabilities=service.capabilities)


def page(client: Any, name: str, *args: Any) -> str:
    answer = client.get(reverse(f"admin:{name}", args=args))
    assert answer.status_code == 200
    text = str(answer.content.decode())
    assert SECRET not in text
    assert TOKEN not in text
    return text


def test_each_thing_has_its_way_or_says_why_not(world: World, client: Any) -> None:
    assert "Not asked yet" in page(client, "homeserver")
    know(world.homeserver, admin=False)
    text = page(client, "homeserver")
    assert "Synapse 1.163.2" in text
    assert "for which an administrator is needed" in text
    assert reverse("admin:homeserver_act", args=["password_reset"]) not in text
    refused = page(client, "homeserver_act", "password_reset")
    assert "for which an administrator is needed" in refused
    assert '<button class="sb-button sb-primary"' not in refused
    know(world.homeserver, admin=True)
    text = page(client, "homeserver")
    assert "There is a way for everything." in text
    assert reverse("admin:homeserver_act", args=["password_reset"]) in text
    assert "administrator&#x27;s token" in text


def test_it_is_done_by_the_service_and_said(world: World, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    know(world.homeserver, admin=True)
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(homeserver_admin, "password_reset", lambda **given: calls.append(given))
    address = reverse("admin:homeserver_act", args=["password_reset"])
    short = client.post(address, {"user": "bea", "password": "short"})
    assert "at least 8 characters" in short.content.decode()
    assert not calls
    answer = client.post(address, {"user": "bea", "password": "long enough now"}, follow=True)
    assert "@bea:hs.test has a new password." in answer.content.decode()
    assert "long enough now" not in answer.content.decode()
    assert calls[0]["user_id"] == "@bea:hs.test"
    assert calls[0]["logout_devices"] is False
    assert calls[0]["actor"] == "person:ada"


def test_what_the_homeserver_refuses_stands_on_the_form(world: World, client: Any) -> None:
    know(world.homeserver, admin=True)
    # Nothing listens at its address.
    answer = client.post(
        reverse("admin:homeserver_act", args=["room_join"]), {"room": "!r0:hs.test", "user": "@bea:hs.test"}
    )
    assert answer.status_code == 200
    assert 'class="sb-error" role="alert"' in answer.content.decode()
    wrong = client.post(reverse("admin:homeserver_act", args=["room_join"]), {"room": "#r0:hs.test", "user": "a b"})
    assert "A room id begins with an exclamation mark" in wrong.content.decode()
    assert "Give a Matrix id like @name:server" in wrong.content.decode()


def test_what_cannot_be_taken_back_is_typed_twice_and_never_an_agents_room(
    world: World, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(world.homeserver, admin=True)
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(homeserver_admin, "user_deactivate", lambda **given: calls.append(given))
    monkeypatch.setattr(homeserver_admin, "room_delete", lambda **given: calls.append(given) or True)
    address = reverse("admin:homeserver_act", args=["user_deactivate"])
    assert (
        "nothing was done" in client.post(address, {"user": "@bea:hs.test", "again": "@bob:hs.test"}).content.decode()
    )
    address = reverse("admin:homeserver_act", args=["room_delete"])
    kept = client.post(address, {"room": "!r0:hs.test", "again": "!r0:hs.test"})
    assert "An agent speaks in this room" in kept.content.decode()
    assert not calls
    client.post(address, {"room": "!old:hs.test", "again": "!old:hs.test"})
    assert [one["room_id"] for one in calls] == ["!old:hs.test"]


def test_sessions_that_are_refused_stand_with_their_sentence(world: World, client: Any) -> None:
    make_agents(world.demo, world.homeserver, 3, start=1)
    Account.objects.filter(localpart="agent_1").update(way=AccountWay.SESSION, session=AccountSession.GOOD)
    Account.objects.filter(localpart="agent_2").update(
        way=AccountWay.SESSION, session=AccountSession.REFUSED, session_error="The password is wrong.",
        session_retry_at=timezone.now() + timedelta(minutes=4, seconds=30),
    )  # fmt: skip
    InviteePause.objects.create(
        homeserver=world.homeserver, user_id="@gone:hs.test", failures=4, until=timezone.now() + timedelta(hours=2)
    )
    text = page(client, "homeserver")
    assert "The password is wrong." in text
    assert "in 4 min" in text
    assert "@gone:hs.test" in text
    client.post(reverse("admin:homeserver"), {"resume": InviteePause.objects.get().pk})
    assert not InviteePause.objects.exists()
    assert "@gone:hs.test" not in page(client, "homeserver").replace("The next sync invites @gone:hs.test again.", "")
    second = Account.objects.get(localpart="agent_2").mapping.agent
    agent = page(client, "agents_agent_change", second.pk)
    assert "The password is wrong." in agent
    for deed in ("session_open", "session_try", "session_close"):
        assert reverse("admin:agents_agent_deed", args=[second.pk, deed]) in agent
    assert reverse("admin:agents_agent_deed", args=[world.agent.pk, "session_open"]) not in page(
        client, "agents_agent_change", world.agent.pk
    )
    form = client.post(reverse("admin:agents_agent_deed", args=[second.pk, "session_open"]), {})
    assert "Give the account&#x27;s password, or an access token." in form.content.decode()


def test_without_a_homeserver_the_page_says_how_to_have_one(world: World, client: Any) -> None:
    Service.objects.filter(pk=world.homeserver.pk).update(enabled=False)
    assert "No homeserver is set up" in page(client, "homeserver")
    assert client.get(reverse("admin:homeserver_act", args=["room_join"])).status_code == 404


def test_queries_do_not_grow_with_accounts(world: World, client: Any) -> None:
    know(world.homeserver, admin=True)

    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            page(client, "homeserver")
        return len(asked)

    Account.objects.update(way=AccountWay.SESSION, session=AccountSession.REFUSED)
    page(client, "homeserver")
    few = queries()
    make_agents(world.demo, world.homeserver, 60, start=1)
    Account.objects.update(way=AccountWay.SESSION, session=AccountSession.REFUSED)
    assert queries() == few
