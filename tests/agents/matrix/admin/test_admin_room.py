"""Administering by commands in #admins. The servers are stand-ins; what they say is marked in ``exchanges`` with its source."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from agents.matrix.admin import admin_room
from agents.matrix.clients import close_all
from agents.matrix.errors import NotFound, Refused, Taken
from agents.services import homeserver_admin as admin
from agents.services.backends import Homeserver, homeserver_of
from agents.services.homeserver_admin import CannotAdminister
from ops.models import AuditEvent, Service
from ops.redaction import redact_text
from ops.services.services import service_test, service_try
from tests.agents.matrix.admin.exchanges import KINDS, SERVER
from tests.agents.matrix.admin.room_server import RoomServer

pytestmark = pytest.mark.django_db
AS_TOKEN = "as-token-of-the-room"


@pytest.fixture(params=list(KINDS))
def server(request: pytest.FixtureRequest) -> Iterator[RoomServer]:
    server = RoomServer(KINDS[request.param], as_token=AS_TOKEN)
    yield server
    server.close()
    close_all()


@pytest.fixture
def tuwunel() -> Iterator[RoomServer]:
    server = RoomServer(KINDS["tuwunel-1.7"], as_token=AS_TOKEN)
    yield server
    server.close()
    close_all()


def house(server: RoomServer, **credentials: str) -> Homeserver:
    given = credentials or {"admin_user": "root", "admin_password": "the-root-password"}
    service, _ = Service.objects.get_or_create(name="homeserver", defaults={"kind": "homeserver"})
    service.base_url, service.options = server.url, {"server_name": SERVER}
    service.credentials = {"as_token": AS_TOKEN, "hs_token": "hs", **given}
    service.save()
    return homeserver_of(service)


def written(server: RoomServer) -> str:
    return json.dumps([event["content"] for event in server.events])


def test_users_are_made_reset_and_closed_and_no_password_stays_in_the_room(server: RoomServer) -> None:
    homeserver = house(server)
    found = admin.ways(homeserver)
    flavour = Service.objects.get().capabilities["flavour"]
    assert (flavour["name"], flavour["version"]) == (server.kind.name, server.kind.version)
    assert flavour["admin"]["works"] is True
    assert flavour["admin"]["room_id"].startswith("!admins")
    assert {found[name].dialect for name in ("user_create", "password_reset", "user_deactivate", "room_join")} == {
        "admin_room"
    }
    made = admin.user_create(
        homeserver=homeserver, localpart="bea", password="first-password", display_name="Bea", actor="test"
    )
    assert (made, server.accounts["bea"], server.names["bea"]) == (f"@bea:{SERVER}", "first-password", "Bea")
    admin.password_reset(homeserver=homeserver, user_id=made, password="--second-password", actor="test")
    assert server.accounts["bea"] == "--second-password"
    audited = json.dumps(list(AuditEvent.objects.values("message", "before", "after")))
    hidden = redact_text("said: first-password, --second-password")
    assert "first-password" not in hidden
    assert "second-password" not in hidden
    assert not [one for one in ("first-password", "second-password") if one in written(server) + audited]
    assert (AuditEvent.objects.get(action="homeserver.password_reset").after["sessions_ended"]) is (
        server.kind.name == "continuwuity"
    )
    with pytest.raises(Taken):
        admin.user_create(homeserver=homeserver, localpart="bea", password="taken-over", actor="test")
    assert server.accounts["bea"] == "--second-password"
    admin.user_deactivate(homeserver=homeserver, user_id=made, actor="test")
    assert server.deactivated == {"bea"}
    admin.user_create(homeserver=homeserver, localpart="cy", password="cy-has-one", admin=True, actor="test")
    assert "cy" in server.members
    # One session for all of it, besides the one that named Bea.
    assert server.logins == 2


def test_an_account_that_is_not_there_is_not_made_by_a_reset(server: RoomServer) -> None:
    with pytest.raises(NotFound):
        admin.password_reset(
            homeserver=house(server), user_id=f"@nobody:{SERVER}", password="made-by-mistake", actor="test"
        )
    assert "nobody" not in server.accounts
    assert "made-by-mistake" not in written(server)
    assert not AuditEvent.objects.filter(action="homeserver.password_reset").exists()


def test_what_a_server_has_no_command_for_is_said_with_what_to_do(server: RoomServer) -> None:
    homeserver = house(server)
    found = admin.ways(homeserver)
    promotes = server.kind.version == "1.7.1"
    assert (found["room_admin"].works, found["room_delete"].works) == (promotes, promotes)
    # The appservice opens sessions of its own accounts; others get a new password.
    token = admin.login_as(homeserver=homeserver, user_id=f"@agent_ada:{SERVER}", actor="test")
    assert server.tokens[token] == "agent_ada"
    with pytest.raises(CannotAdminister, match="Reset the account's password"):
        admin.login_as(homeserver=homeserver, user_id=f"@ada:{SERVER}", actor="test")
    room = {"homeserver": homeserver, "room_id": "!room:room.test", "user_id": f"@ada:{SERVER}", "actor": "test"}
    admin.room_join_user(**room)  # type: ignore[arg-type]
    if promotes:
        admin.room_make_admin(**room)  # type: ignore[arg-type]
        assert admin.room_delete(homeserver=homeserver, room_id="!room:room.test", actor="test") is True
    else:
        with pytest.raises(CannotAdminister, match="no command"):
            admin.room_make_admin(**room)  # type: ignore[arg-type]
    with pytest.raises(CannotAdminister, match="erases nothing"):
        admin.user_deactivate(homeserver=homeserver, user_id=f"@ada:{SERVER}", erase=True, actor="test")
    assert server.deactivated == set()


def test_the_answer_is_found_behind_what_else_is_said(tuwunel: RoomServer) -> None:
    tuwunel.chatter, tuwunel.delay = 70, 0.5
    admin.password_reset(homeserver=house(tuwunel), user_id=f"@ada:{SERVER}", password="behind-it", actor="test")
    assert tuwunel.accounts["ada"] == "behind-it"
    assert len(tuwunel.events) == 142
    assert "behind-it" not in written(tuwunel)


def test_silence_is_bounded_and_says_that_it_may_have_happened(
    tuwunel: RoomServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuwunel.silent = True
    homeserver = house(tuwunel)
    init = admin_room.AdminRoom.__init__
    monkeypatch.setattr(admin_room.AdminRoom, "__init__", lambda self, *a, **k: init(self, *a, **{**k, "wait": 0.5}))
    with pytest.raises(CannotAdminister, match=r"nobody answered.*Look there"):
        admin.password_reset(homeserver=homeserver, user_id=f"@ada:{SERVER}", password="unanswered", actor="test")
    assert len(tuwunel.events) == 1
    assert "unanswered" not in written(tuwunel)


def test_a_stranger_in_the_room_is_not_believed(tuwunel: RoomServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else's message that replies to the command, with the right words, is no answer of the server's."""
    tuwunel.silent = True
    homeserver = house(tuwunel)
    said = f"Successfully reset the password for user @ada:{SERVER}: `x`"
    original = tuwunel._said

    def also_says(user: str, content: dict[str, Any]) -> str:
        event_id = original(user, content)
        relates = {"m.relates_to": {"m.in_reply_to": {"event_id": event_id}}}
        tuwunel._add(f"@mallory:{SERVER}", {"msgtype": "m.notice", "body": said, **relates})
        return event_id

    tuwunel._said = also_says  # type: ignore[method-assign]
    init = admin_room.AdminRoom.__init__
    monkeypatch.setattr(admin_room.AdminRoom, "__init__", lambda self, *a, **k: init(self, *a, **{**k, "wait": 0.5}))
    with pytest.raises(CannotAdminister, match="nobody answered"):
        admin.password_reset(homeserver=homeserver, user_id=f"@ada:{SERVER}", password="unheard", actor="test")


def test_who_is_not_in_the_room_is_no_administrator(tuwunel: RoomServer) -> None:
    homeserver = house(tuwunel, admin_user="ada", admin_password="ada-has-one")
    way = admin.ways(homeserver)["password_reset"]
    assert not way.works
    assert "#admins:room.test" in way.sentence
    with pytest.raises(CannotAdminister, match="no administrator"):
        admin.password_reset(homeserver=homeserver, user_id=f"@root:{SERVER}", password="taken-over", actor="test")
    assert tuwunel.accounts["root"] == "the-root-password"
    assert tuwunel.events == []


@pytest.mark.parametrize("password", ["two words", "line\nbreak", ""])
def test_a_password_that_would_become_two_words_is_not_sent(tuwunel: RoomServer, password: str) -> None:
    with pytest.raises(Refused, match="spaces"):
        admin.password_reset(homeserver=house(tuwunel), user_id=f"@ada:{SERVER}", password=password, actor="test")
    assert tuwunel.events == []


def test_a_service_test_keeps_what_it_found_and_a_try_keeps_nothing(tuwunel: RoomServer) -> None:
    service = house(tuwunel).service
    service_try(service=service)
    assert "flavour" not in Service.objects.get().capabilities
    service_test(service=service, actor="system")
    kept = Service.objects.get().capabilities["flavour"]
    assert (kept["name"], kept["admin"]["works"]) == ("tuwunel", True)
    # Values in a form that are not saved yet: nobody is logged in with them, and nothing is kept.
    logins, stored = tuwunel.logins, Service.objects.get().credentials
    service.credentials = {**stored, "admin_user": "ada", "admin_password": "ada-has-one"}
    service_try(service=service)
    assert tuwunel.logins == logins
    assert Service.objects.get().credentials == stored
    assert Service.objects.get().capabilities["flavour"] == kept


def test_accounts_of_others_our_own_and_names_that_are_none_are_left_alone(tuwunel: RoomServer) -> None:
    homeserver = house(tuwunel)
    with pytest.raises(CannotAdminister, match="no account of room"):
        admin.password_reset(homeserver=homeserver, user_id="@ada:elsewhere.test", password="not-hers", actor="test")
    assert tuwunel.accounts["ada"] == "ada-has-one"
    with pytest.raises(CannotAdminister, match="Switchboard's own account"):
        admin.user_deactivate(homeserver=homeserver, user_id=homeserver.sender_id, actor="test")
    for name in ("Bea", "two words", "", "bea:room.test"):
        with pytest.raises(Refused, match="M_INVALID_USERNAME"):
            admin.user_create(homeserver=homeserver, localpart=name, password="any-at-all", actor="test")
    assert tuwunel.events == []


def test_a_failure_is_told_with_the_servers_own_words(tuwunel: RoomServer) -> None:
    tuwunel.accounts["conduit"] = "none"
    with pytest.raises(Refused, match=r"^M_UNKNOWN: Not allowed to deactivate the server service account"):
        admin.user_deactivate(homeserver=house(tuwunel), user_id=f"@conduit:{SERVER}", actor="test")
