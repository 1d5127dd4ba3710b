"""``manage.py homeserver``, on a stand-in for Tuwunel 1.7 (see ``exchanges``)."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest
from django.core.management import CommandError, call_command

from agents.matrix.clients import close_all
from ops.models import AuditEvent, Service
from tests.agents.matrix.admin.exchanges import KINDS, SERVER
from tests.agents.matrix.admin.room_server import RoomServer

pytestmark = pytest.mark.django_db


@pytest.fixture
def server() -> Iterator[RoomServer]:
    server = RoomServer(KINDS["tuwunel-1.7"], as_token="as-token")
    Service.objects.create(
        name="homeserver",
        kind="homeserver",
        base_url=server.url,
        options={"server_name": SERVER},
        credentials={"as_token": "as-token", "admin_user": "root", "admin_password": "the-root-password"},
    )
    yield server
    server.close()
    close_all()


def said(*arguments: str) -> str:
    out = io.StringIO()
    call_command("homeserver", *arguments, stdout=out)
    return out.getvalue()


def test_it_shows_what_the_homeserver_is_and_can_do_and_no_secret(server: RoomServer) -> None:
    text = said()
    assert "Tuwunel 1.7.1 is room.test at http://127.0.0.1:" in text
    assert "@root:room.test is in #admins." in text
    assert "!admin users reset-password" in text
    assert "Somebody" not in text
    shown = json.loads(said("--json"))
    assert shown["credentials"] == ["as_token", "admin_user", "admin_password"]
    works = {way["ability"]: (way["works"], way["dialect"]) for way in shown["ways"]}
    assert works["password_reset"] == (True, "admin_room")
    assert works["room_delete"] == (True, "admin_room")
    assert "the-root-password" not in text + json.dumps(shown)
    probed = shown["capabilities"]["probed_at"]
    assert json.loads(said("--json"))["capabilities"]["probed_at"] == probed
    assert json.loads(said("--json", "--probe"))["capabilities"]["probed_at"] > probed


def test_it_makes_resets_and_closes_accounts(server: RoomServer, monkeypatch: pytest.MonkeyPatch) -> None:
    made = json.loads(said("--json", "create-user", "bea", "--display-name", "Bea"))
    assert made["user_id"] == f"@bea:{SERVER}"
    assert server.accounts["bea"] == made["password"]
    monkeypatch.setattr("sys.stdin", io.StringIO("given-by-somebody\n"))
    text = said("reset-password", "bea", "--password-stdin")
    assert server.accounts["bea"] == "given-by-somebody"
    assert "given-by-somebody" not in text
    with pytest.raises(CommandError, match="--yes"):
        said("deactivate-user", "bea")
    assert server.deactivated == set()
    assert f"@bea:{SERVER} is closed" in said("deactivate-user", "bea", "--yes")
    assert server.deactivated == {"bea"}
    assert {event.actor for event in AuditEvent.objects.filter(action__startswith="homeserver.user")} == {"command"}


def test_what_cannot_be_done_is_an_error_with_the_reason(server: RoomServer) -> None:
    with pytest.raises(CommandError, match=r"there is no account @nobody:room\.test"):
        said("reset-password", "nobody")
    with pytest.raises(CommandError, match="an account named ada already"):
        said("create-user", "ada")
    Service.objects.update(credentials={"as_token": "as-token"})
    with pytest.raises(CommandError, match="admin_token"):
        said("create-user", "bea")
    with pytest.raises(CommandError, match="no homeserver named"):
        said("--service", "another")
