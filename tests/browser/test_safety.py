"""Nothing that anybody writes ever runs; errors of the page are told to the server, and nothing that people wrote."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.browser.house import Portal, answers, say, until
from tests.chat.rendering.test_markdown import HOSTILE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

NAME = "<img src=x onerror=alert(1)>\"'><script>alert(2)</script>"


def test_hostile_texts_and_names_never_run(portal: Portal) -> None:
    # Even where the policy would not stop it, nothing may run: here it does not.
    portal.person("mallory", display_name=NAME)
    agent = portal.agent("Echo")
    portal.up.ask(
        "from chat.models import Person\nfrom agents.models import Agent\n"
        f"Person.objects.filter(username='mallory').update(display_name={NAME!r})\n"
        f"Agent.objects.filter(pk={agent}).update(name={NAME!r}, description={NAME!r})\nresult = True"
    )
    try:
        page = portal.signed_in("mallory", bypass_csp=True)
        ran: list[str] = []
        page.on("dialog", lambda dialog: (ran.append(dialog.message), dialog.dismiss()))
        page.locator(".agent-card").first.wait_for()
        page.goto(f"{portal.url}/chat/?agent={agent}")
        page.locator("#composer").wait_for()
        say(page, "\n\n".join(HOSTILE).replace("\x00", ""))
        answers(page).first.wait_for()
        page.locator("#line-menu summary").click()
        page.locator("#line-menu [data-do=rename]").click()
        page.get_by_role("textbox", name="Title").fill(NAME)
        page.keyboard.press("Enter")
        until(lambda: page.inner_text("#title") == NAME, "the title is the text")
        page.keyboard.press("Control+k")
        page.locator("#search-words").fill("alert")
        page.locator(".found-one").first.wait_for()
        page.keyboard.press("Escape")
        page.reload()
        answers(page).first.wait_for()
        page.wait_for_timeout(500)
        assert ran == []
        assert (
            page.locator("#thread script, #thread iframe, #thread form, #thread svg[onload], #thread style").count()
            == 0
        )
        assert page.locator("#thread img").count() == 0
    finally:
        portal.up.ask(
            f"from agents.models import Agent\nAgent.objects.filter(pk={agent}).update(name='Echo')\nresult = True"
        )


def test_the_policy_is_there_and_stops_what_is_injected(portal: Portal) -> None:
    page = portal.context().new_page()
    answer = page.goto(f"{portal.url}/account/login/")
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    with portal.expecting("Content Security Policy", "beacon"):
        page.evaluate(
            "document.body.insertAdjacentHTML('beforeend', '<img src=x-missing onerror=\"window.ran = true\">')"
        )
        page.evaluate(
            "const s = document.createElement('script'); s.textContent = 'window.ran = true'; document.body.append(s)"
        )
        page.wait_for_timeout(800)
        assert page.evaluate("window.ran") is None
    portal.complaints[:] = [one for one in portal.complaints if "x-missing" not in one and "404" not in one]


def test_errors_of_the_page_reach_the_log(portal: Portal) -> None:
    page = portal.context().new_page()
    page.goto(f"{portal.url}/account/login/")
    sent: list[dict[str, Any]] = []
    page.on(
        "request",
        lambda request: sent.append(json.loads(request.post_data)) if request.url.endswith("/portal/beacon") else None,
    )
    with portal.expecting("an unlucky line", "no-such-file", "404"):
        page.evaluate("setTimeout(() => { throw new Error('an unlucky line') })")
        page.evaluate(
            "const s = document.createElement('script'); s.src = '/static/portal/no-such-file.js'; document.head.append(s)"
        )
        until(lambda: (page.wait_for_timeout(50), len(sent) >= 2)[1], "two reports")
    assert {one["kind"] for one in sent} == {"script", "missing"}
    asked = "from ops.models import LogLine\nresult = list(LogLine.objects.filter(event='page.error').values_list('extra', flat=True))"

    # Other pages of this installation may have reported as well.
    def both() -> bool:
        lines = portal.up.ask(asked)
        broke = any("an unlucky line" in one.get("message", "") for one in lines)
        return broke and any(one.get("source") == "/static/portal/no-such-file.js" for one in lines)

    until(both, "the log has them")
