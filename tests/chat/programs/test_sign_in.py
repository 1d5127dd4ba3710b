"""Programs join, sign in, refresh and sign out, in the shapes of Portagent."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, generate_totp_secret, hotp_value
from django.core.cache import cache
from django.test import Client
from django.utils import timezone

from chat.access import limits, programs
from chat.access.limits import Rate, Rates
from chat.access.programs import identity_of_bearer
from chat.models import AccessAttempt, Person, ProgramLogin
from chat.services.invites import invite_create
from chat.services.people import person_deactivate
from chat.services.personal_tokens import personal_token_create
from ops.live import forget, live_set
from tests.chat.programs.conftest import PASSWORD

pytestmark = pytest.mark.django_db

USER = {"userId", "username", "email", "containerId", "displayName", "avatar", "createdAt"}


@pytest.fixture(autouse=True)
def _fresh() -> Any:
    cache.clear()
    forget()
    yield
    cache.clear()
    forget()


class Program:
    """A client of Portagent's: JSON in, JSON out, a bearer token, no cookies."""

    def __init__(self) -> None:
        self.client = Client(enforce_csrf_checks=True)
        self.response: Any = None

    def __call__(
        self, method: str, path: str, body: Any = None, *, status: int = 200, token: str = "", **headers: str
    ) -> Any:
        given = {"Authorization": f"Bearer {token}"} if token else {}
        data = {} if body is None else {"data": body, "content_type": "application/json"}
        self.response = getattr(self.client, method)(f"/api/auth/{path}", headers={**given, **headers}, **data)
        assert self.response.status_code == status, self.response.content
        assert self.response.headers["Content-Type"] == "application/json"
        assert self.response.headers["Cache-Control"] == "no-store"
        assert not self.response.cookies
        found = self.response.json()
        if status >= 400:
            assert isinstance(found["error"], str)
        return found

    def login(self, name: str = "ada", password: str = PASSWORD, **more: Any) -> Any:
        return self("post", "login", {"usernameOrEmail": name, "password": password, **more})


@pytest.fixture
def program() -> Program:
    return Program()


def mode(value: str) -> None:
    live_set(key="people.registration", value=value, actor="test")


# Signing in


def test_signing_in_by_name_and_by_address(program: Program, ada: Person) -> None:
    for name in ("ada", "Ada", "ada@example.org", "ADA@example.org"):
        found = program.login(name)
        assert set(found) == {"token", "user", "expiresIn", "refreshToken", "refreshExpiresIn"}
        assert set(found["user"]) == USER
        assert found["user"]["userId"] == str(ada.pk)
        assert found["user"]["containerId"] == f"user-{ada.pk}"
        assert found["user"]["createdAt"] == int(ada.date_joined.timestamp() * 1000)
        assert (found["expiresIn"], found["user"]["displayName"]) == ("15m", "Ada L.")
        assert identity_of_bearer(found["token"]).person_id == ada.pk
    assert AccessAttempt.objects.filter(outcome="ok", person=ada).count() == 4


@pytest.mark.parametrize(
    ("name", "password", "outcome"),
    [("ada", "wrong", "wrong_password"), ("nobody", PASSWORD, "unknown"), ("closed", PASSWORD, "inactive")],
)
def test_every_refusal_says_the_same(program: Program, ada: Person, name: str, password: str, outcome: str) -> None:
    closed = Person.objects.create_user("closed", password=PASSWORD)
    person_deactivate(person=closed, reason="x", actor="test")
    body = {"usernameOrEmail": name, "password": password}
    assert program("post", "login", body, status=401) == {"error": "Invalid credentials"}
    assert AccessAttempt.objects.get().outcome == outcome
    assert not ProgramLogin.objects.exists()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"usernameOrEmail": "ada"},
        {"password": "x"},
        {"usernameOrEmail": ["ada"], "password": {}},
        [],
        "x",
        None,
        b"{",
        b"\xff",
        {"usernameOrEmail": "a\x00", "password": "x"},
    ],
)
def test_what_is_no_sign_in_is_refused_in_the_same_shape(program: Program, ada: Person, body: Any) -> None:
    program("post", "login", body, status=400)


def test_wrong_methods_are_refused_in_the_same_shape(program: Program) -> None:
    for path in ("login", "register", "refresh", "logout"):
        assert program("get", path, status=405) == {"error": "Method not allowed"}
        assert program.response.headers["Allow"] == "POST"


def test_guessing_is_limited(program: Program, ada: Person, monkeypatch: Any) -> None:
    monkeypatch.setitem(limits.RATES, "sign_in", Rates(all=Rate(100, 60), address=Rate(100, 300), account=Rate(3, 600)))
    for _ in range(3):
        program("post", "login", {"usernameOrEmail": "ada", "password": "guess"}, status=401)
    refused = program("post", "login", {"usernameOrEmail": "ada", "password": PASSWORD}, status=429)
    assert refused["error"] == "Too many attempts"
    assert int(program.response.headers["Retry-After"]) == refused["retryAfter"] > 0


# Two factors


def code_of(secret: str) -> str:
    return format_hotp_value(hotp_value(secret, int(time.time()) // 30))


def test_a_second_factor_is_asked_for(program: Program, ada: Person) -> None:
    secret = generate_totp_secret()
    TOTP.activate(ada, secret)
    codes = RecoveryCodes.activate(ada).get_unused_codes()
    body = {"usernameOrEmail": "ada", "password": PASSWORD}
    assert program("post", "login", body, status=401) == {
        "error": "Two-factor code required",
        "code": "two_factor_required",
    }
    assert program("post", "login", {**body, "code": "000000"}, status=401)["code"] == "two_factor_invalid"
    program("post", "login", {**body, "password": "wrong", "code": code_of(secret)}, status=401)
    assert not ProgramLogin.objects.exists()
    used = code_of(secret)
    assert program.login(code=used)["token"]
    assert program("post", "login", {**body, "code": used}, status=401)["code"] == "two_factor_invalid", "counts once"
    assert program.login(code=codes[0])["token"]
    program("post", "login", {**body, "code": codes[0]}, status=401)
    assert ProgramLogin.objects.count() == 2
    assert Authenticator.objects.filter(last_used_at__isnull=False).count() == 2


def test_guessing_codes_is_limited(program: Program, ada: Person, monkeypatch: Any) -> None:
    monkeypatch.setitem(limits.RATES, "code", Rates(all=Rate(100, 60), address=Rate(100, 300), account=Rate(2, 600)))
    secret = generate_totp_secret()
    TOTP.activate(ada, secret)
    body = {"usernameOrEmail": "ada", "password": PASSWORD}
    for _ in range(2):
        program("post", "login", {**body, "code": "000000"}, status=401)
    program("post", "login", {**body, "code": code_of(secret)}, status=429)


# Joining


def test_open_registration_joins_and_signs_in(program: Program) -> None:
    mode("open")
    assert program("get", "config") == {"inviteCodeRequired": False, "registration": "open"}
    body = {
        "username": "grace",
        "password": "xk-29-dune-walker",
        "email": "grace@example.org",
        "displayName": "Grace",
        "avatar": "🦉",
    }
    found = program("post", "register", body, status=201)
    person = Person.objects.get()
    assert identity_of_bearer(found["token"]).person_id == person.pk
    assert (found["user"]["username"], found["user"]["avatar"]) == ("grace", "🦉")
    assert program("get", "verify", token=found["token"])["user"] == found["user"]
    again = program("post", "register", body, status=400)
    assert again["error"] == "Username 'grace' already exists"


def test_invitations_are_needed_used_up_and_not_told_apart(program: Program) -> None:
    mode("invite")
    assert program("get", "config")["inviteCodeRequired"] is True
    invite, code = invite_create(actor="test")
    body = {"username": "grace", "password": "xk-29-dune-walker"}
    for wrong in ("", "1735689601", "ABCD-EFGH"):
        assert program("post", "register", {**body, "inviteCode": wrong}, status=400) == {
            "error": "Invalid invite code"
        }
    program("post", "register", {**body, "password": "x", "inviteCode": code}, status=400)
    program("post", "register", {**body, "inviteCode": code}, status=201)
    invite.refresh_from_db()
    assert (invite.uses, Person.objects.get().invites_used.get().invite) == (1, invite)
    assert (
        program("post", "register", {**body, "username": "other", "inviteCode": code}, status=400)["error"]
        == "Invalid invite code"
    )
    assert set(AccessAttempt.objects.filter(kind="invite").values_list("outcome", flat=True)) >= {
        "not_found",
        "used_up",
    }


def test_closed_registration_is_closed(program: Program) -> None:
    mode("closed")
    _, code = invite_create(actor="test")
    body = {"username": "grace", "password": "xk-29-dune-walker", "inviteCode": code}
    assert program("post", "register", body, status=403) == {"error": "Registration is closed"}
    assert not Person.objects.exists()


def test_guessing_invitations_is_limited(program: Program, monkeypatch: Any) -> None:
    monkeypatch.setitem(limits.RATES, "invite", Rates(all=Rate(100, 60), address=Rate(3, 600), account=Rate(100, 600)))
    mode("invite")
    body = {"username": "grace", "password": "xk-29-dune-walker"}
    for number in range(3):
        program("post", "register", {**body, "inviteCode": f"GUESS{number}"}, status=400)
    program("post", "register", {**body, "inviteCode": invite_create(actor="test")[1]}, status=429)


# Verifying, refreshing, signing out


def test_verify_by_get_and_by_post(program: Program, ada: Person) -> None:
    token = program.login()["token"]
    for method in ("get", "post"):
        found = program(method, "verify", token=token)
        assert (found["valid"], found["user"]["username"]) == (True, "ada")
        for wrong in ("", "nonsense", token[:-2]):
            assert program(method, "verify", token=wrong, status=401) == {
                "valid": False,
                "error": "Invalid or expired token",
            }


def test_refreshing_and_its_refusals(program: Program, ada: Person) -> None:
    first = program.login()
    second = program("post", "refresh", {"refreshToken": first["refreshToken"]})
    assert second["token"] != first["token"]
    assert second["refreshToken"] != first["refreshToken"]
    assert program("get", "verify", token=second["token"])["valid"]
    program("post", "refresh", {}, status=400)
    program("post", "refresh", {"refreshToken": "nonsense"}, status=401)
    ProgramLogin.objects.update(rotated_at=timezone.now() - timedelta(minutes=1))
    program("post", "refresh", {"refreshToken": first["refreshToken"]}, status=401)
    program("post", "refresh", {"refreshToken": second["refreshToken"]}, status=401)
    assert AccessAttempt.objects.filter(kind="token", outcome="reused").count() == 1
    assert not AccessAttempt.objects.filter(kind="token", outcome="unknown").exists(), "nonsense fills no table"


@pytest.mark.parametrize("by", ["access", "refresh"])
def test_signing_out_ends_the_sign_in(
    program: Program, ada: Person, by: str, django_capture_on_commit_callbacks: Any
) -> None:
    found, other = program.login(), program.login()
    with django_capture_on_commit_callbacks(execute=True):
        if by == "access":
            assert program("post", "logout", token=found["token"]) == {"success": True}
        else:
            program("post", "logout", {"refreshToken": found["refreshToken"]})
    program("get", "verify", token=found["token"], status=401)
    program("post", "refresh", {"refreshToken": found["refreshToken"]}, status=401)
    assert program("get", "verify", token=other["token"])["valid"]
    assert program("post", "logout", token="nonsense") == {"success": True}


def test_deactivating_ends_programs_at_once(program: Program, ada: Person) -> None:
    found = program.login()
    person_deactivate(person=ada, reason="x", actor="test")
    programs._recent._known.clear()  # what a second does in other processes
    program("get", "verify", token=found["token"], status=401)
    program("post", "refresh", {"refreshToken": found["refreshToken"]}, status=401)


def test_a_personal_token_is_verified_too(program: Program, ada: Person) -> None:
    _, plain = personal_token_create(person=ada, name="x", actor="test")
    assert program("get", "verify", token=plain)["user"]["username"] == "ada"
    program("post", "logout", token=plain)
    assert program("get", "verify", token=plain)["valid"], "it is no sign-in, and is revoked in the profile"


def test_no_token_is_in_the_audit_log_or_the_database(program: Program, ada: Person) -> None:
    from django.db import connection

    found = program.login()
    program("post", "refresh", {"refreshToken": found["refreshToken"]})
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names():
            cursor.execute(f'SELECT * FROM "{table}"')
            text = str(cursor.fetchall())
            assert found["refreshToken"] not in text, table
            assert found["token"] not in text, table


def test_logs_hide_tokens(program: Program, ada: Person) -> None:
    from ops.redaction import redact_text

    found = program.login()
    for token in (found["token"], found["refreshToken"]):
        assert token[10:] not in redact_text(f"a line with {token} in it")


# Around it


def test_where_the_socket_is(client: Client) -> None:
    assert client.get("/agentx/info").json() == {"version": "0.1.0", "wsPath": "/ws"}


def test_other_sites_may_call_when_they_are_named(program: Program, ada: Person) -> None:
    origin = "https://chat.elsewhere.example"
    body = {"usernameOrEmail": "ada", "password": PASSWORD}

    def asked(path: str = "/api/auth/login") -> Any:
        preflight = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization",
        }
        return program.client.options(path, headers=preflight)

    assert "Access-Control-Allow-Origin" not in asked().headers
    program("post", "login", body, Origin=origin)
    assert "Access-Control-Allow-Origin" not in program.response.headers
    live_set(key="ALLOWED_ORIGINS", value=[origin], actor="test")
    for path in ("/api/auth/login", "/v1/chat/completions", "/api/v1/chat/conversations", "/agentx/info"):
        allowed = asked(path)
        assert allowed.headers["Access-Control-Allow-Origin"] == origin, path
        assert "authorization" in allowed.headers["Access-Control-Allow-Headers"]
        assert "Access-Control-Allow-Credentials" not in allowed.headers
    assert "Access-Control-Allow-Origin" not in asked("/api/v1/services").headers, "operators' addresses stay closed"
    program("post", "login", body, Origin=origin)
    assert program.response.headers["Access-Control-Allow-Origin"] == origin
    program("post", "login", {**body, "password": "wrong"}, status=401, Origin=origin)
    assert program.response.headers["Access-Control-Allow-Origin"] == origin, "errors are readable, too"
