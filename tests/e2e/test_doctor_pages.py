"""The doctor's pages in a real browser: on a telephone an operator acknowledges, repairs and undoes; nothing overflows; what a
screen reader needs is there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import cache

from chat.models import Person
from ops.models import Issue, IssueState, RepairRun, RepairRunState, Service
from ops.runner import run_checks
from tests.admin.doctor.house import CHECKS, doctor_house

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]

PASSWORD = "brass-cord-and-lamp"


@pytest.fixture
def house(transactional_db: None) -> Iterator[Service]:
    """A service that is off, seen by its check; and an operator."""
    cache.clear()
    with doctor_house():
        Person.objects.create_user("ada", password=PASSWORD, is_staff=True)
        row = Service.objects.create(name="demo", kind="demo", enabled=False, base_url="http://127.0.0.1:1")
        Service.objects.create(name="proxy", kind="demo")
        run_checks(CHECKS)
        yield row
    cache.clear()


@pytest.fixture
def phone(chromium: Any, live_server: Any, house: Service) -> Iterator[Any]:
    """A signed-in page of 360 pixels; what the browser complained about is in ``page.complaints``."""
    context = chromium.new_context(viewport={"width": 360, "height": 740}, has_touch=True, timezone_id="Europe/Berlin")
    page = context.new_page()
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
    sign_in(page, live_server.url)
    yield page
    context.close()


def sign_in(page: Any, url: str) -> None:
    page.goto(f"{url}/admin/login/")
    page.locator("input[name=login]").fill("ada")
    page.locator("input[name=password]").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/admin/")


def fits(page: Any) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def unnamed(page: Any) -> list[str]:
    """Controls without a name, fields without a label, tables without headers, ids that are there twice."""
    return list(
        page.evaluate(
            """() => {
        const found = [];
        const named = (e) => (e.getAttribute('aria-label') || e.textContent || e.title || '').trim()
            || (e.labels && e.labels.length) || e.getAttribute('aria-labelledby');
        const main = document.querySelector('#main');
        for (const e of main.querySelectorAll('button, a[href], summary')) if (e.offsetParent && !named(e)) found.push(e.outerHTML.slice(0, 120));
        for (const e of main.querySelectorAll('input:not([type=hidden]), select, textarea')) if (e.offsetParent && !named(e)) found.push(e.outerHTML.slice(0, 120));
        for (const e of main.querySelectorAll('table')) if (!e.querySelector('th[scope]')) found.push('table without headers: ' + e.className);
        for (const e of main.querySelectorAll('svg:not([aria-hidden])')) if (e.getAttribute('role') === 'img' && !e.getAttribute('aria-label')) found.push('drawing without words');
        const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
        for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id) && main.querySelector('#' + CSS.escape(id))) found.push('twice: ' + id);
        return found;
    }"""
        )
    )


def test_on_a_telephone_an_operator_acknowledges_repairs_and_undoes(
    phone: Any, live_server: Any, house: Service
) -> None:
    page = phone
    page.goto(f"{live_server.url}/admin/ops/issue/")
    assert fits(page)
    assert "3 things need a hand." in page.inner_text("#main")

    # Acknowledge with the button of its own card.
    page.get_by_role("button", name="Acknowledge: Services are on").tap()
    page.get_by_text("1 issue acknowledged.").first.wait_for()
    issue = Issue.objects.get(check_id="test.services_on")
    assert issue.state == IssueState.ACKNOWLEDGED

    # The button leads to the plan; nothing has happened yet.
    page.locator(f"#issue-{issue.pk}").get_by_role("link", name="Switch on…").tap()
    page.wait_for_url("**/plan/test.switch_on/**")
    assert fits(page)
    assert "Nothing was done yet" in page.inner_text("#main")
    house.refresh_from_db()
    assert not house.enabled

    page.get_by_role("button", name="Switch on: 1 change").tap()
    page.wait_for_url("**/repairrun/*/change/")
    assert fits(page)
    assert "Mended" in page.inner_text("#main")
    house.refresh_from_db()
    assert house.enabled
    issue.refresh_from_db()
    assert issue.state == IssueState.RESOLVED

    # Undo explains, then does.
    page.get_by_role("link", name="Undo…").tap()
    page.wait_for_url("**/do/undo/")
    assert "brought back as it was before" in page.inner_text("#main")
    page.get_by_role("button", name="Undo").tap()
    page.wait_for_url("**/repairrun/*/change/")
    page.get_by_text("It is undone").first.wait_for()
    house.refresh_from_db()
    assert not house.enabled
    assert RepairRun.objects.get().state == RepairRunState.UNDONE
    assert page.complaints == []


def test_several_are_snoozed_until_the_readers_morning(phone: Any, live_server: Any, house: Service) -> None:
    page = phone
    page.goto(f"{live_server.url}/admin/ops/issue/")
    page.get_by_role("checkbox", name="All").tap()
    page.wait_for_function("document.querySelector('[data-ticked]').textContent === '3 ticked'")
    later = page.locator(".dr-bulk summary")
    later.tap()
    # Escape closes the menu and gives the focus back.
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Snooze until tomorrow 8:00").tap()
    page.get_by_text("3 issues may wait until").first.wait_for()
    until = Issue.objects.get(check_id="test.services_on").snoozed_until
    assert until is not None
    # Eight in the morning in Berlin is six or seven in UTC.
    assert until.hour in (6, 7)


def test_a_destructive_repair_by_keyboard_alone(phone: Any, live_server: Any, house: Service) -> None:
    page = phone
    issue = Issue.objects.get(check_id="test.services_on")
    page.goto(f"{live_server.url}/admin/ops/repairrun/plan/test.forget/?issue={issue.pk}")
    page.get_by_label("to confirm").focus()
    page.keyboard.type("something else")
    page.keyboard.press("Enter")
    page.wait_for_selector("#refused")
    assert RepairRun.objects.count() == 0
    # The field says that it is wrong, and why, to those who do not see it.
    field = page.get_by_label("to confirm")
    assert field.get_attribute("aria-describedby") == "refused"
    field.focus()
    page.keyboard.type("forget")
    page.keyboard.press("Enter")
    page.wait_for_url("**/repairrun/*/change/")
    assert RepairRun.objects.get().state == RepairRunState.SUCCEEDED


def test_a_snippet_is_copied_and_the_check_asked_again(phone: Any, live_server: Any, house: Service) -> None:
    page = phone
    issue = Issue.objects.get(check_id="test.paper")
    page.goto(f"{live_server.url}/admin/ops/issue/{issue.pk}/change/")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy the snippet of step 1").tap()
    page.wait_for_function("navigator.clipboard.readText().then((text) => text.includes('proxy_read_timeout 3600s;'))")
    Service.objects.filter(name="proxy").delete()
    page.get_by_role("button", name="Done, check again").tap()
    page.get_by_text("The issue is resolved.").first.wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_fits_and_can_be_read_out(chromium: Any, live_server: Any, house: Service, scheme: str) -> None:
    issue = Issue.objects.get(check_id="test.services_on")
    paper = Issue.objects.get(check_id="test.paper")
    pages = [
        "/admin/", "/admin/ops/issue/", "/admin/ops/issue/?state=resolved", f"/admin/ops/issue/{issue.pk}/change/",
        f"/admin/ops/issue/{paper.pk}/change/", f"/admin/ops/issue/repair/?issue={issue.pk}",
        f"/admin/ops/repairrun/plan/test.forget/?issue={issue.pk}", "/admin/ops/repairrun/plan/test.address/",
        "/admin/ops/repairrun/all/", "/admin/ops/repairrun/known/", "/admin/ops/checkstate/board/",
        f"/admin/ops/service/{house.pk}/change/",
    ]  # fmt: skip
    for width in (360, 1280):
        context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        page = context.new_page()
        complaints: list[str] = []
        page.on("pageerror", lambda error, kept=complaints: kept.append(str(error)))
        sign_in(page, live_server.url)
        for path in pages:
            assert page.goto(live_server.url + path).status == 200, path
            assert fits(page), (path, width)
            assert unnamed(page) == [], (path, width)
        assert complaints == []
        context.close()


def test_the_public_page_needs_no_script(chromium: Any, live_server: Any, house: Service, settings: Any) -> None:
    settings.STATUS_PAGE = True
    cache.clear()
    run_checks(["db.reachable"])
    context = chromium.new_context(viewport={"width": 360, "height": 740}, java_script_enabled=False)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(f"{live_server.url}/status")
    assert "This website" in page.inner_text("main")
    assert "Works" in page.inner_text("main")
    assert complaints == []
    box = page.locator("main").bounding_box()
    assert box is not None
    assert box["width"] <= 360
    context.close()
