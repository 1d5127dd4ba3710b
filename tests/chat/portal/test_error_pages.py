"""Pages for what does not work look like all others, in the reader's language, and say what it means and what to do."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from chat.models import Person

FRAMEWORK = ("The requested resource was not found", "Server Error (500)", "Bad Request (400)")


@pytest.fixture
def browser(db: None) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(Person.objects.create_user("ada", password="a long passphrase", is_staff=True))
    return client


def ours(answer: Any, status: int, sentence: str) -> None:
    text = answer.content.decode()
    assert answer.status_code == status
    assert sentence in text
    assert "setup.css" in text
    assert not any(one in text for one in FRAMEWORK)


@pytest.mark.parametrize("path", ["/nothing/here/", "/admin/ops/restore/00000000-0000-0000-0000-000000000001/change/"])
def test_what_is_not_there(browser: Client, path: str) -> None:
    answer = browser.get(path)
    ours(answer, 404, "There is no such page")
    assert f'class="button" href="{reverse("home")}"' in answer.content.decode()


def test_it_is_said_in_the_reader_s_language(browser: Client) -> None:
    ours(browser.get("/nothing/here/", HTTP_ACCEPT_LANGUAGE="de"), 404, "Diese Seite gibt es nicht")


def test_what_fails(browser: Client, monkeypatch: Any) -> None:
    def breaks(*given: Any) -> None:
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr("ops.admin.restores.words.standing", breaks)
    answer = browser.get(reverse("admin:ops_restore_start"))
    ours(answer, 500, "This page could not be made")
    assert "a secret of the inside" not in answer.content.decode()


def test_an_address_that_is_not_this_server_s(browser: Client, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["switchboard.example.org"]
    ours(browser.get("/", HTTP_HOST="elsewhere.example.org"), 400, "This request was not understood")
