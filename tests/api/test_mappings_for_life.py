"""Drift and homeservers: what differs is listed and filtered, what a homeserver can do is told, and done the way that it has."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from agents.models import Account, AccountSession, AccountWay, Drift, DriftKind, InviteePause
from agents.services import homeserver_admin
from ops.models import AuditEvent, Service
from tests.api.conftest import SECRET


@pytest.fixture
def homeserver(db):
    service, _ = Service.objects.get_or_create(name="homeserver", defaults={"kind": "homeserver", "enabled": True})
    service.base_url = "http://127.0.0.1:1"
    service.options = {"server_name": "hs"}
    service.credentials = {"as_token": SECRET, "admin_token": SECRET}
    service.save()
    can = {"appservice": True, "admin_api": True}
    flavour = {
        "name": "synapse", "version": "1.163.2", "can": can, "auth": {"kind": "own"}, "registration": {"kind": "closed"},
        "admin": {"given": True, "works": True}, "secret": {}, "probed_at": (timezone.now() + timedelta(seconds=5)).isoformat(),
    }  # fmt: skip
    Service.objects.filter(pk=service.pk).update(capabilities={"flavour": flavour})
    service.refresh_from_db()
    return service


def make_drift(homeserver, mapping, number, **fields):
    now = timezone.now()
    values = {"kind": DriftKind.ROOM_NAME, "sentence": f"Difference {number}.", "detail": {"stored": "a", "found": "b"}}
    return Drift.objects.create(
        homeserver=homeserver, mapping=mapping, key=str(number), found_at=now, seen_at=now, **{**values, **fields}
    )


def test_differences_are_listed_and_filtered(api, homeserver, make_agent):
    agent = make_agent("demo-ada", "Ada", room=True)
    one = make_drift(homeserver, agent.mapping, 1)
    two = make_drift(homeserver, None, 2, kind=DriftKind.SPACE_DOUBLE, mends=False)
    three = make_drift(homeserver, agent.mapping, 3, mended_at=timezone.now())

    def found(query=""):
        return [row["id"] for row in api("get", f"drift{query}")["items"]]

    assert found() == [two.pk, one.pk]
    assert found("?open=false") == [three.pk]
    assert found("?mends=false") == [two.pk]
    assert found("?space=true") == [two.pk]
    assert found(f"?agent={agent.pk}") == [one.pk]
    assert found(f"?mapping={agent.mapping.pk}&open=false") == [three.pk]
    assert found("?kind=space.double") == [two.pk]
    assert api.walk("drift?limit=1") == api("get", "drift")["items"]
    row = api("get", f"drift/{one.pk}")
    assert (row["agent_name"], row["title"], row["detail"]["found"]) == ("Ada", "Room has another name or topic", "b")
    api("get", "drift/4711", status=404, code="resource.not_found")


def test_a_list_of_differences_asks_as_much_for_many(api, homeserver, make_agent):
    agent = make_agent("demo-ada", "Ada", room=True)

    def queries():
        with CaptureQueriesContext(connection) as asked:
            api("get", "drift")
        return len(asked)

    make_drift(homeserver, agent.mapping, 0)
    api("get", "drift")
    few = queries()
    for number in range(1, 60):
        make_drift(homeserver, agent.mapping, number)
    assert queries() == few


def test_a_homeserver_tells_its_ways_and_no_secret(api, homeserver):
    (listed,) = api("get", "homeservers")["items"]
    one = api("get", "homeservers/homeserver")
    assert one == listed
    assert one["homeserver"] == "Synapse 1.163.2"
    assert one["credentials"] == ["as_token", "admin_token"]
    ways = {way["ability"]: way for way in one["ways"]}
    assert ways["password_reset"]["works"] is True
    assert ways["password_reset"]["dialect"] == "admin_api"
    api("get", "homeservers/elsewhere", status=404)
    api("post", "homeservers/homeserver/probe", {}, status=503, code="homeserver.unreachable")


def test_administering_goes_to_the_service(api, homeserver, make_agent, monkeypatch):
    calls = []

    def noted(name, value=None):
        monkeypatch.setattr(homeserver_admin, name, lambda **given: calls.append((name, given)) or value)

    noted("user_create", "@bea:hs")
    for name in ("password_reset", "user_deactivate", "room_make_admin", "room_join_user"):
        noted(name)
    noted("room_delete", True)
    made = api("post", "homeservers/homeserver/users", {"localpart": "bea", "password": "long enough"}, status=201)
    assert made == {"user_id": "@bea:hs"}
    user = "homeservers/homeserver/users/@bea:hs"
    api("put", f"{user}/password", {"password": "another one"}, status=204)
    api("post", f"{user}/deactivate", {}, status=204)
    room = "homeservers/homeserver/rooms/!old:hs"
    api("post", f"{room}/admin", {"user_id": "@bea:hs"}, status=204)
    api("post", f"{room}/join", {"user_id": "@bea:hs"}, status=204)
    assert api("delete", room) == {"done": True}
    assert [name for name, _ in calls] == [
        "user_create", "password_reset", "user_deactivate", "room_make_admin", "room_join_user", "room_delete",
    ]  # fmt: skip
    assert calls[1][1]["user_id"] == "@bea:hs"
    assert all(given["actor"].startswith("token:") for _, given in calls)
    # What cannot be meant is refused before anybody is asked.
    make_agent("demo-ada", "Ada", room=True)
    api("delete", "homeservers/homeserver/rooms/!demo-ada:hs", status=409, code="homeserver.cannot")
    api("put", "homeservers/homeserver/users/bea/password", {"password": "another one"}, status=422)
    api("put", f"{user}/password", {"password": "short"}, status=422)
    assert len(calls) == 6


def test_what_has_no_way_says_why(api, homeserver):
    homeserver.credentials = {"as_token": SECRET}
    homeserver.save()
    capabilities = homeserver.capabilities
    capabilities["flavour"]["admin"] = {}
    capabilities["flavour"]["probed_at"] = (timezone.now() + timedelta(seconds=5)).isoformat()
    Service.objects.filter(pk=homeserver.pk).update(capabilities=capabilities)
    problem = api(
        "put", "homeservers/homeserver/users/@bea:hs/password", {"password": "long enough"}, status=409,
        code="homeserver.cannot",
    )  # fmt: skip
    assert "for which an administrator is needed" in problem["detail"]


def test_accounts_are_listed_by_what_their_sessions_are(api, homeserver, make_agent):
    agent = make_agent("demo-ada", "Ada", room=True)
    make_agent("demo-echo", "Echo", room=True)
    Account.objects.update(homeserver=homeserver)
    Account.objects.filter(pk=agent.mapping.account_id).update(
        way=AccountWay.SESSION, session=AccountSession.REFUSED, session_error="No."
    )
    account = agent.mapping.account
    account.secrets = {"access_token": SECRET}
    account.save(update_fields=["secrets"])
    (row,) = api("get", "homeservers/homeserver/accounts?session=refused")["items"]
    assert (row["agent"], row["way"], row["session_error"]) == (agent.pk, "session", "No.")
    assert len(api("get", "homeservers/homeserver/accounts")["items"]) == 2
    address = f"homeservers/homeserver/accounts/{account.pk}/session"
    api("put", address, {}, status=422)
    api("put", address, {"password": "x"}, status=503, code="homeserver.unreachable")
    api("put", "homeservers/homeserver/accounts/4711/session", {"password": "x"}, status=404)


def test_readers_may_not_administer(reader, homeserver):
    reader("get", "homeservers")
    reader("post", "homeservers/homeserver/users", {"localpart": "bea", "password": "long enough"}, status=403)


def test_somebody_who_is_invited_nowhere_is_invited_again(api, homeserver):
    row = InviteePause.objects.create(
        homeserver=homeserver, user_id="@gone:hs", failures=4, until=timezone.now(), error="Refused."
    )
    InviteePause.objects.create(homeserver=homeserver, user_id="@once:hs", failures=1)
    (listed,) = api("get", "homeservers/homeserver/pauses")["items"]
    assert (listed["user_id"], listed["failures"], listed["error"]) == ("@gone:hs", 4, "Refused.")
    api("delete", f"homeservers/homeserver/pauses/{row.pk}", status=204)
    api("delete", f"homeservers/homeserver/pauses/{row.pk}", status=404)
    assert AuditEvent.objects.filter(action="invitee.resumed").count() == 1
