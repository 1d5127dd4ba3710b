"""A new device for an account that only an administrator can open: nobody has its password, as after a lost key."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from agents.matrix.crypto.errors import KeysUnusable
from agents.matrix.crypto.keepers import keeper_of
from agents.matrix.errors import Refused, SessionRefused
from agents.models import Account
from agents.services import devices, homeserver_admin
from tests.agents.test_sessions import Door, account, door, homeserver

__all__ = ["door"]

pytestmark = pytest.mark.django_db


@pytest.fixture
def administrator(door: Door, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Logs in as anybody (without a device), and gives new passwords if ``may_reset``."""
    made = SimpleNamespace(may_reset=True)

    def reset(*, user_id: str, password: str, **_: Any) -> None:
        if not made.may_reset:
            raise Refused("You are not a server admin", errcode="M_FORBIDDEN", status=403)
        door.passwords[user_id] = password

    monkeypatch.setattr(
        homeserver_admin, "login_as", lambda *, user_id, **_: str(door.open(user_id, "")["access_token"])
    )
    monkeypatch.setattr(homeserver_admin, "password_reset", reset)
    keeper = SimpleNamespace(ready=lambda: None, sign_again=lambda reset: "")
    monkeypatch.setattr(devices, "keeper_of", lambda *_: keeper)
    return made


def test_a_new_password_gives_it_the_device(door: Door, administrator: Any) -> None:
    made = homeserver(door)
    ada = account(made, access_token="gone", device_id="SWITCHBOARD")
    name = devices.device_renew(homeserver=made, account=ada, actor="test")
    ada.refresh_from_db()
    assert name.startswith("SWITCHBOARD_")
    assert (ada.secrets["device_id"], ada.secrets.get("deviceless")) == (name, None)
    assert ada.secrets["password"] == door.passwords[ada.user_id]
    assert door.tokens[ada.secrets["access_token"]] == ada.user_id


def test_without_one_the_session_stays_as_it_was(door: Door, administrator: Any) -> None:
    administrator.may_reset = False
    made = homeserver(door)
    ada = account(made, access_token="given", device_id="SWITCHBOARD")
    before = dict(ada.secrets)
    with pytest.raises(SessionRefused, match="No login with a device is possible"):
        devices.device_renew(homeserver=made, account=ada, actor="test")
    ada.refresh_from_db()
    assert ada.secrets == before


def test_the_device_from_before_an_administrators_login_is_ended_too(door: Door, administrator: Any) -> None:
    made = homeserver(door)
    token = str(door.open("@agent_ada:h.test", "")["access_token"])
    ada = account(made, access_token=token, deviceless=True)
    opened, of = [], door.open

    def note(user_id: str, device: str) -> dict[str, Any]:
        opened.append(device)
        return of(user_id, device)

    door.open = note  # type: ignore[method-assign]
    name = devices.device_renew(homeserver=made, account=ada, actor="test")
    ada.refresh_from_db()
    assert opened == ["SWITCHBOARD", name], "the former device is taken once more, for only its own session ends it"
    assert list(door.tokens) == [ada.secrets["access_token"]]


def test_a_device_that_another_process_gave_it_is_seen(door: Door, settings, tmp_path) -> None:
    settings.DATA_DIR = tmp_path
    made = homeserver(door)
    ada = account(made, access_token=str(door.open("@agent_ada:h.test", "")["access_token"]), deviceless=True)
    made.client.joined_rooms(ada.user_id)
    with pytest.raises(KeysUnusable, match="no device"):
        keeper_of(made, ada.user_id)
    token = str(door.open(ada.user_id, "NEW")["access_token"])
    Account.objects.filter(pk=ada.pk).update(secrets={"access_token": token, "device_id": "NEW"})
    assert keeper_of(made, ada.user_id).device_id == "NEW"
