"""What somebody wrote is never lost: drafts, messages that could not be sent, an ended session, a broken line."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.browser.house import PASSWORD, Portal, answers, say, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def draft_on_server(portal: Portal, conversation: int) -> str:
    return str(
        portal.up.ask(
            f"from chat.models import Membership\nresult = Membership.objects.get(conversation_id={conversation}).draft.get('text', '')"
        )
    )


def begun(portal: Portal, page: Any) -> int:
    portal.talk_to(page, "Echo")
    say(page, "the beginning")
    answers(page).first.wait_for()
    found = re.search(r"/chat/c/(\d+)/", page.url)
    assert found
    return int(found.group(1))


def test_drafts_survive_a_reload_a_crash_and_another_device(portal: Portal) -> None:
    page = portal.signed_in("gerda")
    conversation = begun(portal, page)
    page.locator("#words").fill("half a thought")
    page.reload()
    page.locator(".message").first.wait_for()
    until(lambda: page.locator("#words").input_value() == "half a thought", "the draft is back")
    until(lambda: draft_on_server(portal, conversation) == "half a thought", "the server has it")
    # A crash: the tab is gone, another one opens.
    context = page.context
    page.close()
    page = context.new_page()
    page.goto(f"{portal.url}/chat/c/{conversation}/")
    until(lambda: page.locator("#words").input_value() == "half a thought", "the draft is in a new tab")
    other = portal.signed_in("gerda")
    other.goto(f"{portal.url}/chat/c/{conversation}/")
    until(lambda: other.locator("#words").input_value() == "half a thought", "the draft is on another device")
    # A beginning conversation has a draft too.
    portal.talk_to(page, "Ada")
    page.locator("#words").fill("not yet begun")
    page.reload()
    page.locator("#composer").wait_for()
    until(lambda: page.locator("#words").input_value() == "not yet begun", "the draft of a beginning")


def test_an_ended_session_costs_nothing(portal: Portal) -> None:
    page = portal.signed_in("hanna")
    begun(portal, page)
    with portal.expecting("401"):
        portal.up.ask(
            "from django.contrib.sessions.models import Session\nSession.objects.all().delete()\nresult = True"
        )
        page.locator("#strip", has_text="Your session has ended").wait_for()
        say(page, "said after the session ended")
        dialog = page.get_by_role("dialog", name="Sign in again")
        dialog.wait_for()
        assert "said after the session ended" in page.inner_text(".message.unsent")
        dialog.get_by_label("Password").fill("wrong")
        dialog.get_by_role("button", name="Sign in").click()
        dialog.get_by_text("The name or the password is not right").wait_for()
        dialog.get_by_label("Password").fill(PASSWORD)
        dialog.get_by_role("button", name="Sign in").click()
        page.locator(".message.user:not(.unsent) .words", has_text="said after the session ended").wait_for()
        until(lambda: answers(page).count() == 2, "it is answered")
        assert page.locator(".message.unsent").count() == 0


def test_without_a_connection_messages_wait_and_are_said_once(portal: Portal) -> None:
    page = portal.signed_in("ilse")
    conversation = begun(portal, page)
    with portal.expecting("ERR_INTERNET_DISCONNECTED"):
        page.context.set_offline(True)
        say(page, "said without a connection")
        page.get_by_role("button", name="Send again").wait_for()
        page.context.set_offline(False)
        until(lambda: answers(page).count() == 2, "it is sent and answered")
    count = portal.up.ask(
        f"from chat.models import Message\nresult = Message.objects.filter(conversation_id={conversation}, role='user', text='said without a connection').count()"
    )
    assert count == 1


def test_two_tabs_are_in_step(portal: Portal) -> None:
    page = portal.signed_in("jutta")
    conversation = begun(portal, page)
    other = page.context.new_page()
    other.goto(f"{portal.url}/chat/c/{conversation}/")
    answers(other).first.wait_for()
    say(page, "seen in both")
    until(lambda: answers(other).count() == 2 and answers(page).count() == 2, "both have the answer")
    assert other.locator(".message").count() == page.locator(".message").count() == 4
    # Renamed here, renamed there; deleted and brought back.
    page.locator("#line-menu summary").click()
    page.locator("#line-menu [data-do=rename]").click()
    page.get_by_role("textbox", name="Title").fill("A name of its own")
    page.keyboard.press("Enter")
    until(lambda: other.inner_text("#title") == "A name of its own", "the title is told")
    page.locator("#line-menu summary").click()
    page.locator("#line-menu [data-do=delete]").click()
    page.locator("#pick-title").wait_for()
    until(lambda: other.locator(".jack-row", has_text="A name of its own").count() == 0, "gone in the other tab")
    page.get_by_role("button", name="Undo").click()
    page.locator(".jack-row", has_text="A name of its own").wait_for()
    until(lambda: page.inner_text("#title") == "A name of its own", "it is open again")


def test_files_are_shown_sent_and_refused_with_a_reason(portal: Portal, tmp_path: Any) -> None:
    from PIL import Image

    picture = tmp_path / "cat.png"
    Image.new("RGB", (60, 40), "#8f6210").save(picture)
    program = tmp_path / "evil.exe"
    program.write_bytes(b"MZ" + bytes(200))
    page = portal.signed_in("klara")
    portal.talk_to(page, "Echo")
    page.locator("#files").set_input_files(picture)
    page.locator(".tray-item.ready").wait_for()
    with portal.expecting("415"):
        page.locator("#files").set_input_files(program)
        page.locator(".toast.trouble").wait_for()
    assert page.locator(".tray-item").count() == 1
    say(page, "what is this?")
    page.locator(".message.user:not(.unsent) .picture-file img").wait_for()
    until(
        lambda: page.locator(".picture-file img").evaluate("(e) => e.complete && e.naturalWidth") == 60,
        "the picture is shown",
    )
