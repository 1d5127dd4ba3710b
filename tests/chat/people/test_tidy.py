"""What is forgotten by itself, and what has no page of its own."""

from __future__ import annotations

from datetime import timedelta

import pytest
from allauth.usersessions.models import UserSession
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from chat.models import AccessAttempt
from chat.services.pruning import prune_sessions
from controlplane.models import SetupLink
from controlplane.setup.services import set_password
from ops.retention import purge_automatic
from tests.chat.people.conftest import signing_in

pytestmark = pytest.mark.django_db


def test_sessions_that_expired_are_forgotten(ada) -> None:
    old, new = Client(), Client()
    for browser in (old, new):
        browser.post("/account/login/", signing_in("ada"))
    Session.objects.filter(session_key=old.session.session_key).update(
        expire_date=timezone.now() - timedelta(seconds=1)
    )
    UserSession.objects.filter(session_key=old.session.session_key).update(
        last_seen_at=timezone.now() - timedelta(days=15)
    )
    assert prune_sessions() == 1
    assert UserSession.objects.get().session_key == new.session.session_key
    assert new.get("/profile/").status_code == 200


def test_attempts_are_kept_for_ninety_days(ada) -> None:
    for days in (1, 89, 91, 400):
        AccessAttempt.objects.create(kind="sign_in", outcome="unknown", at=timezone.now() - timedelta(days=days))
    assert purge_automatic()["attempts"] == 2
    assert AccessAttempt.objects.count() == 2


def test_rows_of_allauth_have_no_pages(client, root) -> None:
    client.force_login(root)
    for path in ("account/emailaddress", "mfa/authenticator", "usersessions/usersession"):
        assert client.get(f"/admin/{path}/").status_code == 404


def test_a_set_up_link_ends_what_was_open(ada) -> None:
    browser = Client()
    browser.post("/account/login/", signing_in("ada"))
    link = SetupLink.objects.create(nonce="x" * 32, person=ada, expires_at=timezone.now() + timedelta(hours=1))
    set_password(link=link, password="a-new-one-29!")
    assert browser.get("/profile/").status_code == 302
    ada.refresh_from_db()
    assert ada.check_password("a-new-one-29!")
