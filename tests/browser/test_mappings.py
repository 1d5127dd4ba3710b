"""Moving over in the browser: choose the files, see the records, decide side by side, apply, read the report, fetch the rejects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.house import PASSWORD, PHONE_DARK, Portal, fits, until
from tests.support.fake_homeserver import AS_TOKEN, HS_TOKEN, SERVER_NAME, FakeHomeserver
from tests.up.running import Up

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SECRET = "predecessors-passw0rd"


@pytest.fixture(scope="module")
def homeserver() -> Iterator[FakeHomeserver]:
    with FakeHomeserver() as fake:
        yield fake


@pytest.fixture(scope="module")
def running(tmp_path_factory: Any, homeserver: FakeHomeserver) -> Iterator[Up]:
    """The demo agents are known, the homeserver is set up, and no sync comes between."""
    up = Up(tmp_path_factory.mktemp("mappings"), "--no-homeserver", LOG_LEVEL="info", SYNC_INTERVAL="3600")
    up.start(240)
    try:
        up.ask(
            "from ops.services.services import service_save\n"
            f"row = service_save(actor='test', name='homeserver', kind='homeserver', base_url={homeserver.url!r}, "
            f"credentials={{'as_token': {AS_TOKEN!r}, 'hs_token': {HS_TOKEN!r}}}, options={{'server_name': {SERVER_NAME!r}}})\n"
            "result = row.pk"
        )
        yield up
    finally:
        up.stop()


@pytest.fixture(scope="module")
def files(running: Up, homeserver: FakeHomeserver, tmp_path_factory: Any) -> list[Any]:
    """What the other bridge left: one agent in its room, one in another room than the file says, one of another server, one cut off."""
    agents = running.ask(
        "from agents.models import Agent\nresult = dict(Agent.objects.values_list('name', 'external_id'))"
    )
    rooms = {}
    for name in ("ada", "echo"):
        user = f"@agent_{name}:{SERVER_NAME}"
        homeserver.users[user] = {"displayname": name.capitalize(), "avatar_url": ""}
        rooms[name] = homeserver.new_room(user).room_id

    def entry(name: str, room_id: str, server: str = SERVER_NAME) -> dict[str, Any]:
        return {
            "agent_id": agents[name], "agent_name": name, "matrix_user_id": f"@agent_{name.lower()}:{server}",
            "matrix_password": SECRET, "created": True, "room_id": room_id, "room_created": True, "invitation_status": None,
        }  # fmt: skip

    others = [name for name in sorted(agents) if name not in {"Ada", "Echo"}]
    whole = [
        entry("Ada", rooms["ada"]),
        entry("Echo", f"!elsewhere:{SERVER_NAME}"),
        entry(others[0], "!far:far.test", "far.test"),
    ]
    folder = tmp_path_factory.mktemp("left")
    first, second = folder / "agent_user_mappings.json", folder / "agent_user_mappings.json.backup"
    first.write_text(json.dumps({one["agent_id"]: one for one in whole}, indent=2))
    second.write_text(json.dumps({"agent-cut": entry("Ada", "!cut:x")}, indent=2)[:180])
    return [first, second, rooms]


def operator(portal: Portal, **options: Any) -> Any:
    """A signed-in operator's page."""
    portal.person("olga")
    portal.up.ask(
        "from chat.models import Person\nresult = Person.objects.filter(username='olga').update(is_staff=True)"
    )
    page = portal.context(**options).new_page()
    page.goto(f"{portal.url}/account/login/?next=/admin/agents/mappingimport/")
    page.locator("input[name=login]").fill("olga")
    page.locator("input[name=password]").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Import mappings…").wait_for()
    return page


def test_the_whole_way_of_an_import(portal: Portal, files: list[Any], homeserver: FakeHomeserver) -> None:
    first, second, rooms = files
    page = operator(portal)
    page.get_by_role("link", name="Import mappings…").click()
    page.get_by_role("button", name="Read and compare").click()
    page.get_by_text("one of the two").wait_for()
    page.locator("input[name=upload]").set_input_files([first, second])
    page.get_by_label("Whose agents they are").select_option("demo")
    page.get_by_role("button", name="Read and compare").click()

    # Look: nothing has changed, the damaged file says where it broke, the conflict stands side by side.
    page.get_by_text("Nothing has been changed yet").wait_for()
    text = page.inner_text("#main")
    assert "column" in page.locator("section", has_text="About the files").inner_text()
    assert SECRET not in page.content()
    card = page.locator(".sb-conflict", has_text="Echo")
    sides = [one.inner_text() for one in card.locator(".sb-side").all()]
    assert len(sides) == 3
    assert "!elsewhere" in sides[1]
    assert rooms["echo"] in sides[2]
    assert "1 of the conflicts is not decided" in text

    # Decide.
    card.get_by_text("Take the homeserver's").click()
    page.get_by_role("button", name="Save choices").click()
    page.get_by_text("1 choice saved.").wait_for()
    assert page.locator(".sb-conflict", has_text="Echo").get_by_label("Take the homeserver's").is_checked()
    assert "is not decided" not in page.inner_text("#main")

    # Apply: what will happen is said first.
    page.get_by_role("link", name="Apply…").click()
    page.get_by_text("1 decision is carried out").wait_for()
    asked = len(homeserver.calls("create_room"))
    page.get_by_role("button", name="Apply: Import").click()
    address = page.url

    def applied() -> bool:
        page.goto(address)
        return page.locator(".sb-sentence", has_text="done").count() == 1

    until(applied, "the import is applied")

    # The report, with links to what became of each record.
    assert "2 done" in page.inner_text(".sb-sentence")
    page.get_by_role("link", name="Done 2").click()
    page.get_by_role("link", name="Echo", exact=True).click()
    page.get_by_text(f"It speaks as @agent_echo:{SERVER_NAME} and answers in its room.").wait_for()
    assert rooms["echo"] in page.inner_text("#main")
    assert len(homeserver.calls("create_room")) == asked

    # The rejects come back as a file.
    page.goto(address)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the").click()
    rejects = json.loads(download.value.path().read_text())
    assert "far.test" in json.dumps(rejects)

    # The same files once more change nothing.
    page.goto(f"{portal.url}/admin/agents/mappingimport/start/")
    page.locator("input[name=upload]").set_input_files([first])
    page.get_by_label("Whose agents they are").select_option("demo")
    page.get_by_role("button", name="Read and compare").click()
    page.get_by_text("Nothing has been changed yet").wait_for()
    assert "1 unchanged" in page.inner_text(".sb-sentence")


def test_the_pages_about_mappings_fit_a_phone(portal: Portal, files: list[Any]) -> None:
    """In the dark, at 360 pixels, decided by touch; nothing is cut off, nothing is complained of."""
    first, _, rooms = files
    page = operator(portal, **PHONE_DARK)
    page.goto(f"{portal.url}/admin/agents/mappingimport/start/")
    assert fits(page)
    changed = first.with_name("again.json")
    changed.write_text(first.read_text().replace(rooms["ada"], f"!other:{SERVER_NAME}"))
    page.locator("input[name=upload]").set_input_files([changed])
    page.get_by_label("Whose agents they are").select_option("demo")
    page.get_by_role("button", name="Read and compare").tap()
    page.locator(".sb-conflict").first.wait_for()
    assert fits(page)
    sides = page.locator(".sb-conflict", has_text="Ada").locator(".sb-side").all()
    places = [side.bounding_box() for side in sides]
    # One below the other, each as wide as the page allows.
    assert [place["y"] for place in places] == sorted({place["y"] for place in places})
    sides[0].get_by_text("Keep what is here").tap()
    page.get_by_role("button", name="Save choices").tap()
    page.get_by_text("1 choice saved.").wait_for()
    run = page.url.partition("/change/")[0]
    agent = portal.agent("Ada")
    drift = portal.up.ask(
        "from agents.models import Drift, Mapping\nfrom django.utils import timezone\nnow = timezone.now()\n"
        f"mapping = Mapping.objects.filter(agent_id={agent}).first()\n"
        "from ops.models import Service\nhomeserver = Service.objects.get(kind='homeserver')\n"
        "row = Drift.objects.create(homeserver=homeserver, mapping=mapping, kind='room.name', found_at=now, seen_at=now, "
        "sentence='The room is called Bibliothek.', detail={'stored': {'name': 'Ada'}, 'found': {'name': 'Bibliothek'}})\nresult = row.pk"
    )
    admin = f"{portal.url}/admin/agents"
    for address in (
        f"{run}/change/?show=reject",
        f"{run}/do/apply/",
        f"{admin}/mappingimport/",
        f"{admin}/drift/",
        f"{admin}/drift/{drift}/change/",
        f"{admin}/agent/{agent}/change/",
        f"{admin}/mapping/",
        f"{admin}/account/",
        f"{admin}/account/homeserver/",
        f"{admin}/account/homeserver/password_reset/",
        f"{admin}/syncrun/restore/",
        f"{admin}/syncrun/plan/",
    ):
        page.goto(address)
        assert page.locator("#main").count() == 1, address
        assert fits(page), address
