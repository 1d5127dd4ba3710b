"""Which accounts get a new device for encrypted rooms after a restore, at once or a little later."""

from __future__ import annotations

from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest
from django.utils import timezone

from agents.backup_files import _rest
from agents.matrix.crypto import folder
from agents.matrix.crypto.vault import Vault
from agents.matrix.errors import HomeserverUnreachable, SessionRefused
from agents.models import Account
from agents.restoring import devices
from ops.backup import hooks
from ops.models import Service

pytestmark = pytest.mark.django_db

KINDS = ("settings", "people", "mappings", "conversations", "history")


class House:
    """A homeserver in client mode, and who got a new device. ``published``: devices with keys there; ``refused``: accounts that get none."""

    def __init__(self) -> None:
        self.service = Service.objects.create(name="homeserver", kind="homeserver")
        self.client_mode, self.sender_id = True, "@switchboard:sb.test"
        self.client = SimpleNamespace(device_id="SWITCHBOARD", keys_query=self._keys_query)
        self.published: dict[str, list[str]] = {}
        self.refused: set[str] = set()
        self.renewed: list[str] = []
        self.asked: list[list[str]] = []

    def account(self, name: str, **more: Any) -> Account:
        secrets = {"access_token": "t", "device_id": "SWITCHBOARD", **more}
        return Account.objects.create(
            homeserver=self.service, user_id=f"@{name}:sb.test", localpart=name, way="session", secrets=secrets,
            session="good", registered_at=timezone.now(),
        )  # fmt: skip

    def store(self, account: Account, *, of_a_backup: bool) -> None:
        path = folder.path_of(account.user_id)
        with closing(Vault(path)) as vault:
            vault.belong_to("SWITCHBOARD")
        if of_a_backup:
            _rest(path, path.name)

    def renew(self, *, fresh: bool) -> tuple[dict[str, Any] | None, list[Any]]:
        told: list[Any] = []
        now = timezone.now()
        return devices.renew(hooks.Reconcile(now, now, 1, KINDS, fresh, "test", told.append)), told

    def _keys_query(self, user_id: str, of: Any) -> dict[str, Any]:
        self.asked.append(list(of))
        return {"device_keys": {one: {device: {} for device in self.published.get(one, [])} for one in of}}

    def device_renew(self, *, homeserver: Any, account: Account, actor: str) -> str:
        if account.user_id in self.refused:
            raise SessionRefused("Nothing opens it.")
        with closing(Vault(folder.path_of(account.user_id))) as vault:
            vault.belong_to("NEW")
        account.secrets = {**account.secrets, "device_id": "NEW"}
        account.save(update_fields=["secrets"])
        self.renewed.append(account.localpart)
        return "NEW"


@pytest.fixture
def house(tmp_path: Any, settings: Any, monkeypatch: pytest.MonkeyPatch) -> House:
    settings.DATA_DIR = tmp_path
    made = House()
    monkeypatch.setattr(devices, "open_homeserver", lambda: made)
    monkeypatch.setattr(devices, "device_renew", made.device_renew)
    return made


def test_on_an_empty_machine_keys_of_the_past_and_lost_ones_are_followed_by_new_devices(house: House):
    house.store(house.account("of_the_backup"), of_a_backup=True)
    # Its keys were made after the cut; the homeserver has them, and nobody else.
    house.published[house.account("since").user_id] = ["SWITCHBOARD"]
    house.published[house.account("other_device").user_id] = ["ELSEWHERE"]
    house.account("never_encrypted")
    said, told = house.renew(fresh=True)
    assert house.renewed == ["of_the_backup", "since"]
    assert said is not None
    assert said["renewed"] == ["@of_the_backup:sb.test", "@since:sb.test"]
    assert told == []
    assert len(house.asked) == 1, "all accounts are asked about in one request"
    assert house.renew(fresh=True)[0] == {"sentence": "No account needs a new device.", "renewed": []}


def test_on_a_living_installation_only_what_was_put_back_or_names_a_former_device(house: House):
    house.store(house.account("works"), of_a_backup=False)
    house.store(house.account("put_back"), of_a_backup=True)
    former = house.account("former")
    house.store(former, of_a_backup=False)
    with closing(Vault(folder.path_of(former.user_id))) as vault:
        vault.belong_to("FOLLOWED")
    house.published[house.account("file_gone").user_id] = ["SWITCHBOARD"]
    house.renew(fresh=False)
    assert sorted(house.renewed) == ["former", "put_back"]
    assert house.asked == []


def test_what_could_not_be_done_is_said_and_done_by_the_look_at_accounts(house: House):
    account = house.account("of_the_backup")
    house.store(account, of_a_backup=True)
    house.refused.add(account.user_id)
    _, told = house.renew(fresh=True)
    assert [(one.code, one.target) for one in told] == [("restore.device", account.user_id)]
    with pytest.raises(SessionRefused):
        devices.renew_later(house, account)
    house.refused.clear()
    devices.renew_later(house, account)
    devices.renew_later(house, account)
    assert house.renewed == ["of_the_backup"]


def test_a_homeserver_that_answers_nobody_is_for_the_report(house: House, monkeypatch: pytest.MonkeyPatch):
    house.store(house.account("of_the_backup"), of_a_backup=True)

    def away(**_: Any) -> str:
        raise HomeserverUnreachable("Nobody is there.")

    monkeypatch.setattr(devices, "device_renew", away)
    with pytest.raises(HomeserverUnreachable):
        house.renew(fresh=True)


def test_under_an_appservice_nothing_is_looked_at(house: House):
    account = house.account("of_the_backup")
    house.store(account, of_a_backup=True)
    house.client_mode = False
    assert house.renew(fresh=True)[0] is None
    devices.renew_later(house, account)
    assert house.renewed == []
