"""Signing in: by name or e-mail, the same for known and unknown, limited, with known browsers, without leaving our site."""

from __future__ import annotations

import json
import re

import pytest
from django.contrib.auth import SESSION_KEY
from django.test import Client

from chat.access import limits, passwords
from chat.access.devices import COOKIE
from chat.models import AccessAttempt, Person
from tests.chat.people.conftest import PASSWORD, signing_in

pytestmark = pytest.mark.django_db

LOGIN = "/account/login/"


def is_in(client: Client) -> bool:
    return SESSION_KEY in client.session


@pytest.mark.parametrize("login", ["ada", "ADA", " ada ", "ada@example.org", "Ada@Example.ORG"])
def test_by_name_or_e_mail(client, ada, login: str) -> None:
    response = client.post(LOGIN, signing_in(login))
    assert (response.status_code, response["Location"]) == (302, "/")
    assert client.session[SESSION_KEY] == str(ada.pk)
    assert AccessAttempt.objects.values_list("kind", "outcome", "person").get() == ("sign_in", "ok", ada.pk)


def test_the_same_answer_for_known_and_unknown_names(client, ada, bob) -> None:
    Person.objects.filter(pk=bob.pk).update(is_active=False)
    seen = set()
    for login in ("ada", "ada@example.org", "bob", "nobody", "nobody@example.org", "n\u202eo", "x" * 254):
        response = client.post(LOGIN, signing_in(login, "wrong"))
        text = re.sub(r'name="csrfmiddlewaretoken" value="[^"]+"|value="[^"]*"', "", response.content.decode())
        seen.add((response.status_code, text, tuple(sorted(response.cookies))))
    assert len(seen) == 1
    assert "The name or the password is not right." in seen.pop()[1]
    kept = list(AccessAttempt.objects.order_by("pk").values_list("outcome", flat=True))
    assert kept == ["wrong_password"] * 3 + ["unknown"] * 4


@pytest.mark.parametrize("login", ["ada", "ada@example.org", "nobody", "nobody@example.org"])
def test_the_same_work_for_known_and_unknown_names(client, ada, login: str, monkeypatch) -> None:
    """One password hash each, wherever it comes from: that is what takes the time."""
    from django.contrib.auth.hashers import MD5PasswordHasher

    hashed: list[str] = []
    real = MD5PasswordHasher.encode
    monkeypatch.setattr(
        MD5PasswordHasher, "encode", lambda self, password, salt: hashed.append(password) or real(self, password, salt)
    )
    client.post(LOGIN, signing_in(login, "wrong"))
    assert hashed == ["wrong"]


def test_a_closed_account_is_told_to_whoever_knows_its_password_only(client, ada) -> None:
    Person.objects.filter(pk=ada.pk).update(is_active=False)
    assert client.post(LOGIN, signing_in("ada"))["Location"] == "/account/inactive/"
    assert not is_in(client)
    assert AccessAttempt.objects.get().outcome == "inactive"


def test_an_unproven_address_that_several_gave_is_nobodys(client, ada, bob) -> None:
    from allauth.account.models import EmailAddress

    for person in (ada, bob):
        EmailAddress.objects.create(user=person, email="both@example.org", verified=False)
    assert passwords.find_person("both@example.org") is None
    EmailAddress.objects.filter(user=bob).update(verified=True)
    assert passwords.find_person("both@example.org") == bob


@pytest.mark.parametrize(
    "goal",
    [
        "https://evil.test/",
        "//evil.test",
        "/\\evil.test",
        "javascript:alert(1)",
        "http://localhost:9/",
        "https:///evil.test",
        "\thttps://evil.test",
    ],
)
def test_signing_in_leads_to_no_other_site(client, ada, goal: str) -> None:
    response = client.post(LOGIN, signing_in("ada", next=goal))
    assert (response.status_code, response["Location"]) == (302, "/")


def test_signing_in_leads_back_to_where_one_was_going(client, ada) -> None:
    response = client.get("/profile/")
    assert response["Location"] == "/account/login/?next=/profile/"
    assert 'name="next" value="/profile/"' in client.get(response["Location"]).content.decode()
    assert client.post(LOGIN, signing_in("ada", next="/profile/"))["Location"] == "/profile/"


def test_forged_requests_do_not_count(strict, ada) -> None:
    assert strict.post(LOGIN, signing_in("ada")).status_code == 403
    assert strict.post("/account/again", {"username": "ada", "password": PASSWORD}).status_code == 403
    assert not is_in(strict)


class TestLimits:
    def test_an_account_is_guessed_at_ten_times(self, client, ada, clock) -> None:
        for _ in range(10):
            assert client.post(LOGIN, signing_in("ada", "wrong")).status_code == 200
        response = client.post(LOGIN, signing_in("ada"))
        assert response.status_code == 429
        assert 0 < int(response["Retry-After"]) <= 601
        assert "Too many attempts. Wait" in response.content.decode()
        assert not is_in(client)
        # Another account of the same address still may.
        Person.objects.create_user("carl", password=PASSWORD)
        assert client.post(LOGIN, signing_in("carl")).status_code == 302
        # And when the time is over, so may this one.
        clock.now += int(response["Retry-After"])
        fresh = Client()
        assert fresh.post(LOGIN, signing_in("ada")).status_code == 302

    def test_the_limit_is_the_same_for_names_that_nobody_has(self, client, ada, clock) -> None:
        answers = {
            login: [
                client.post(LOGIN, signing_in(login, "wrong"), REMOTE_ADDR=f"192.0.2.{number}").status_code
                for _ in range(12)
            ]
            for number, login in enumerate(("ada", "nobody"))
        }
        assert answers["ada"] == answers["nobody"] == [200] * 10 + [429] * 2

    def test_an_address_may_guess_at_thirty_accounts(self, client, db, clock) -> None:
        codes = [client.post(LOGIN, signing_in(f"name{number}", "wrong")).status_code for number in range(32)]
        assert codes == [200] * 30 + [429] * 2
        assert client.post(LOGIN, signing_in("other", "wrong"), REMOTE_ADDR="192.0.2.9").status_code == 200

    def test_all_together_have_a_limit_too(self, client, db, clock, monkeypatch) -> None:
        rates = limits.RATES["sign_in"]
        monkeypatch.setitem(limits.RATES, "sign_in", limits.Rates(limits.Rate(5, 60), rates.address, rates.account))
        codes = [
            client.post(LOGIN, signing_in(f"name{number}", "wrong"), REMOTE_ADDR=f"198.51.100.{number}").status_code
            for number in range(7)
        ]
        assert codes == [200] * 5 + [429] * 2

    def test_success_uses_nothing_up(self, ada, clock) -> None:
        for _ in range(40):
            client = Client()
            assert client.post(LOGIN, signing_in("ada")).status_code == 302

    def test_forwarded_addresses_count_behind_our_own_proxy_only(self, client, db, clock, settings) -> None:
        def guess(number: int) -> int:
            forwarded = f"203.0.113.{number}, 10.0.0.{number}"
            return client.post(LOGIN, signing_in(f"n{number}", "wrong"), HTTP_X_FORWARDED_FOR=forwarded).status_code

        settings.TRUST_PROXY = False
        assert [guess(number) for number in range(31)][-1] == 429
        settings.TRUST_PROXY = True
        assert guess(99) == 200
        assert AccessAttempt.objects.order_by("-pk").values_list("address", flat=True)[0] == "10.0.0.99"

    def test_a_browser_that_knows_the_account_is_not_locked_out_by_others(self, ada, clock) -> None:
        mine = Client()
        mine.post(LOGIN, signing_in("ada"))
        mine.logout()
        # ``logout`` of the test's client empties its cookies; the browser keeps this one.
        mine.post(LOGIN, signing_in("ada"))
        mine.post("/account/logout/")
        assert mine.cookies[COOKIE].value
        assert mine.cookies[COOKIE]["httponly"]
        attacker = Client()
        for number in range(12):
            attacker.post(LOGIN, signing_in("ada", "wrong"), REMOTE_ADDR=f"198.51.100.{number}")
        assert attacker.post(LOGIN, signing_in("ada")).status_code == 429
        assert mine.post(LOGIN, signing_in("ada")).status_code == 302

    def test_that_browser_guesses_ten_times_itself(self, ada, bob, clock) -> None:
        mine = Client()
        mine.post(LOGIN, signing_in("ada"))
        mine.post("/account/logout/")
        codes = [mine.post(LOGIN, signing_in("ada", "wrong")).status_code for _ in range(12)]
        assert codes == [200] * 10 + [429] * 2
        # It knows nobody else, and a cookie that was tampered with knows nobody.
        mine.cookies[COOKIE] = mine.cookies[COOKIE].value[:-2] + "xx"
        for _ in range(10):
            mine.post(LOGIN, signing_in("bob", "wrong"))
        assert mine.post(LOGIN, signing_in("bob")).status_code == 429


class TestAgain:
    """The dialog of the chat page."""

    def post(self, client: Client, **given: str):
        return client.post("/account/again", json.dumps(given), content_type="application/json")

    def test_signing_in_again_after_the_session_ended(self, strict, ada) -> None:
        token = strict.get("/account/again").json()["csrf"]
        given = {"username": "ada", "password": PASSWORD}
        token = strict.post("/account/again", given, HTTP_X_CSRFTOKEN=token).json()["csrf"]
        # The page knows this token; then its session ends.
        for session in ada.usersession_set.all():
            session.end()
        strict.cookies.pop("switchboard_session")
        assert strict.get("/account/again").json()["person"] is None
        body = json.dumps(given)
        answer = strict.post("/account/again", body, content_type="application/json", HTTP_X_CSRFTOKEN=token)
        assert answer.status_code == 200
        assert answer.json()["person"] == {"id": ada.pk, "username": "ada"}
        # The token it brought is the one that counts now.
        assert strict.post("/profile/everywhere/end", HTTP_X_CSRFTOKEN=answer.json()["csrf"]).status_code == 302
        assert strict.get("/account/again").json()["person"]["id"] == ada.pk

    def test_refusals_are_problems(self, client, ada, clock) -> None:
        for given, status, code in (
            ({"username": "ada", "password": "wrong"}, 401, "again.wrong"),
            ({"username": "nobody", "password": "wrong"}, 401, "again.wrong"),
            ({"username": "a\x00da", "password": "wrong"}, 401, "again.wrong"),
            ({"username": "ada"}, 400, "request.malformed"),
        ):
            answer = self.post(client, **given)
            assert (answer.status_code, answer.json()["code"]) == (status, code)
            assert answer["Content-Type"] == "application/problem+json"
        for body in ("[1]", "{", '{"username": 1, "password": 2}', "null", '"x"'):
            assert client.post("/account/again", body, content_type="application/json").status_code == 400
        Person.objects.filter(pk=ada.pk).update(is_active=False)
        assert self.post(client, username="ada", password=PASSWORD).json()["code"] == "again.closed"
        for _ in range(10):
            answer = self.post(client, username="ada", password="wrong")
        assert (answer.status_code, answer.json()["code"]) == (429, "access.limited")
        assert int(answer["Retry-After"]) == answer.json()["retry_after"]
        assert not is_in(client)
