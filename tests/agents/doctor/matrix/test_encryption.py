"""What the doctor says of encrypted rooms. With keys, and without: ``tests/e2e/test_encrypted_rooms.py``."""

from __future__ import annotations

import pytest

from agents.doctor.matrix.encryption import encryption
from agents.models import Room, RoomKind
from ops.models import Service

pytestmark = pytest.mark.django_db


def test_under_an_appservice_encrypted_rooms_are_named() -> None:
    service = Service.objects.create(name="home", kind="homeserver", base_url="http://127.0.0.1:1")
    Room.objects.create(homeserver=service, room_id="!plain:sb.test")
    assert encryption("home").status == "pass"
    room = Room.objects.create(homeserver=service, room_id="!sealed:sb.test", encrypted=True)
    Room.objects.create(homeserver=service, kind=RoomKind.SPACE, room_id="!space:sb.test", encrypted=True)
    found = encryption("home")
    assert found.status == "warn"
    assert "client mode" in found.sentence
    assert [one.target for one in found.affected] == [f"room:{room.pk}"]
    service.enabled = False
    service.save()
    assert encryption("home").status == "skip"
