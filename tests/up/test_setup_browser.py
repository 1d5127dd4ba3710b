"""The set-up page in a real browser: what headers do to a form is seen nowhere else."""

from __future__ import annotations

import pytest

from tests.browser.house import until

pytestmark = pytest.mark.e2e

PASSWORD = "brass-cord-and-lamp"


def test_first_operator_in_a_browser(make_up, chromium):
    up = make_up("--no-homeserver", "--no-sync")
    up.start()
    context = chromium.new_context(viewport={"width": 360, "height": 740}, color_scheme="dark")
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))

    def focused(name: str) -> bool:
        return bool(page.evaluate("document.activeElement.id") == name)

    page.goto(up.url + up.setup_path())
    # A browser gives the focus when it first draws the page, which may be a moment after it has it.
    until(lambda: focused("id_username"), "one can begin with the name")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    # The style sheet arrived and the policy lets it in.
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(16, 22, 31)"
    assert complaints == []

    page.get_by_label("User name").fill("maria")
    page.get_by_label("Password", exact=True).fill("short")
    page.get_by_label("Password again").fill("other")
    page.get_by_role("button", name="Make me the operator").click()
    assert "too short" in page.inner_text("#id_password_error")
    until(lambda: focused("id_password"), "one can go on where it was wrong")
    assert page.input_value("#id_username") == "maria"

    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Password again").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/setup/done/")
    assert "Ready, maria." in page.inner_text("main")
    page.goto(up.url + up.setup_path())
    assert "does not work (any more)" in page.inner_text("main")
    context.close()
