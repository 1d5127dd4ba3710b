"""WCAG 2.2 AA by axe on every page and dialog of the portal, on a wide light screen and a dark telephone; and nothing overflows."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browser.house import PHONE_DARK, WIDE_LIGHT, Portal, answers, fits, say, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

DEVICES = [pytest.param(WIDE_LIGHT, id="wide-light"), pytest.param(PHONE_DARK, id="phone-dark")]
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
# Headings of messages follow those that their writers chose.
NOT_OURS = {"heading-order"}


def check(page: Any, where: str) -> None:
    """No violation of axe, and no sideways scrolling."""
    # What fades in has its colours at the end of it.
    page.wait_for_timeout(250)
    found = Axe().run(page, options=RULES).response["violations"]
    words = [
        f"{one['id']} ({one['impact']}): {node['target']} {node['html'][:160]} {node.get('failureSummary', '')[:300]}"
        for one in found
        if one["id"] not in NOT_OURS
        for node in one["nodes"]
    ]
    assert not words, f"{where}:\n" + "\n".join(words)
    assert fits(page), f"{where} scrolls sideways"


@pytest.mark.parametrize("device", DEVICES)
def test_pages_for_strangers(portal: Portal, device: dict[str, Any]) -> None:
    page = portal.context(**device).new_page()
    for address in ("/account/login/", "/join", "/account/password/reset/", "/account/inactive/"):
        page.goto(portal.url + address)
        check(page, address)
    page.goto(f"{portal.url}/account/login/")
    page.locator("input[name=login]").fill("nobody")
    page.locator("input[name=password]").fill("wrong")
    page.keyboard.press("Enter")
    page.locator(".errorlist, .error, [role=alert]").first.wait_for()
    check(page, "a refused sign-in")


@pytest.mark.parametrize("device", DEVICES)
def test_pages_of_an_account(portal: Portal, device: dict[str, Any]) -> None:
    page = portal.signed_in("clara", **device)
    for address in ("/profile/", "/account/password/change/", "/account/email/", "/account/2fa/", "/account/logout/"):
        page.goto(portal.url + address)
        check(page, address)
    page.goto(f"{portal.url}/profile/")
    menu = page.locator("details[data-menu] summary").last
    menu.click()
    check(page, "the menu of themes")


@pytest.mark.parametrize("device", DEVICES)
def test_the_chat_page_in_all_its_states(portal: Portal, device: dict[str, Any]) -> None:
    page = portal.signed_in(f"dora{device['viewport']['width']}", **device)
    page.locator(".agent-card").first.wait_for()
    check(page, "nobody chosen yet")
    portal.talk_to(page, "Tinker")
    check(page, "an agent chosen")
    say(page, "12 * (3 + 4)")
    answers(page).first.wait_for()
    page.locator(".tool > summary").click()
    check(page, "an answer with a tool")
    portal.talk_to(page, "Echo")
    say(
        page,
        "# One\n\n## Two\n\n- [x] done\n\n```python\nx = 1  # why\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n> said\n\nhttps://example.org",
    )
    answers(page).first.wait_for()
    check(page, "every kind of Markdown")
    portal.talk_to(page, "Slow Joe")
    say(page, "slowly, please")
    page.locator(".message.live .block").first.wait_for()
    say(page, "and then this")
    page.get_by_role("button", name="Do not send").wait_for()
    check(page, "an answer comes in, another waits")
    page.get_by_role("button", name="Do not send").click()
    page.locator("#stop").click()
    page.locator("#stop").wait_for(state="hidden")
    portal.talk_to(page, "Grumble")
    say(page, "hello")
    page.get_by_role("button", name="Retry").wait_for()
    check(page, "a failure")
    page.goto(f"{portal.url}/chat/c/999999/")
    with portal.expecting("404"):
        page.get_by_text("There is no such conversation").wait_for()
    check(page, "no such conversation")


@pytest.mark.parametrize("device", DEVICES)
def test_dialogs_and_menus(portal: Portal, device: dict[str, Any]) -> None:
    narrow = device["viewport"]["width"] < 500
    page = portal.signed_in(f"emma{device['viewport']['width']}", **device)
    portal.talk_to(page, "Echo")
    say(page, "a telephone switchboard")
    answers(page).first.wait_for()

    def board() -> None:
        if narrow:
            page.locator("#show-board").click()
            until(
                lambda: page.locator("#board").evaluate("(e) => e.getBoundingClientRect().left") == 0,
                "the drawer is open",
            )

    board()
    check(page, "the list")
    page.locator("[data-do=search]").click()
    page.locator("#search-words").fill("telephone")
    page.locator(".found-one").first.wait_for()
    check(page, "search")
    page.keyboard.press("Escape")
    page.locator(".board-foot summary").click()
    check(page, "the person's menu")
    for deed, heading in (
        ("settings", "Settings and shortcuts"),
        ("archive-list", "Archived conversations"),
        ("export-all", "Export or import conversations"),
    ):
        if not page.locator(f".board-foot [data-do={deed}]").is_visible():
            page.locator(".board-foot summary").click()
        page.locator(f".board-foot [data-do={deed}]").click()
        page.get_by_role("dialog", name=heading).wait_for()
        page.wait_for_timeout(400)
        check(page, heading)
        page.keyboard.press("Escape")
    item = page.locator(".jack-item").first
    item.hover()
    item.locator("summary").click()
    check(page, "the menu of a conversation")
    page.get_by_role("button", name="Rename", exact=True).first.click()
    check(page, "renaming")
    page.keyboard.press("Escape")
    if narrow:
        page.keyboard.press("Escape")
    page.locator("#line-menu summary").click()
    check(page, "the menu of the line")
    page.locator("#line-menu [data-do=room]").click()
    page.get_by_role("dialog", name="Matrix room").wait_for()
    check(page, "the Matrix room")
    page.keyboard.press("Escape")
    page.locator("#line-tools [data-do=share]").click()
    with portal.expecting("403"):  # sharing is off until an operator turns it on
        page.get_by_role("dialog", name="Share by link").wait_for()
        page.wait_for_timeout(400)
        check(page, "sharing")
    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("?")
    page.get_by_role("dialog", name="Keys").wait_for()
    check(page, "the overlay of keys")
    page.keyboard.press("Escape")
    with portal.expecting("401"):
        page.context.clear_cookies(name="switchboard_session")
        page.locator("#words").fill("said without a session")
        page.locator("#send").click()
        page.get_by_role("dialog", name="Sign in again").wait_for()
        check(page, "signing in again")


def test_what_is_wrong_is_found(portal: Portal) -> None:
    """The check itself can fail."""
    page = portal.context().new_page()
    page.goto(f"{portal.url}/account/login/")
    page.evaluate("document.querySelector('main').append(document.createElement('button'))")
    with pytest.raises(AssertionError, match="button-name"):
        check(page, "a button without a name")


def test_a_german_page_is_german(portal: Portal) -> None:
    page = portal.signed_in("frieda", locale="de-DE")
    page.locator(".agent-card").first.wait_for()
    assert page.locator("html").get_attribute("lang") == "de"
    assert page.inner_text("#pick-title") == "Mit wem möchtest du sprechen?"
    assert page.inner_text(".board-tools a") == "Neues Gespräch"
    check(page, "German")
