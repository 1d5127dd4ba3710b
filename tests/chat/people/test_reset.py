"""Forgotten passwords and e-mail addresses: links by mail or through an operator, once, for a day; nobody learns who exists."""

from __future__ import annotations

import re
import smtplib
from datetime import timedelta
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.core import mail
from django.core.mail import EmailMessage
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from chat.models import AccessAttempt, Person
from chat.services import email_addresses, reset_mail
from chat.services.people import reset_link
from chat.services.reset_mail import reset_mail_send, reset_mails_send
from ops.models import AuditEvent
from ops.redaction import redact_text
from tests.chat.people.conftest import PASSWORD, signing_in

pytestmark = pytest.mark.django_db

NEW = "another-one-29!"
ASK = "/account/password/reset/"


@pytest.fixture
def woken(monkeypatch) -> list[int]:
    """Which requests a worker was told of."""
    ids: list[int] = []
    monkeypatch.setattr(reset_mail, "wake_reset_mail", ids.append)
    return ids


@pytest.fixture
def mailing(settings) -> Any:
    settings.MAIL = True
    settings.PUBLIC_URL = "https://chat.example.org"
    return mail


def set_by(link: str, password: str = NEW) -> Any:
    """Open a link as a browser does, and set a password with it."""
    client = Client()
    path = re.sub(r"^https?://[^/]+", "", link)
    opened = client.get(path, follow=True)
    if "does not count any more" in opened.content.decode():
        return None
    return client.post(opened.redirect_chain[-1][0], {"password1": password, "password2": password})


def test_by_mail(client, ada, woken, mailing, django_capture_on_commit_callbacks) -> None:
    EmailAddress.objects.create(user=ada, email="ada@example.org", verified=True, primary=True)
    with django_capture_on_commit_callbacks(execute=True):
        answer = client.post(ASK, {"login": "Ada@Example.org"}, HTTP_HOST="localhost")
    assert answer["Location"] == "/account/password/reset/done/"
    assert [reset_mail_send(pk) for pk in woken] == ["ok"]
    assert [reset_mail_send(pk) for pk in woken] == [""], "a second worker sends nothing"
    sent = mailing.outbox[0]
    assert sent.to == ["ada@example.org"]
    link = re.search(r"https://\S+", sent.body)
    assert link is not None
    assert link[0].startswith("https://chat.example.org/account/password/reset/key/")
    assert set_by(link[0]).status_code == 302
    ada.refresh_from_db()
    assert ada.check_password(NEW)
    assert AccessAttempt.objects.values_list("kind", "outcome", "person").get(kind="reset") == ("reset", "ok", ada.pk)


def test_nobody_learns_who_exists(client, ada, bob, woken, mailing, django_capture_on_commit_callbacks) -> None:
    Person.objects.filter(pk=bob.pk).update(is_active=False)
    seen, queries = set(), set()
    for login in ("ada", "ada@example.org", "bob", "nobody", "nobody@example.org"):
        with CaptureQueriesContext(connection) as captured, django_capture_on_commit_callbacks(execute=True):
            answer = client.post(ASK, {"login": login})
        seen.add((answer.status_code, answer["Location"]))
        queries.add(len(captured))
    assert len(seen) == len(queries) == 1
    assert not mailing.outbox, "the request itself sends nothing"
    outcomes = [reset_mail_send(pk) for pk in woken]
    assert outcomes == ["no_address", "no_address", "inactive", "unknown", "unknown"]


def test_without_a_mail_server_the_operator_hands_the_link_over(
    client, ada, woken, settings, django_capture_on_commit_callbacks
) -> None:
    assert not settings.MAIL
    assert "No mail server" in client.get(ASK).content.decode()
    with django_capture_on_commit_callbacks(execute=True):
        client.post(ASK, {"login": "ada"})
    assert reset_mail_send(woken[0]) == "no_mail"
    assert AccessAttempt.objects.get(pk=woken[0]).person == ada
    link = reset_link(person=ada, actor="person:root")
    assert set_by(link).status_code == 302
    event = AuditEvent.objects.get(action="person.reset_link")
    assert event.actor == "person:root"
    assert link.rsplit("/", 2)[1] not in str(AuditEvent.objects.values())


def test_a_link_counts_once_and_ends_everything(client, ada) -> None:
    client.post("/account/login/", signing_in("ada"))
    first = reset_link(person=Person.objects.get(), actor="test")
    second = reset_link(person=Person.objects.get(), actor="test")
    assert set_by(first).status_code == 302
    assert set_by(first, "yet-another-29") is None
    assert set_by(second, "yet-another-29") is None
    assert client.get("/profile/").status_code == 302
    ada.refresh_from_db()
    assert ada.check_password(NEW)
    assert ada.access_epoch == 1


def test_a_link_counts_for_a_day(ada, settings, monkeypatch) -> None:
    link = reset_link(person=ada, actor="test")
    real = PasswordResetTokenGenerator._now
    monkeypatch.setattr(PasswordResetTokenGenerator, "_now", lambda self: real(self) + timedelta(hours=24, seconds=1))
    assert set_by(link) is None
    monkeypatch.setattr(PasswordResetTokenGenerator, "_now", lambda self: real(self) + timedelta(hours=23))
    assert set_by(link) is not None


def test_a_link_of_one_person_is_no_link_of_another(ada, bob) -> None:
    uid = re.search(r"key/([^-]+)-", reset_link(person=bob, actor="test"))
    assert uid is not None
    forged = re.sub(r"key/[^-]+-", f"key/{uid[1]}-", reset_link(person=ada, actor="test"))
    assert set_by(forged) is None


def test_passwords_are_judged(ada) -> None:
    answer = set_by(reset_link(person=ada, actor="test"), "12345678")
    assert answer.status_code == 200
    assert "too common" in answer.content.decode()
    ada.refresh_from_db()
    assert ada.check_password(PASSWORD)


def test_asking_is_limited(client, ada, woken, clock) -> None:
    codes = [client.post(ASK, {"login": "ada"}, REMOTE_ADDR=f"192.0.2.{n}").status_code for n in range(6)]
    assert codes == [302] * 4 + [429] * 2
    answer = client.post(ASK, {"login": "ADA"})
    assert answer.status_code == 429
    assert int(answer["Retry-After"]) > 0
    codes = [client.post(ASK, {"login": f"name{n}"}, REMOTE_ADDR="192.0.2.99").status_code for n in range(22)]
    assert codes == [302] * 20 + [429] * 2


def test_a_mail_server_that_fails_is_asked_again(ada, mailing, monkeypatch) -> None:
    EmailAddress.objects.create(user=ada, email="ada@example.org", verified=True, primary=True)
    row = AccessAttempt.objects.create(kind="reset", outcome="asked", name="ada")

    def fails(self: Any) -> int:
        raise smtplib.SMTPServerDisconnected("gone")

    with monkeypatch.context() as broken:
        broken.setattr(EmailMessage, "send", fails)
        assert reset_mail_send(row.pk) == "asked"
    assert reset_mails_send() == 0, "its own worker has it for a moment"
    AccessAttempt.objects.update(at=timezone.now() - timedelta(seconds=30))
    assert reset_mails_send() == 1
    assert len(mailing.outbox) == 1
    AccessAttempt.objects.create(kind="reset", outcome="asked", name="ada", at=timezone.now() - timedelta(hours=2))
    assert reset_mails_send() == 0, "nobody waits for it any more"


def test_proving_an_address(client, ada, mailing) -> None:
    EmailAddress.objects.create(user=ada, email="ada@example.org", verified=True, primary=True)
    client.force_login(ada)
    assert client.post("/account/email/", {"action_add": "1", "email": "New@Example.org"}).status_code == 302
    ada.refresh_from_db()
    assert ada.email == "ada@example.org", "the old one counts until the new one is proven"
    link = re.search(r"https://\S+", mailing.outbox[-1].body)
    assert link is not None
    path = link[0].removeprefix("https://chat.example.org")
    assert "new@example.org" in client.get(path).content.decode()
    assert client.post(path).status_code == 302
    ada.refresh_from_db()
    assert ada.email == "new@example.org"
    assert list(EmailAddress.objects.filter(user=ada).values_list("email", "verified")) == [("new@example.org", True)]
    assert "does not count any more" in Client().get(path).content.decode()


def test_an_address_that_somebody_else_proved_stays_theirs(ada, bob) -> None:
    EmailAddress.objects.create(user=bob, email="both@example.org", verified=True, primary=True)
    ada.email = "both@example.org"
    row = email_addresses.email_follow(person=ada, verified=True)
    assert row is not None
    assert not row.verified
    assert not email_addresses.email_confirm(person=ada, email="both@example.org", actor="test")
    path = "/account/" + email_addresses.confirmation_link(row).partition("/account/")[2]
    assert "Somebody else has this address" in Client().get(path).content.decode()


def test_an_operator_vouches_for_an_address(ada) -> None:
    email_addresses.email_follow(person=ada, verified=False)
    assert [address for address, _link in email_addresses.open_confirmations(ada)] == ["ada@example.org"]
    assert email_addresses.email_confirm(person=ada, email="ada@example.org", actor="person:root")
    assert email_addresses.open_confirmations(ada) == []


@pytest.mark.parametrize(
    "path",
    [
        "/account/confirm-email/MTI:1xYzAB:abcdefgh_-123/",
        "/account/password/reset/key/2s-d0abcd-0123456789abcdef/",
        "/join#7K3M-9QXT-0000",
    ],
)
def test_logs_hide_these_links(path: str) -> None:
    hidden = redact_text(f'GET https://chat.example.org{path} "200"')
    assert path.rstrip("/").rpartition("/")[2].rpartition("#")[2] not in hidden
    assert "[hidden]" in hidden
