"""Users and rooms of a real Synapse, administered in every way that it has: admin API, shared secret, registration token."""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from agents.matrix.clients import close_all
from agents.matrix.errors import NotFound, Refused, Taken
from agents.matrix.registration import Registration
from agents.services import homeserver_admin as admin
from agents.services.backends import Homeserver, homeserver_of
from agents.services.homeserver_access import KEY
from agents.services.homeserver_admin import CannotAdminister
from ops.models import AuditEvent, Service
from tests.peers.synapse import MatrixUser, Synapse

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]
SERVER = "admin.test"
AS_TOKEN, HS_TOKEN = "as-token-of-the-admin", "hs-token-of-the-admin"
TOKEN = "a-token-to-register"
_numbers = itertools.count(1)


class House:
    """A Synapse with an administrator, and its service row with the credentials of one test."""

    def __init__(self, synapse: Synapse, root: MatrixUser) -> None:
        self.synapse, self.root = synapse, root

    def given(self, **credentials: str) -> Homeserver:
        """The homeserver with these credentials beside the appservice's."""
        service = Service.objects.filter(name="homeserver").first() or Service(name="homeserver", kind="homeserver")
        service.base_url = self.synapse.url
        service.credentials = {"as_token": AS_TOKEN, "hs_token": HS_TOKEN, **credentials}
        service.options = {"server_name": SERVER, "user_prefix": "agent_"}
        service.save()
        return homeserver_of(service)

    def administered(self) -> Homeserver:
        return self.given(admin_token=self.root.access_token)

    def name(self) -> str:
        return f"user{next(_numbers)}"

    def user(self) -> MatrixUser:
        return self.synapse.register_user(self.name(), "their-own-password")

    def login(self, user: str, password: str) -> int:
        body = {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": user},
            "password": password,
        }
        return httpx.post(f"{self.synapse.url}/_matrix/client/v3/login", json=body).status_code

    def as_user(self, token: str, method: str, path: str, body: Any = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.request(method, f"{self.synapse.url}/_matrix/client/v3{path}", json=body, headers=headers)

    def whoami(self, token: str) -> int:
        return self.as_user(token, "GET", "/account/whoami").status_code

    def room(self, owner: MatrixUser, version: str, preset: str = "private_chat") -> str:
        made = self.as_user(owner.access_token, "POST", "/createRoom", {"preset": preset, "room_version": version})
        return str(made.raise_for_status().json()["room_id"])

    def joined(self, user: MatrixUser) -> list[str]:
        found: list[str] = self.as_user(user.access_token, "GET", "/joined_rooms").json()["joined_rooms"]
        return found

    def levels(self, user: MatrixUser, room_id: str) -> dict[str, int]:
        path = f"/rooms/{room_id}/state/m.room.power_levels/"
        found: dict[str, int] = self.as_user(user.access_token, "GET", path).json()["users"]
        return found


@pytest.fixture(scope="module")
def synapse(synapse_factory: Callable[..., Synapse], tmp_path_factory: pytest.TempPathFactory) -> Synapse:
    path: Path = tmp_path_factory.mktemp("registration") / "switchboard.yaml"
    made = Registration(
        id="switchboard",
        url="http://127.0.0.1:9",
        as_token=AS_TOKEN,
        hs_token=HS_TOKEN,
        sender_localpart="switchboard",
        server_name=SERVER,
        user_prefix="agent_",
    )
    path.write_text(made.to_yaml())
    extra = {"enable_registration": True, "registration_requires_token": True}
    return synapse_factory(registration=path, server_name=SERVER, extra=extra)


@pytest.fixture(scope="module")
def root(synapse: Synapse) -> MatrixUser:
    root = synapse.register_user("root", "the-root-password", admin=True)
    headers = {"Authorization": f"Bearer {root.access_token}"}
    address = f"{synapse.url}/_synapse/admin/v1/registration_tokens/new"
    httpx.post(address, json={"token": TOKEN}, headers=headers).raise_for_status()
    return root


@pytest.fixture
def house(synapse: Synapse, root: MatrixUser) -> Iterator[House]:
    yield House(synapse, root)
    close_all()


def audited(action: str) -> AuditEvent:
    return AuditEvent.objects.filter(action=action).latest("pk")


def test_what_it_can_do_follows_from_what_it_is_and_what_we_were_given(house: House) -> None:
    found = admin.ways(house.given())
    assert {name: way.works for name, way in found.items()} == {
        "user_create": False, "password_reset": False, "login_as": False, "user_deactivate": False,
        "room_admin": False, "room_join": False, "room_delete": False, "appservice": True,
    }  # fmt: skip
    assert "admin_token" in found["password_reset"].sentence
    assert "registration_token" in found["user_create"].sentence
    found = admin.ways(house.administered())
    assert all(way.works for way in found.values())
    assert {way.dialect for name, way in found.items() if name != "appservice"} == {"admin_api"}
    service = Service.objects.get()
    flavour = service.capabilities["flavour"]
    assert flavour["admin"] | {"sentence": ""} == {
        "given": True, "works": True, "user_id": f"@root:{SERVER}", "room_id": "", "sentence": "",
    }  # fmt: skip
    assert flavour["registration"]["kind"] == "token"
    assert flavour["auth"]["kind"] == "own"
    shown = json.dumps(admin.facts(service).to_dict())
    assert house.root.access_token not in shown
    assert "admin_token" in shown


def test_accounts_are_made_by_the_administrator_the_secret_or_the_token(house: House) -> None:
    given = {
        "admin_api": {"admin_token": house.root.access_token},
        "shared_secret": {"registration_shared_secret": house.synapse.shared_secret},
        "registration_token": {"registration_token": TOKEN},
    }
    for dialect, credentials in given.items():
        homeserver = house.given(**credentials)
        assert admin.ways(homeserver)["user_create"].dialect == dialect
        name, password = house.name(), f"made-by-{dialect}"
        made = admin.user_create(
            homeserver=homeserver, localpart=name, password=password, display_name="Ada", actor="test"
        )
        assert made == f"@{name}:{SERVER}"
        assert house.login(made, password) == 200
        profile = httpx.get(f"{house.synapse.url}/_matrix/client/v3/profile/{made}").json()
        assert profile["displayname"] == "Ada"
        event = audited("homeserver.user_created")
        assert event.after == {"about": made, "way": dialect}
        assert password not in event.message
        with pytest.raises(Taken):
            admin.user_create(homeserver=homeserver, localpart=name, password="another-one", actor="test")
        assert house.login(made, password) == 200
    with pytest.raises(CannotAdminister, match="no administrator"):
        admin.user_create(homeserver=homeserver, localpart=house.name(), password="pass-word", admin=True, actor="test")


def test_credentials_that_do_not_work_are_said_before_they_are_used(house: House) -> None:
    homeserver = house.given(registration_shared_secret="another-secret", admin_token="no-token-of-theirs")
    way = admin.ways(homeserver)["user_create"]
    assert not way.works
    assert "HMAC incorrect" in way.sentence
    assert "admin_token" in way.sentence
    ordinary = house.user()
    homeserver = house.given(admin_token=ordinary.access_token)
    way = admin.ways(homeserver)["password_reset"]
    assert not way.works
    assert ordinary.user_id in way.sentence
    assert "not a server admin" in way.sentence
    with pytest.raises(CannotAdminister, match="not a server admin"):
        admin.password_reset(homeserver=homeserver, user_id=house.root.user_id, password="taken-over", actor="test")
    assert house.login("root", house.root.password) == 200
    homeserver = house.given(admin_user="root", admin_password="not-the-password")
    assert "admin_password" in admin.ways(homeserver)["password_reset"].sentence
    homeserver = house.given(registration_token="another-token")
    with pytest.raises(CannotAdminister, match="does not take the registration token"):
        admin.user_create(homeserver=homeserver, localpart=house.name(), password="pass-word", actor="test")
    # The proof of a secret makes no account, whether it is right or wrong.
    homeserver = house.given(registration_shared_secret=house.synapse.shared_secret)
    assert admin.ways(homeserver)["user_create"].works
    answer = httpx.get(
        f"{house.synapse.url}/_synapse/admin/v2/users?name=not",
        headers={"Authorization": f"Bearer {house.root.access_token}"},
    )
    assert answer.json()["users"] == []


def test_an_administrator_with_a_password_logs_in_once(house: House) -> None:
    homeserver = house.given(admin_user="root", admin_password=house.root.password)
    user = house.user()
    for number in range(3):
        admin.password_reset(homeserver=homeserver, user_id=user.user_id, password=f"password-{number}", actor="test")
    kept = Service.objects.get().credentials[KEY]
    assert kept["user_id"] == house.root.user_id
    devices = house.as_user(house.root.access_token, "GET", "/devices").json()["devices"]
    assert [one["device_id"] for one in devices].count("SWITCHBOARD_ADMIN") == 1
    # A session that somebody ended is opened again, once.
    house.as_user(kept["access_token"], "POST", "/logout")
    admin.password_reset(homeserver=homeserver, user_id=user.user_id, password="password-9", actor="test")
    assert Service.objects.get().credentials[KEY]["access_token"] != kept["access_token"]
    assert house.login(user.user_id, "password-9") == 200


def test_passwords_sessions_and_the_end_of_an_account(house: House) -> None:
    homeserver, user = house.administered(), house.user()
    admin.password_reset(
        homeserver=homeserver, user_id=user.user_id, password="new-password", logout_devices=False, actor="test"
    )
    assert house.whoami(user.access_token) == 200
    assert (house.login(user.user_id, user.password), house.login(user.user_id, "new-password")) == (403, 200)
    admin.password_reset(homeserver=homeserver, user_id=user.user_id, password="newer-password", actor="test")
    assert house.whoami(user.access_token) == 401
    assert "newer-password" not in json.dumps(list(AuditEvent.objects.values("message", "before", "after")))
    token = admin.login_as(homeserver=homeserver, user_id=user.user_id, actor="test")
    assert house.as_user(token, "GET", "/account/whoami").json()["user_id"] == user.user_id
    assert token not in json.dumps(list(AuditEvent.objects.values("message", "before", "after")))
    admin.user_deactivate(homeserver=homeserver, user_id=user.user_id, actor="test")
    assert house.login(user.user_id, "newer-password") == 403
    assert audited("homeserver.user_deactivated").after["about"] == user.user_id
    nobody = f"@nobody{secrets.token_hex(2)}:{SERVER}"
    for call in (
        lambda: admin.login_as(homeserver=homeserver, user_id=nobody, actor="test"),
        lambda: admin.user_deactivate(homeserver=homeserver, user_id=nobody, actor="test"),
    ):
        with pytest.raises(NotFound):
            call()
    with pytest.raises(Refused):
        admin.password_reset(homeserver=homeserver, user_id=nobody, password="made-by-mistake", actor="test")
    assert house.login(nobody, "made-by-mistake") == 403


@pytest.mark.parametrize("version", ["10", "12"])
def test_rooms_are_entered_ruled_and_removed(house: House, version: str) -> None:
    homeserver = house.administered()
    owner, guest, ruler = house.user(), house.user(), house.user()
    room_id = house.room(owner, version)
    before = house.levels(owner, room_id)
    admin.room_join_user(homeserver=homeserver, room_id=room_id, user_id=guest.user_id, actor="test")
    assert room_id in house.joined(guest)
    # The administrator went in to invite, and left as he came.
    assert room_id not in house.joined(house.root)
    assert house.levels(owner, room_id) == before
    admin.room_make_admin(homeserver=homeserver, room_id=room_id, user_id=ruler.user_id, actor="test")
    assert house.levels(owner, room_id)[ruler.user_id] == 100
    house.as_user(ruler.access_token, "POST", f"/join/{room_id}").raise_for_status()
    assert admin.room_delete(homeserver=homeserver, room_id=room_id, actor="test") is True
    assert room_id not in house.joined(guest) + house.joined(owner)
    assert audited("homeserver.room_deleted").after["room"] == room_id


def test_a_room_in_which_nobody_has_power_is_refused_with_the_reason(house: House) -> None:
    homeserver, owner = house.administered(), house.user()
    room_id = house.room(owner, "10")
    house.as_user(owner.access_token, "POST", f"/rooms/{room_id}/leave", {}).raise_for_status()
    with pytest.raises(Refused, match=r"No local admin user|not in room"):
        admin.room_make_admin(homeserver=homeserver, room_id=room_id, user_id=house.root.user_id, actor="test")
    with pytest.raises(Refused):
        admin.room_join_user(homeserver=homeserver, room_id=room_id, user_id=house.user().user_id, actor="test")
    assert not AuditEvent.objects.filter(action__startswith="homeserver.room").exists()
