"""The second factor: turned on, asked for at every door (the operators' too), never readable in the database."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, generate_totp_secret, hotp_value
from cryptography.fernet import Fernet
from django.contrib.auth import SESSION_KEY
from django.core.cache import cache
from django.test import Client

from chat.access.accounts import TwoFactorAdapter
from chat.access.second_factor import has_second_factor, second_factor_remove
from chat.models import AccessAttempt, Person
from ops.models import AuditEvent
from ops.secret_rotation import rotate
from ops.secrets import SecretUnreadable
from tests.chat.people.conftest import PASSWORD, signing_in

pytestmark = pytest.mark.django_db


def code_of(secret: str) -> str:
    return format_hotp_value(hotp_value(secret, int(time.time()) // 30))


def wrong(secret: str) -> str:
    now = int(time.time()) // 30
    near = {format_hotp_value(hotp_value(secret, now + step)) for step in range(-3, 4)}
    return next(f"{number:06}" for number in range(100) if f"{number:06}" not in near)


@pytest.fixture
def secret(ada, rf) -> str:
    """Ada's second factor is on."""
    made = generate_totp_secret()
    TOTP.activate(ada, made)
    RecoveryCodes.activate(ada)
    return made


def test_turning_it_on(client, ada) -> None:
    client.post("/account/login/", signing_in("ada"))
    asked = client.get("/account/2fa/totp/activate/")
    assert asked["Location"].startswith("/account/reauthenticate/"), "a signed-in browser alone must not do"
    assert client.post("/account/reauthenticate/", {"password": "wrong"}).status_code == 200
    assert client.post("/account/reauthenticate/", {"password": PASSWORD}).status_code == 302
    page = client.get("/account/2fa/totp/activate/")
    made = client.session["mfa.totp.secret"]
    assert made in page.content.decode()
    assert "data:image/svg+xml;base64," in page.content.decode()
    assert client.post("/account/2fa/totp/activate/", {"code": wrong(made)}).status_code == 200
    assert not has_second_factor(ada)
    assert client.post("/account/2fa/totp/activate/", {"code": code_of(made)}).status_code == 302
    assert has_second_factor(ada)
    assert "on: a code of your app" in client.get("/profile/").content.decode()
    for path in (
        "/account/2fa/",
        "/account/2fa/recovery-codes/",
        "/account/2fa/recovery-codes/generate/",
        "/account/2fa/totp/deactivate/",
    ):
        answer = client.get(path)
        assert answer.status_code == 200
        assert 'class="site-header"' in answer.content.decode()
    shown = client.get("/account/2fa/recovery-codes/").content.decode()
    stored = json.dumps(list(Authenticator.objects.values_list("data", flat=True)))
    assert made not in stored
    assert all(
        row in shown for row in RecoveryCodes(Authenticator.objects.get(type="recovery_codes")).get_unused_codes()
    )
    assert stored.count("enc1:") == 2


def test_the_code_is_asked_after_the_password(client, ada, secret) -> None:
    answer = client.post("/account/login/", signing_in("ada", next="/profile/"))
    assert answer["Location"] == "/account/2fa/authenticate/"
    assert SESSION_KEY not in client.session
    assert client.get("/profile/").status_code == 302
    assert 'class="site-header"' in client.get("/account/2fa/authenticate/").content.decode()
    assert client.post("/account/2fa/authenticate/", {"code": wrong(secret)}).status_code == 200
    assert SESSION_KEY not in client.session
    assert not AccessAttempt.objects.filter(outcome="ok").exists()
    answer = client.post("/account/2fa/authenticate/", {"code": code_of(secret)})
    assert answer["Location"] == "/profile/"
    assert client.session[SESSION_KEY] == str(ada.pk)


def test_a_code_counts_once(client, ada, secret) -> None:
    code = code_of(secret)
    for browser in (client, Client()):
        browser.post("/account/login/", signing_in("ada"))
        browser.post("/account/2fa/authenticate/", {"code": code})
    assert SESSION_KEY in client.session
    assert SESSION_KEY not in browser.session


def test_codes_are_guessed_at_six_times(client, ada, secret) -> None:
    client.post("/account/login/", signing_in("ada"))
    for _ in range(6):
        client.post("/account/2fa/authenticate/", {"code": wrong(secret)})
    answer = client.post("/account/2fa/authenticate/", {"code": code_of(secret)})
    assert "Too many attempts" in answer.content.decode()
    assert SESSION_KEY not in client.session


def test_a_recovery_code_counts_once(client, ada, secret) -> None:
    code = RecoveryCodes(Authenticator.objects.get(type="recovery_codes")).get_unused_codes()[0]
    for browser in (client, Client()):
        browser.post("/account/login/", signing_in("ada"))
        browser.post("/account/2fa/authenticate/", {"code": code})
    assert SESSION_KEY in client.session
    assert SESSION_KEY not in browser.session


def test_the_operators_site_has_no_other_door(client, secret) -> None:
    Person.objects.filter(username="ada").update(is_staff=True, is_superuser=True)
    answer = client.get("/admin/")
    assert answer["Location"].startswith("/admin/login/")
    answer = client.get(answer["Location"])
    assert answer["Location"] == "/account/login/?next=%2Fadmin%2F"
    # The admin's own form is not answered at all.
    assert client.post("/admin/login/", {"username": "ada", "password": PASSWORD, "next": "/admin/"}).status_code == 302
    assert SESSION_KEY not in client.session
    client.post("/account/login/", signing_in("ada", next="/admin/"))
    assert client.get("/admin/").status_code == 302
    assert client.post("/account/2fa/authenticate/", {"code": code_of(secret)})["Location"] == "/admin/"
    assert client.get("/admin/").status_code == 200


def test_people_who_are_no_operators_are_told_so(client, ada) -> None:
    client.force_login(ada)
    answer = client.get("/admin/", follow=True)
    assert answer.status_code == 403
    assert "may not open this page" in answer.content.decode()


class TestAgain:
    def post(self, client: Client, **given: str) -> Any:
        return client.post("/account/again", json.dumps(given), content_type="application/json")

    def test_the_dialog_asks_for_the_code(self, client, ada, secret) -> None:
        answer = self.post(client, username="ada", password=PASSWORD)
        assert (answer.status_code, answer.json()["code"]) == (401, "again.code_needed")
        answer = self.post(client, username="ada", password=PASSWORD, code=wrong(secret))
        assert (answer.status_code, answer.json()["code"]) == (401, "again.code_wrong")
        assert SESSION_KEY not in client.session
        answer = self.post(client, username="ada", password="wrong", code=code_of(secret))
        assert answer.json()["code"] == "again.wrong"
        cache.clear()
        assert self.post(client, username="ada", password=PASSWORD, code=code_of(secret)).status_code == 200
        assert client.session[SESSION_KEY] == str(ada.pk)

    def test_its_codes_are_limited_too(self, client, ada, secret) -> None:
        codes = [
            self.post(client, username="ada", password=PASSWORD, code=wrong(secret)).json()["code"] for _ in range(8)
        ]
        assert codes[:5] == ["again.code_wrong"] * 5
        assert codes[-1] == "access.limited"


def test_taking_it_away_from_somebody_who_lost_it(client, ada, secret) -> None:
    assert second_factor_remove(person=ada, actor="person:root")
    assert not second_factor_remove(person=ada, actor="person:root")
    assert client.post("/account/login/", signing_in("ada"))["Location"] == "/"
    assert AuditEvent.objects.filter(action="person.second_factor_removed", actor="person:root").count() == 1


def test_its_secrets_are_rotated_with_all_others(ada, secret, settings) -> None:
    before = json.dumps(Authenticator.objects.get(type="totp").data)
    old = settings.FIELD_ENCRYPTION_KEYS
    settings.FIELD_ENCRYPTION_KEYS = [Fernet.generate_key().decode(), *old]
    dry = next(count for count in rotate(dry_run=True) if count.label == "mfa.Authenticator.data")
    assert (dry.rotated, dry.current) == (2, 0)
    assert json.dumps(Authenticator.objects.get(type="totp").data) == before
    rotate()
    settings.FIELD_ENCRYPTION_KEYS = settings.FIELD_ENCRYPTION_KEYS[:1]
    row = Authenticator.objects.get(type="totp")
    assert json.dumps(row.data) != before
    assert TwoFactorAdapter().decrypt(row.data["secret"]) == secret
    settings.FIELD_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    with pytest.raises(SecretUnreadable):
        TwoFactorAdapter().decrypt(row.data["secret"])
    assert next(count for count in rotate() if count.label == "mfa.Authenticator.data").unreadable == 2
