"""Every page of accounts can be reached, in our look, without anything inline."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from django.urls import reverse

from chat.models import Person

pytestmark = pytest.mark.django_db

PASSWORD = "correct horse battery"

OPEN_PAGES = [
    "account_login",
    "account_reset_password",
    "account_reset_password_done",
    "account_reset_password_from_key_done",
    "account_inactive",
    "account_email_verification_sent",
    "join",
]
OWN_PAGES = [
    "account_logout",
    "account_email",
    "account_change_password",
    "mfa_index",
    "profile",
    "account_reauthenticate",
]


@pytest.fixture
def ada():
    return Person.objects.create_user("ada", "ada@example.org", PASSWORD, display_name="Ada")


def is_ours(response) -> None:
    text = response.content.decode()
    assert 'class="site-header"' in text
    assert "portal/tokens.css" in text
    assert not re.search(r"<script(?![^>]*\bsrc=)", text), "an inline script"
    assert not re.search(r"<[^>]+\sstyle=", text), "an inline style"
    assert not re.search(r"<[^>]+\son[a-z]+=", text), "an inline handler"
    assert "<style" not in text
    assert "script-src 'self'" in response["Content-Security-Policy"]


@pytest.mark.parametrize("name", OPEN_PAGES)
def test_pages_before_signing_in(client: Client, name: str) -> None:
    response = client.get(reverse(name))
    assert response.status_code == 200
    is_ours(response)


@pytest.mark.parametrize("name", OWN_PAGES)
def test_pages_of_a_person(client: Client, ada: Person, name: str) -> None:
    client.force_login(ada)
    response = client.get(reverse(name))
    assert response.status_code == 200
    is_ours(response)


@pytest.mark.parametrize("name", OWN_PAGES[1:])
def test_own_pages_ask_strangers_to_sign_in(client: Client, name: str) -> None:
    response = client.get(reverse(name))
    assert response.status_code == 302
    assert response["Location"].startswith(reverse("account_login"))


def test_links_that_do_not_count_say_so_in_our_look(client: Client) -> None:
    for path in ("/account/password/reset/key/1-abc-def/", "/account/confirm-email/nonsense/"):
        response = client.get(path, follow=True)
        assert "does not count any more" in response.content.decode()
        is_ours(response)


def test_signing_up_leads_to_joining(client: Client) -> None:
    assert client.get("/account/signup/")["Location"] == "/join"
    assert client.get("/account/sessions/")["Location"].startswith("/profile/")
