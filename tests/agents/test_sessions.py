"""Sessions of accounts against a small homeserver that knows passwords and tokens: which token a request carries, the ladder, its pauses."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.db import connection
from django.utils import timezone

from agents.matrix.errors import RateLimited, Refused, SessionRefused, Taken
from agents.matrix.patience import patiently
from agents.matrix.session_calls import SessionCalls
from agents.models import Account, AccountSession, AccountWay
from agents.services import session_opening
from agents.services.backends import Homeserver, homeserver_of
from agents.services.sessions import account_ensure, session_close, session_open, session_recover, sessions_check
from ops.models import AuditEvent, Service
from ops.services.services import service_save

pytestmark = pytest.mark.django_db


class Door(ThreadingHTTPServer):
    """A homeserver's door: ``passwords`` and ``tokens`` by user id; ``asked`` is every request with its bearer token."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.passwords: dict[str, str] = {}
        self.tokens: dict[str, str] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.refuse_login: dict[str, Any] | None = None
        self.stages: list[str] | None = None
        self.numbers = itertools.count(1)

    def count(self, path: str) -> int:
        return sum(path in one for _, one, _ in self.asked)

    def open(self, user_id: str, device: str) -> dict[str, Any]:
        token = f"token-{next(self.numbers)}-of-{user_id}"
        self.tokens[token] = user_id
        return {"user_id": user_id, "access_token": token, "device_id": device}

    def answer(self, method: str, path: str, token: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.asked.append((method, path, token))
        parts = urlsplit(path)
        if parts.path.endswith("/login") and method == "POST":
            user = body["identifier"]["user"]
            if self.refuse_login is not None:
                return int(self.refuse_login["status"]), self.refuse_login
            if self.passwords.get(user) != body["password"]:
                return 403, {"errcode": "M_FORBIDDEN", "error": "Invalid username or password"}
            return 200, self.open(user, body["device_id"])
        if parts.path.endswith("/register"):
            return self.register(body)
        if parts.path.endswith("/logout"):
            self.tokens.pop(token, None)
            return 200, {}
        if token not in self.tokens:
            return 401, {"errcode": "M_UNKNOWN_TOKEN", "error": "Unrecognised access token"}
        if parts.path.endswith("/whoami"):
            return 200, {"user_id": self.tokens[token], "device_id": "SWITCHBOARD"}
        if parts.path.endswith("/joined_rooms"):
            return 200, {"joined_rooms": ["!a:h.test"]}
        if parts.path.endswith("/sync"):
            return 200, {"next_batch": "s1"}
        return 404, {"errcode": "M_UNRECOGNIZED", "error": "Unrecognized request"}

    def register(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.stages is None:
            return 403, {"errcode": "M_FORBIDDEN", "error": "Registration has been disabled"}
        user = f"@{body['username']}:h.test"
        if user in self.passwords:
            return 400, {"errcode": "M_USER_IN_USE", "error": "User ID already taken."}
        auth = body.get("auth", {})
        if auth.get("type") != self.stages[-1] or auth.get("token", "right") != "right":
            return 401, {"session": "x", "flows": [{"stages": self.stages}], "params": {}}
        self.passwords[user] = body["password"]
        return 200, self.open(user, body["device_id"])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Door

    def handle_any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"{}")
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        status, answer = self.server.answer(self.command, self.path, token, body)
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = handle_any

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def door() -> Iterator[Door]:
    made = Door()
    threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    session_opening._wait_until.clear()
    yield made
    made.shutdown()
    made.server_close()


def homeserver(door: Door, mode: str = "client", **credentials: str) -> Homeserver:
    service, _ = Service.objects.update_or_create(
        name="homeserver",
        defaults={
            "kind": "homeserver",
            "base_url": door.url,
            "options": {"mode": mode, "server_name": "h.test", "user_prefix": "agent_"},
            "credentials": {"as_token": "as-token", **credentials},
        },
    )
    return homeserver_of(service)


def account(homeserver: Homeserver, localpart: str = "agent_ada", **secrets: str) -> Account:
    return Account.objects.create(
        homeserver=homeserver.service, user_id=f"@{localpart}:h.test", localpart=localpart, secrets=secrets,
        registered_at=timezone.now(),
    )  # fmt: skip


def test_a_token_is_used_until_it_is_refused_and_then_renewed_by_one_login(door: Door) -> None:
    made = homeserver(door)
    ada = account(made, password="right-password")
    door.passwords[ada.user_id] = "right-password"
    for _ in range(3):
        assert made.client.joined_rooms(ada.user_id) == ["!a:h.test"]
    assert door.count("/login") == 1
    door.tokens.clear()
    assert made.client.joined_rooms(ada.user_id) == ["!a:h.test"]
    assert door.count("/login") == 2
    # Nothing is asserted for an account that speaks for itself.
    assert not any("user_id=" in path for _, path, _ in door.asked)
    ada.refresh_from_db()
    assert (ada.session, ada.way) == (AccountSession.GOOD, AccountWay.SESSION)
    assert ada.secrets["access_token"] in door.tokens


def test_another_process_that_renewed_it_saves_the_login(door: Door) -> None:
    made = homeserver(door)
    ada = account(made, password="right-password")
    door.passwords[ada.user_id] = "right-password"
    made.client.joined_rooms(ada.user_id)
    former = ada.__class__.objects.get(pk=ada.pk).secrets["access_token"]
    door.tokens.pop(former)
    fresh = door.open(ada.user_id, "SWITCHBOARD")["access_token"]
    Account.objects.filter(pk=ada.pk).update(secrets={"access_token": fresh, "password": "right-password"})
    assert made.client.joined_rooms(ada.user_id) == ["!a:h.test"]
    assert door.count("/login") == 1


def test_what_cannot_be_opened_is_tried_again_after_growing_pauses(door: Door) -> None:
    made = homeserver(door)
    ada = account(made, password="wrong-password")
    pauses = []
    for number in range(1, 4):
        with pytest.raises(SessionRefused, match="Its password is refused"):
            made.client.joined_rooms(ada.user_id)
        with pytest.raises(SessionRefused) as again:
            made.client.joined_rooms(ada.user_id)
        asked = len(door.asked)
        with pytest.raises(SessionRefused):
            made.client.joined_rooms(ada.user_id)
        assert (door.count("/login"), len(door.asked)) == (number, asked), "nothing is asked during a pause"
        pauses.append(again.value.retry_after or 0)
        Account.objects.filter(pk=ada.pk).update(session_retry_at=timezone.now() - timedelta(seconds=1))
    assert [round(pause / 60) for pause in pauses] == [1, 2, 4]
    ada.refresh_from_db()
    assert ada.session == AccountSession.REFUSED
    assert "Registration has been disabled" in ada.session_error
    # An operator does not have to wait.
    door.passwords[ada.user_id] = "wrong-password"
    session_recover(homeserver=made, account=ada, force=True)
    assert made.client.joined_rooms(ada.user_id) == ["!a:h.test"]


def test_what_is_entered_with_the_homeserver_is_tried_at_once_and_waited_for_again(door: Door) -> None:
    made = homeserver(door)
    ada = account(made, password="wrong-password")
    with pytest.raises(SessionRefused):
        made.client.joined_rooms(ada.user_id)
    tried = door.count("/login")
    service_save(
        actor="test",
        name="homeserver",
        kind="homeserver",
        base_url=door.url,
        options=made.service.options,
        credentials={"registration_token": "right"},
    )
    for _ in range(2):
        with pytest.raises(SessionRefused):
            homeserver_of(Service.objects.get()).client.joined_rooms(ada.user_id)
    assert door.count("/login") == tried + 1, "it does not help, and the pause is over when it would be"


def test_a_homeserver_that_wants_us_to_wait_with_logins_gets_none_from_any_account(door: Door) -> None:
    made = homeserver(door)
    ada, bob = account(made, password="p"), account(made, "agent_bob", password="p")
    door.refuse_login = {"status": 429, "errcode": "M_LIMIT_EXCEEDED", "error": "Too many", "retry_after_ms": 60_000}
    for one in (ada, bob, ada):
        with pytest.raises((RateLimited, SessionRefused)) as refused:
            made.client.joined_rooms(one.user_id)
        assert 50 < (refused.value.retry_after or 0) <= 60
    assert door.count("/login") == 1
    bob.refresh_from_db()
    assert bob.session_retry_at is not None
    assert bob.session == AccountSession.NONE, "a wait says nothing about the account"


def test_a_locked_account_is_left_to_an_administrator(door: Door) -> None:
    made = homeserver(door)
    ada = account(made, password="p")
    door.refuse_login = {"status": 403, "errcode": "M_USER_DEACTIVATED", "error": "This account has been deactivated"}
    door.stages = ["m.login.dummy"]
    with pytest.raises(SessionRefused, match="locked or deactivated"):
        made.client.joined_rooms(ada.user_id)
    ada.refresh_from_db()
    assert ada.session == AccountSession.LOCKED
    assert door.count("/register") == 0


def test_under_an_appservice_only_accounts_outside_its_namespace_have_sessions(door: Door) -> None:
    made = homeserver(door, mode="appservice")
    door.tokens["as-token"] = "@switchboard:h.test"
    ada, old = account(made), account(made, "letta_bob")
    door.passwords[old.user_id] = "of-old"
    session_open(homeserver=made, account=old, password="of-old", actor="test")
    made.client.joined_rooms(ada.user_id)
    made.client.joined_rooms(old.user_id)
    (_, first, as_token), (_, second, own) = [one for one in door.asked if "joined_rooms" in one[1]]
    assert ("user_id=" in first, as_token) == (True, "as-token")
    assert ("user_id=" in second, door.tokens[own]) == (False, old.user_id)
    assert made.client.sessions is not None
    assert made.client.sessions.speaks_for(old.user_id)
    assert not made.client.sessions.speaks_for("@alice:h.test")


def test_a_session_that_another_process_opened_a_moment_ago_is_spoken_with(door: Door) -> None:
    made = homeserver(door, mode="appservice")
    old = account(made, "letta_bob")
    # What this process knows of accounts with sessions is fresh, and does not hold this one.
    homeserver_of(made.service)
    door.tokens["opened-elsewhere"] = old.user_id
    Account.objects.filter(pk=old.pk).update(way=AccountWay.SESSION, session=AccountSession.GOOD)
    row = Account.objects.get(pk=old.pk)
    row.secrets = {"access_token": "opened-elsewhere", "device_id": "D"}
    row.save(update_fields=["secrets"])
    made.client.joined_rooms(old.user_id)
    assert [one[2] for one in door.asked if "joined_rooms" in one[1]] == ["opened-elsewhere"]


def test_a_token_of_somebody_else_opens_nothing(door: Door) -> None:
    made = homeserver(door)
    ada = account(made)
    door.tokens["strange"] = "@mallory:h.test"
    with pytest.raises(SessionRefused, match="belongs to @mallory"):
        session_open(homeserver=made, account=ada, token="strange", actor="test")
    ada.refresh_from_db()
    assert not ada.secrets
    assert ada.session == AccountSession.NONE


def test_secrets_lie_encrypted_and_stand_in_no_audit_event(door: Door) -> None:
    made = homeserver(door)
    ada = account(made)
    door.passwords[ada.user_id] = "a-secret-password"
    session_open(homeserver=made, account=ada, password="a-secret-password", actor="test")
    token = next(iter(door.tokens))
    with connection.cursor() as cursor:
        cursor.execute("SELECT secrets FROM agents_account WHERE id = %s", [ada.pk])
        stored = cursor.fetchone()[0]
    events = str(list(AuditEvent.objects.values_list("action", "message", "before", "after")))
    assert "session.opened" in events
    for secret in (token, "a-secret-password"):
        assert secret not in stored
        assert secret not in events
    session_close(homeserver=made, account=ada, actor="test")
    assert token not in door.tokens
    ada.refresh_from_db()
    assert not ada.secrets
    # Nobody opens it again behind an operator's back.
    assert sessions_check().renewed == 0
    with pytest.raises(SessionRefused, match="was closed"):
        made.client.joined_rooms(ada.user_id)
    session_open(homeserver=made, account=ada, password="a-secret-password", actor="test")
    assert made.client.joined_rooms(ada.user_id) == ["!a:h.test"]


def test_accounts_are_made_with_a_registration_token(door: Door) -> None:
    made = homeserver(door, registration_token="right")
    door.stages = ["m.login.registration_token"]
    ada = Account.objects.create(homeserver=made.service, user_id="@agent_ada:h.test", localpart="agent_ada")
    assert made.client.register("agent_ada") is True
    assert made.client.register("agent_ada") is False
    assert door.count("/login") == 0, "registering opens the session"
    ada.refresh_from_db()
    assert (ada.session, ada.secrets["device_id"]) == (AccountSession.GOOD, "SWITCHBOARD")
    # Switchboard's own account the same way; it needs no row before.
    assert made.client.whoami() == "@switchboard:h.test"


def test_an_account_that_is_there_and_that_nothing_opens_says_so(door: Door) -> None:
    made = homeserver(door)
    door.stages = ["m.login.dummy"]
    door.passwords["@agent_ada:h.test"] = "somebody else's"
    ada = Account.objects.create(homeserver=made.service, user_id="@agent_ada:h.test", localpart="agent_ada")
    with pytest.raises(SessionRefused, match="is there already, and nothing that we have opens it"):
        account_ensure(made, ada)


def test_a_registration_that_no_program_can_pass_names_what_is_asked(door: Door) -> None:
    door.stages = ["m.login.recaptcha", "m.login.dummy"]
    calls = SessionCalls(door.url)
    with pytest.raises(Refused, match=r"asks for m\.login\.recaptcha"):
        calls.register("ada", "p", "D")
    door.stages = ["m.login.dummy"]
    assert calls.register("ada", "p", "D").device_id == "D"
    with pytest.raises(Taken):
        calls.register("ada", "p", "D")
    calls.close()


def test_the_staggered_look_takes_the_longest_unasked_and_renews(door: Door) -> None:
    made = homeserver(door)
    accounts = [account(made, f"agent_{number}", password="p") for number in range(5)]
    for number, one in enumerate(accounts):
        door.passwords[one.user_id] = "p"
        session_open(homeserver=made, account=one, password="p", actor="test")
        Account.objects.filter(pk=one.pk).update(session_checked_at=timezone.now() - timedelta(hours=number))
    lost = next(token for token, user in door.tokens.items() if user == accounts[4].user_id)
    door.tokens.pop(lost)
    door.asked.clear()
    found = sessions_check(limit=3)
    assert (found.good, found.renewed, found.refused) == (2, 1, {})
    asked = {door.tokens.get(token) for _, path, token in door.asked if "whoami" in path} - {None}
    assert asked <= {one.user_id for one in accounts[2:]}
    assert door.count("/login") == 1


def test_a_sync_waits_for_the_homeservers_limits_and_a_message_does_not(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = homeserver(door)
    ada = account(made, password="p")
    door.passwords[ada.user_id] = "p"
    made.client.joined_rooms(ada.user_id)
    limited = (429, {"errcode": "M_LIMIT_EXCEEDED", "error": "Too Many Requests", "retry_after_ms": 100})
    refusals = [limited, limited]
    answer = door.answer
    monkeypatch.setattr(door, "answer", lambda *asked: refusals.pop() if refusals else answer(*asked))
    with patiently(10):
        assert made.client.joined_rooms(ada.user_id) == ["!a:h.test"]
    assert refusals == []
    refusals.append(limited)
    with pytest.raises(RateLimited):
        made.client.joined_rooms(ada.user_id)
    long = (429, {"errcode": "M_LIMIT_EXCEEDED", "error": "Too Many Requests", "retry_after_ms": 3_600_000})
    refusals.append(long)
    with patiently(10), pytest.raises(RateLimited):
        made.client.joined_rooms(ada.user_id)
