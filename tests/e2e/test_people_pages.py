"""Pages of accounts in a real browser: an invitation's link, signing in with a second factor, ending; small and wide, light and dark, by axe."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from axe_playwright_python.sync_playwright import Axe
from django.core.cache import cache

from chat.models import Person
from chat.services.invites import invite_create
from chat.services.people import person_deactivate, reset_link

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]

PASSWORD = "brass-cord-and-lamp"
WIDE = {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"}
SMALL = {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark", "has_touch": True}


class Window:
    """A browser of its own, and what it complained about."""

    def __init__(self, chromium: Any, url: str, form: dict[str, Any]) -> None:
        self.context = chromium.new_context(**form)
        self.page = self.context.new_page()
        self.url = url
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._said)
        self.page.on(
            "request", lambda request: self.asked.append(f"{request.url} {request.headers.get('referer', '')}")
        )

    def _said(self, message: Any) -> None:
        # A refusal of ours is no fault of the page's; and the server of these tests has no sockets for the chat page.
        fine = ("the server responded with a status of 4", "WebSocket connection to")
        if message.type == "error" and not any(one in message.text for one in fine):
            self.complaints.append(message.text)

    def open(self, path: str) -> Any:
        self.page.goto(self.url + path)
        return self.page

    def is_sound(self) -> None:
        """Nothing sticks out, and axe finds nothing."""
        assert self.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), self.page.url
        found = Axe().run(self.page).response["violations"]
        told = [(one["id"], [node["html"][:160] for node in one["nodes"]]) for one in found]
        assert told == [], self.page.url

    def close(self) -> None:
        self.context.close()
        assert self.complaints == []


@pytest.fixture(params=[WIDE, SMALL], ids=["wide-light", "small-dark"])
def window(request: Any, chromium: Any, live_server: Any, settings: Any) -> Iterator[Window]:
    cache.clear()
    settings.PUBLIC_URL = live_server.url
    made = Window(chromium, live_server.url, request.param)
    yield made
    made.close()
    cache.clear()


def sign_in(page: Any, name: str = "ada", password: str = PASSWORD) -> None:
    page.get_by_label("User name or e-mail").fill(name)
    page.get_by_label("Password").fill(password)
    page.keyboard.press("Enter")


def test_from_the_link_of_an_invitation_into_the_chat(window: Window) -> None:
    invite, code = invite_create(actor="test")
    page = window.open(f"/join#{code}")
    page.wait_for_function("document.querySelector('[name=code]').value")
    assert page.input_value("[name=code]") == code
    assert "#" not in page.url
    assert page.evaluate("document.activeElement.name") == "username"
    window.is_sound()
    page.get_by_label("User name").fill("Eve!")
    page.get_by_label("Password").fill("short")
    page.keyboard.press("Enter")
    page.wait_for_selector(".errorlist")
    assert "Use letters a to z" in page.inner_text("main")
    assert page.input_value("[name=code]") == code
    window.is_sound()
    page.get_by_label("User name").fill("eve")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/chat/")
    assert Person.objects.get().username == "eve"
    invite.refresh_from_db()
    assert invite.uses == 1
    assert not [line for line in window.asked if code in line], "the code was in an address or a referrer"


def test_every_page_is_sound(window: Window) -> None:
    ada = Person.objects.create_user("ada", "ada@example.org", PASSWORD, display_name="Ada")
    for path in (
        "/join",
        "/account/login/",
        "/account/password/reset/",
        "/account/password/reset/done/",
        "/account/inactive/",
    ):
        window.open(path)
        window.is_sound()
    page = window.open(reset_link(person=ada, actor="test").removeprefix(window.url))
    assert "A new password" in page.inner_text("h1")
    window.is_sound()
    sign_in(window.open("/account/login/"), password="wrong")
    page.wait_for_selector(".notice.trouble")
    window.is_sound()
    sign_in(page)
    page.wait_for_url("**/chat/")
    for path in ("/profile/", "/account/email/", "/account/password/change/", "/account/2fa/", "/account/logout/"):
        window.open(path)
        window.is_sound()
    page = window.open("/profile/")
    page.get_by_label("What is it for?").fill("phone")
    page.get_by_role("button", name="Make a token").click()
    page.wait_for_selector("text=shown this once only")
    window.is_sound()


def test_the_second_factor_from_its_qr_code_to_the_next_sign_in(window: Window) -> None:
    Person.objects.create_user("ada", password=PASSWORD)
    sign_in(window.open("/account/login/?next=/profile/"))
    page = window.page
    page.wait_for_url(f"{window.url}/profile/")
    page.get_by_role("link", name="Turn on").click()
    page.get_by_role("link", name="Turn it on").click()
    page.get_by_label("Password").fill(PASSWORD)
    window.is_sound()
    page.keyboard.press("Enter")
    page.wait_for_selector("img.qr")
    assert page.evaluate("document.querySelector('img.qr').naturalWidth") > 0, "the policy lets the picture in"
    window.is_sound()
    secret = page.inner_text(".card code")
    page.get_by_label("Authenticator code").fill(format_hotp_value(hotp_value(secret, int(time.time()) // 30)))
    page.keyboard.press("Enter")
    page.wait_for_selector(".codes li")
    window.is_sound()
    recovery = page.locator(".codes li").first.inner_text()
    window.open("/account/logout/").get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/account/login/")
    sign_in(page)
    page.wait_for_url("**/account/2fa/authenticate/")
    window.is_sound()
    page.get_by_label("Code").fill(recovery)
    page.keyboard.press("Enter")
    page.wait_for_url("**/chat/")


def test_ending_one_browser_from_another(window: Window, chromium: Any) -> None:
    ada = Person.objects.create_user("ada", password=PASSWORD)
    Person.objects.create_user("root", password=PASSWORD, is_staff=True)
    other = Window(chromium, window.url, WIDE)
    sign_in(other.open("/account/login/?next=/profile/"))
    other.page.wait_for_url(f"{window.url}/profile/")
    sign_in(window.open("/account/login/?next=/profile/"))
    window.page.wait_for_url(f"{window.url}/profile/")
    assert window.page.locator("#browsers .rows li").count() == 2
    window.page.locator("#browsers .rows li").filter(has_not_text="this browser").get_by_role(
        "button", name="End"
    ).click()
    window.page.wait_for_selector("text=That browser is signed out.")
    other.page.reload()
    assert "/account/login/" in other.page.url
    person_deactivate(person=ada, reason="left", actor="person:root")
    window.page.reload()
    assert "/account/login/" in window.page.url
    sign_in(window.page)
    window.page.wait_for_url("**/account/inactive/")
    window.is_sound()
    other.close()
