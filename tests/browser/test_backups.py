"""Backups in the browser: a key is made, proven and used, a backup is made, drilled, fetched and brought back, restored and taken back;
every page on a wide light screen and a dark telephone, by axe, without a mouse where it counts."""

from __future__ import annotations

import re
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browser.house import PASSWORD, PHONE_DARK, WIDE_LIGHT, Portal, fits, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

DEVICES = [pytest.param(WIDE_LIGHT, id="wide-light"), pytest.param(PHONE_DARK, id="phone-dark")]
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
LONG = 120.0


def operator(portal: Portal, then: str = "/admin/ops/backup/", **options: Any) -> Any:
    """A signed-in operator's page."""
    portal.person("olga")
    portal.up.ask(
        "from chat.models import Person\nresult = Person.objects.filter(username='olga').update(is_staff=True)"
    )
    page = portal.context(**options).new_page()
    sign_in(page, portal, then)
    return page


def sign_in(page: Any, portal: Portal, then: str) -> None:
    page.goto(f"{portal.url}/account/login/?next={then}")
    page.locator("input[name=login]").fill("olga")
    page.locator("input[name=password]").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.locator("#main").wait_for()


def check(page: Any, where: str) -> None:
    """No violation of axe in what is ours, and no sideways scrolling."""
    page.wait_for_timeout(150)
    found = Axe().run(page, context="#main .sb, #main .bk-head", options=RULES).response["violations"]
    words = [
        f"{one['id']} ({one['impact']}): {node['target']} {node['html'][:160]} {node.get('failureSummary', '')[:200]}"
        for one in found
        for node in one["nodes"]
    ]
    assert not words, f"{where}:\n" + "\n".join(words)
    assert fits(page), where


def wait_for_job(page: Any) -> None:
    until(lambda: "Succeeded" in page.inner_text("#main") or "Failed" in page.inner_text("#main"), "the job ends", LONG)
    assert "Succeeded" in page.inner_text("#main"), page.inner_text("#main")


def make_key(page: Any, portal: Portal) -> str:
    """The ceremony: shown once, a wrong one is refused, typed back."""
    page.goto(f"{portal.url}/admin/ops/backupkey/new/")
    page.get_by_label("Who keeps it, and where").fill("Olga, in the safe")
    page.keyboard.press("Enter")
    secret = page.locator(".bk-secret code").inner_text()
    check(page, "the key that is shown once")
    page.get_by_role("button", name="Print").wait_for()
    # Whoever leaves without having taken it is asked first.
    asked: list[str] = []
    page.once("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    page.get_by_role("link", name="Later").click()
    until(lambda: asked == ["beforeunload"], "leaving is asked about")
    assert page.locator(".bk-secret code").inner_text() == secret
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as a file").click()
    assert download.value.path().read_text().strip() == secret
    page.get_by_label("Type or paste").fill(secret[:-4])
    page.keyboard.press("Enter")
    page.locator(".sb-error").wait_for()
    assert secret not in page.content()
    page.get_by_label("Type or paste").fill(secret)
    page.keyboard.press("Enter")
    page.get_by_text("Every backup from now on can be opened with it.").wait_for()
    return str(secret)


def test_from_a_key_to_a_restore_that_is_taken_back(portal: Portal) -> None:
    page = operator(portal)
    page.get_by_text("No backup yet").first.wait_for()
    make_key(page, portal)

    # Make one; it is drilled right afterwards.
    page.goto(f"{portal.url}/admin/ops/backup/new/")
    page.get_by_label("Note").fill("before the talk")
    page.get_by_role("button", name="Back up now").click()
    wait_for_job(page)
    page.get_by_role("link", name="See the backup").click()
    page.locator("h1", has_text="switchboard-").or_(page.get_by_text("This backup")).first.wait_for()
    address = page.url.partition("#")[0]
    # The page goes on by itself while the drill runs, and says in the end what it said.
    until(
        lambda: "A drill restored all of it" in page.inner_text("#main"),
        "the drill is over, and the page says so",
        LONG,
    )
    assert "Olga, in the safe" in page.inner_text("#main")
    # The exact time is there without a pointer, in the reader's zone.
    made = page.locator("time[data-exact]").first
    until(lambda: "UTC" not in made.inner_text(), "the time is the reader's own")
    check(page, "a backup")

    # It leaves only with a fresh password: this browser has just signed in.
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    file = download.value.path().with_suffix(".sbk")
    download.value.save_as(file)
    assert file.read_bytes().startswith(b"switchboard-backup 1 {")
    portal.up.ask(
        "from ops.models import AuditEvent\nresult = AuditEvent.objects.filter(action='backup.downloaded').count()"
    )

    # Something changes, and is compared.
    portal.up.ask(
        "from chat.models import Person\nfrom agents.models import Agent\nfrom agents.services.agents import agent_pause\n"
        "Person.objects.create_user('newcomer', password='a long passphrase')\n"
        "agent_pause(agent=Agent.objects.get(name='Ada'), actor='test')\nresult = 1"
    )
    page.goto(address)
    page.get_by_role("link", name="Restore…").click()
    check(page, "key and kinds")
    assert not page.locator("input[name=kinds]").first.is_visible()
    page.get_by_role("button", name="Compare with what is here").click()
    page.get_by_text("Nothing was changed yet").wait_for(timeout=LONG * 1000)
    for fold in page.locator("#main details").all():
        fold.evaluate("one => one.open = true")
    text = page.inner_text("#main")
    assert "newcomer" in text
    assert "Ada" in text
    check(page, "what would change")

    # Without a mouse: to the button, the word, Enter. A wrong word changes nothing.
    page.get_by_role("link", name="Apply…").focus()
    page.keyboard.press("Enter")
    page.get_by_label("Type restore").wait_for()
    check(page, "the word")
    page.get_by_label("Type restore").focus()
    page.keyboard.type("yes")
    page.keyboard.press("Enter")
    page.get_by_text("That is not the word").wait_for()
    page.get_by_label("Type restore").fill("restore")
    with portal.expecting("503"):
        page.keyboard.press("Enter")
        finished(page, portal, "Restored")
    restore = page.url
    check(page, "the report")
    assert paused(portal) == [False, 0]

    # And taken back.
    page.get_by_role("link", name="Take it back…").click()
    page.get_by_label("Type undo").fill("undo")
    with portal.expecting("503"):
        page.keyboard.press("Enter")
        page.wait_for_url(lambda url: "/do/" not in url)
        finished(page, portal, "Restored")
    assert paused(portal) == [True, 1]
    page.goto(restore)
    page.get_by_text("It was taken back").wait_for()

    # Gone here, and brought back as the file it is: sent as a stream, with what has arrived beside the button.
    name = portal.up.ask(
        "from ops.models import Backup\nfrom ops.services.backups import backup_delete\n"
        "row = Backup.objects.get(note='before the talk')\nBackup.objects.filter(pk=row.pk).update(good_at=None)\n"
        "row.refresh_from_db()\nbackup_delete(backup=row, actor='test')\nresult = row.name"
    )
    page.goto(f"{portal.url}/admin/ops/backup/bring/")
    check(page, "bringing a file")
    junk = file.with_name("junk.sbk")
    junk.write_text("nothing")
    page.locator("input[name=file]").set_input_files(junk)
    with portal.expecting("422"):
        page.get_by_role("button", name="Take it in").click()
        page.get_by_text("no backup of Switchboard").wait_for()
    page.locator("input[name=file]").set_input_files(file)
    page.get_by_role("button", name="Take it in").click()
    page.wait_for_url(re.compile(r"/backup/[0-9a-f-]{36}/change/"))
    assert name.rpartition("-")[2] in page.inner_text("#main, #page")


def finished(page: Any, portal: Portal, word: str) -> None:
    """The restore is over and its page says so; whoever was signed out by it signs in again and is back on the page."""

    def said() -> bool:
        if "/account/login/" in page.url:
            page.locator("input[name=login]").fill("olga")
            page.locator("input[name=password]").fill(PASSWORD)
            page.keyboard.press("Enter")
            page.locator("#main").wait_for()
        return page.locator(".sb-sentence", has_text=word).count() > 0

    until(said, "the restore is over", LONG)


def paused(portal: Portal) -> Any:
    """``[whether Ada is paused, how many newcomers there are]``."""
    return portal.up.ask(
        "from chat.models import Person\nfrom agents.models import Agent\n"
        "result = [Agent.objects.get(name='Ada').paused, Person.objects.filter(username='newcomer').count()]"
    )


def test_a_page_that_nobody_answers_says_so_and_goes_on_by_itself(portal: Portal) -> None:
    """The line is cut while a page waits for work that goes on."""
    page = operator(portal, "/admin/ops/job/")
    job = portal.up.ask(
        "from datetime import timedelta\nfrom django.utils import timezone\nfrom ops.models import Job\nnow = timezone.now()\n"
        "result = str(Job.objects.create(kind='backup.create', title='A long backup', state='running', actor='test', worker='elsewhere:1:1', "
        "started_at=now, heartbeat_at=now + timedelta(hours=1)).pk)"
    )
    page.goto(f"{portal.url}/admin/ops/job/{job}/change/")
    asked = page.locator("[data-live]").get_attribute("data-live")
    page.route(f"**{asked}", lambda route: route.abort())
    with portal.expecting("ERR_FAILED"):
        page.locator("[data-lost]").wait_for()
        page.unroute(f"**{asked}")
        page.locator("[data-lost]").wait_for(state="detached")
    portal.up.ask(
        f"from ops.models import Job\nresult = Job.objects.filter(pk='{job}').update(state='succeeded', result={{}})"
    )
    page.locator("[data-live]").wait_for(state="detached")
    wait_for_job(page)


@pytest.mark.parametrize("device", DEVICES)
def test_every_page_on_every_device(portal: Portal, device: dict[str, Any]) -> None:
    known = portal.up.ask(
        "from ops.models import Backup, BackupDestination, BackupKey, Restore, ObjectVersion, Release\n"
        "from ops.services.backups import backup_now\n"
        "row = Backup.objects.filter(state='complete').first() or backup_now(actor='test')\n"
        "result = {'backup': str(row.pk), 'place': BackupDestination.objects.first().pk, "
        "'version': ObjectVersion.objects.filter(model='agents.agent').first().pk, 'release': Release.objects.first().pk, "
        "'restore': str(getattr(Restore.objects.first(), 'pk', '')), 'key': getattr(BackupKey.objects.first(), 'pk', '')}"
    )
    agent = portal.agent("Ada")
    page = operator(portal, **device)
    ops = "/admin/ops"
    addresses = [
        "/admin/",
        f"{ops}/backup/",
        f"{ops}/backup/{known['backup']}/change/",
        f"{ops}/backup/{known['backup']}/do/delete/",
        f"{ops}/backup/new/",
        f"{ops}/backup/bring/",
        f"{ops}/backup/plan/",
        f"{ops}/backup/prune/",
        f"{ops}/backupdestination/",
        f"{ops}/backupdestination/add/",
        f"{ops}/backupdestination/new/s3/",
        f"{ops}/backupdestination/{known['place']}/change/",
        f"{ops}/backupkey/",
        f"{ops}/backupkey/new/",
        f"{ops}/restore/",
        f"{ops}/restore/start/",
        f"{ops}/restore/start/?backup={known['backup']}",
        f"{ops}/restore/reset/",
        f"{ops}/restore/reset/?look=yes&scope=mappings&scope=people",
        f"{ops}/objectversion/",
        f"{ops}/objectversion/{known['version']}/change/",
        f"{ops}/objectversion/of/agents.agent/{agent}/",
        f"{ops}/release/",
        f"{ops}/release/{known['release']}/change/",
        f"/admin/agents/agent/{agent}/change/",
    ]
    if known["key"]:
        addresses.append(f"{ops}/backupkey/{known['key']}/change/")
    if known["restore"]:
        addresses.append(f"{ops}/restore/{known['restore']}/change/")
    # In the dark it is the colours that may be wrong: the pages with all sorts of lamps and differences are enough for that.
    telling = (
        addresses
        if device is WIDE_LIGHT
        else [one for one in addresses if re.search(r"change/|reset|start|admin/$", one)]
    )
    for address in addresses:
        page.goto(portal.url + address)
        assert page.locator("#main").count() == 1, address
        if address in telling and page.locator("#main .sb, #main .bk-head").count():
            check(page, address)
        assert fits(page), address
