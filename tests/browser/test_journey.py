"""From an invitation to signing out everywhere: on a wide light screen, and on a dark telephone."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.browser.house import PASSWORD, PHONE_DARK, WIDE_LIGHT, Portal, answers, fits, say, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]


def invitation(portal: Portal) -> str:
    return str(
        portal.up.ask(
            "from chat.services.invites import invite_create\ninvite, code = invite_create(max_uses=1, actor='command')\nresult = code"
        )
    )


def open_board(page: Any) -> None:
    if page.locator("#show-board").is_visible():
        page.locator("#show-board").click()


@pytest.mark.parametrize(("name", "device"), [("wide", WIDE_LIGHT), ("phone", PHONE_DARK)])
def test_from_an_invitation_to_signing_out_everywhere(portal: Portal, name: str, device: dict[str, Any]) -> None:
    context = portal.context(**device)
    page = context.new_page()

    # Join with the code of the link.
    page.goto(f"{portal.url}/join#{invitation(portal)}")
    page.locator("input[name=username]").fill(f"guest-{name}")
    page.locator("input[type=password]").first.fill(PASSWORD)
    assert fits(page)
    page.locator("input[type=password]").first.press("Enter")
    until(lambda: "/join" not in page.url, "joined")

    # Choose somebody, and speak. The answer comes in while it is made.
    page.goto(f"{portal.url}/chat/")
    page.get_by_role("link", name=re.compile("Slow Joe")).click()
    assert "Slow Joe" in page.inner_text(".hello")
    say(page, "Tell me a long story")
    page.locator(".message.live .block").first.wait_for()
    assert fits(page)
    page.wait_for_url(re.compile(r"/chat/c/\d+/"))
    address = page.url

    # Load again in the middle: what was said is there, and goes on.
    page.reload()
    page.locator(".message.live .block").first.wait_for()
    before = page.inner_text(".message.live .said")
    until(lambda: len(page.inner_text(".message.live .said")) > len(before) + 3, "the answer goes on")

    # A second tab sees the same.
    other = context.new_page()
    other.goto(address)
    other.locator(".message.live .block").first.wait_for()

    # Stop: both see it, and the answer keeps what it had.
    page.locator("#stop").click()
    for one in (page, other):
        answers(one).first.wait_for()
        assert one.locator(".message.live").count() == 0
        assert "stopped" in one.inner_text(".message.agent").lower()
    other.close()

    # Say it differently, to the same agent: a version beside the first, which can be gone back to.
    page.locator(".message.user").hover()
    page.get_by_role("button", name="Say it differently").click()
    page.locator("#words").fill("Tell me something else")
    page.locator("#send").click()
    page.locator(".message.user .version-count").wait_for()
    assert page.inner_text(".message.user .version-count") == "2/2"
    page.locator(".message.live .block").first.wait_for()
    page.locator("#stop").click()
    answers(page).first.wait_for()

    # Answer again.
    page.locator("#stop").wait_for(state="hidden")
    answers(page).last.get_by_role("button", name="Answer again").click()
    page.locator(".message.live .block").first.wait_for()
    page.locator("#stop").click()
    page.locator(".message.agent .version-count").wait_for()
    assert page.inner_text(".message.agent .version-count") == "2/2"
    page.locator(".message.user").get_by_role("button", name="Earlier version").click()
    page.locator(".message.user .words", has_text="Tell me a long story").wait_for()
    assert page.inner_text(".message.user .version-count") == "1/2"

    # Search finds the version that is not shown, and leads to it.
    open_board(page)
    page.locator("[data-do=search]").click()
    page.locator("#search-words").fill("something else")
    page.locator(".found-one").first.wait_for()
    page.locator("#search-words").press("ArrowDown")
    page.locator(".found-one", has_text="Tell me something else").last.click()
    page.locator(".message.user.found .words", has_text="Tell me something else").wait_for()

    # Export.
    page.locator("#line-menu summary").click()
    with page.expect_download() as downloading:
        page.locator("[data-export=md]").click()
    text = downloading.value.path().read_text()
    assert "Tell me something else" in text

    # Sign out everywhere: a second browser of the same person is out within two seconds.
    elsewhere = portal.context().new_page()
    elsewhere.goto(f"{portal.url}/account/login/?next=/chat/")
    elsewhere.locator("input[name=login]").fill(f"guest-{name}")
    elsewhere.locator("input[name=password]").fill(PASSWORD)
    elsewhere.keyboard.press("Enter")
    elsewhere.locator(".jack-row").first.wait_for()
    page.goto(f"{portal.url}/profile/")
    with portal.expecting(r"401 \(Unauthorized\)", r"WebSocket"):
        page.get_by_role("button", name="Sign out everywhere else").click()
        elsewhere.locator("#strip", has_text="Your session has ended").wait_for()
        page.goto(f"{portal.url}/account/logout/")
        page.get_by_role("button", name="Sign out").click()
        page.goto(f"{portal.url}/chat/")
        assert "/account/login/" in page.url
