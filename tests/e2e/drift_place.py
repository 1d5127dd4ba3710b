"""A synced house on a real Synapse, its people, and everything that a test can do to it so that it differs."""

from __future__ import annotations

from typing import Any

import httpx
from django.db import connection
from django.test.utils import CaptureQueriesContext

from agents.models import Drift, SyncRun
from agents.services.mappings import mapping_relink
from agents.services.relinking import follow_space, move_address
from agents.services.spaces import space_alias
from agents.services.sync import SyncReport, sync_agents
from tests.agents.doctor.matrix.conftest import (
    AS_TOKEN,
    House,
)
from tests.peers.synapse import MatrixUser

PICTURE = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


class Place:
    """A synced house, and everything that a test does to it."""

    def __init__(self, house: House, settings: Any) -> None:
        self.house, self.settings = house, settings
        self.client, self.sender = house.client, house.homeserver.sender_id

    def __getattr__(self, name: str) -> Any:
        return getattr(self.house, name)

    @property
    def room(self) -> str:
        return self.house.room_id()

    @property
    def user(self) -> str:
        return self.house.user_id()

    def person(self, name: str, *, admin: bool = False) -> Person:
        return Person(
            self, self.house.synapse.register_user(f"{name}{self.house.prefix}", f"{name}-has-a-password", admin=admin)
        )

    def pass_(self, **options: Any) -> SyncReport:
        return sync_agents(actor="test", **options)

    def as_agent(self, path: str, user: str, **body: Any) -> dict[str, Any]:
        """A request of the client-server API that Switchboard itself never makes."""
        answer = httpx.post(
            f"{self.house.synapse.url}/_matrix/client/v3/{path}", json=body, params={"user_id": user},
            headers={"Authorization": f"Bearer {AS_TOKEN}"}, timeout=60,
        )  # fmt: skip
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def older_room(self) -> str:
        """Ada's room becomes one of version 11, where power over its maker is possible; everything else as before."""
        mapping, homeserver = self.house.mapping(), self.house.homeserver
        former = self.room
        fresh: str = self.client.create_room(
            user_id=self.user, name="Ada", topic="Chat with Ada.", preset="private_chat", room_version="11"
        )
        move_address(homeserver, mapping.room.alias, fresh, self.user)
        self.client.set_canonical_alias(fresh, mapping.room.alias, self.user)
        self.client.set_parent(fresh, self.house.space_id(), user_id=self.user)
        mapping_relink(mapping=mapping, room_id=fresh, homeserver=homeserver, actor="test")
        follow_space(homeserver, mapping.pk, former=former)
        self.client.leave(former, self.user)
        self.pass_()
        return fresh

    def levels(self, room_id: str, **users: int) -> None:
        content = self.client.get_state(room_id, "m.room.power_levels", "", self.user) or {}
        wanted = {"@" + name if not name.startswith("@") else name: level for name, level in users.items()}
        self.client.put_state(
            room_id, "m.room.power_levels", "", {**content, "users": {**content.get("users", {}), **wanted}}, self.user
        )


class Person:
    """An ordinary user of the homeserver."""

    def __init__(self, place: Place, user: MatrixUser) -> None:
        self.user_id, self._url = user.user_id, place.house.synapse.url
        self._web = httpx.Client(headers={"Authorization": f"Bearer {user.access_token}"}, timeout=60)
        self.token = user.access_token

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        answer = self._web.post(f"{self._url}/_matrix/client/v3/{path}", json=body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def admin(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        answer = self._web.request(method, f"{self._url}/_synapse/admin/{path}", json=body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def enters(self, place: Place, room_id: str, power: int = 0) -> None:
        place.client.invite(room_id, self.user_id, place.user)
        self.post(f"join/{room_id}")
        if power:
            place.levels(room_id, **{self.user_id: power})


def kinds(**more: Any) -> list[str]:
    return sorted(Drift.objects.filter(**more).values_list("kind", flat=True))


def whole(place: Place, name: str = "Ada") -> None:
    """Rows and homeserver agree about an agent."""
    mapping = place.mapping(name)
    user, room_id = mapping.account.user_id, mapping.room.room_id
    assert place.client.get_profile(user).display_name == name
    assert room_id in place.client.joined_rooms(user)
    assert place.client.resolve_alias(mapping.room.alias) == room_id
    assert room_id in place.children()
    assert place.client.get_state(room_id, "m.room.name", "", user) == {"name": name}
    assert place.client.get_state(room_id, "m.space.parent", place.space_id(), user)["via"]
    assert mapping.problem == ""


def mended(place: Place, *expected: str, steps: int | None = None) -> SyncReport:
    """One pass finds and mends it; the next one finds nothing and writes its own row only."""
    report = place.pass_()
    assert [finding.sentence for finding in report.findings] == []
    assert set(expected) <= set(kinds(mended_at__isnull=False)), kinds()
    assert kinds(mended_at__isnull=True) == []
    for kind in expected:
        row = Drift.objects.filter(kind=kind).first()
        assert row is not None
        assert len(row.sentence) > 20
        assert report.applied[f"drift.{kind}"] >= 1
    run = SyncRun.objects.get(pk=report.run_id)
    assert run.looked["mended"] >= len(expected)
    assert run.looked["open"] == 0
    second(place)
    return report


def second(place: Place) -> None:
    with CaptureQueriesContext(connection) as queries:
        report = place.pass_()
    assert report.plan.steps == []
    assert report.findings == []
    writes = [query["sql"] for query in queries if query["sql"].lstrip()[:6] in ("INSERT", "UPDATE", "DELETE")]
    assert all("agents_syncrun" in sql for sql in writes), writes


def rename(place: Place) -> None:
    place.client.set_display_name(place.user, "Somebody else")


def redress(place: Place) -> None:
    place.client.set_avatar(place.user, "")


def lose_account(place: Place) -> None:
    place.forget_users(place.user)


def rename_room(place: Place) -> None:
    place.client.put_state(place.room, "m.room.name", "", {"name": "The pub"}, place.user)


def lose_topic(place: Place) -> None:
    place.client.put_state(place.room, "m.room.topic", "", {"topic": "whatever"}, place.user)


def remove_address(place: Place) -> None:
    place.client.delete_alias(place.mapping().room.alias, place.user)


def move_address_away(place: Place) -> None:
    alias = place.mapping().room.alias
    place.client.delete_alias(alias, place.user)
    other = place.client.create_room(user_id=place.sender, name="Elsewhere", alias_localpart=None)
    place.client.put_alias(alias, other, place.sender)


def unlist(place: Place) -> None:
    place.client.remove_from_space(place.space_id(), place.room, user_id=place.sender)


def unname_space(place: Place) -> None:
    place.client.put_state(place.room, "m.space.parent", place.space_id(), {}, place.user)


def rename_space(place: Place) -> None:
    place.client.put_state(place.space_id(), "m.room.name", "", {"name": "Rubbish"}, place.sender)


def move_spaces_address(place: Place) -> None:
    place.client.delete_alias(space_alias(place.homeserver), place.sender)
