"""Invitations after a restore: none is sent before the rooms were looked at, and nobody is invited who was, came or declined since."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from agents.models import Invitation, InvitationState
from agents.restoring.invited import hold_back, look
from ops.backup import hooks
from tests.support.stage import ALICE, BOB, Stage

pytestmark = pytest.mark.django_db
CAROL, DORA, EVE = (f"@{name}:fake.test" for name in ("carol", "dora", "eve"))


def fence(*kinds: str) -> hooks.Fence:
    now = timezone.now()
    return hooks.Fence("default", now, now, 1, kinds, False, lambda finding: None)


def work(*kinds: str) -> hooks.Reconcile:
    now = timezone.now()
    return hooks.Reconcile(now, now, 1, kinds or ("mappings",), False, "test", lambda finding: None)


def states() -> dict[str, tuple[str, bool]]:
    return {one.user_id: (one.state, one.not_before is not None) for one in Invitation.objects.all()}


@pytest.fixture
def invited(stage: Stage) -> dict[str, Any]:
    stage.agent()
    room = stage.room()
    Invitation.objects.filter(room=room).delete()
    for user, state in ((ALICE, "pending"), (BOB, "failed"), (CAROL, "pending"), (DORA, "invited"), (EVE, "joined")):
        Invitation.objects.create(room=room, user_id=user, state=state)
    return {"room_id": str(room.room_id), "stage": stage}


def test_nothing_is_sent_before_it_was_looked_at(invited: dict[str, Any]):
    hold_back(fence("people", "conversations"))
    assert not any(waits for _, waits in states().values()), "rooms were not put back"
    one = fence("mappings")
    hold_back(one)
    assert {user for user, (_, waits) in states().items() if waits} == {ALICE, BOB, CAROL}
    assert set(Invitation.objects.exclude(not_before=None).values_list("not_before", flat=True)) == {
        one.now + timedelta(hours=1)
    }


def test_who_came_or_declined_since_is_known_and_the_others_may_be_asked(invited: dict[str, Any]):
    hold_back(fence("mappings"))
    fake, room_id = invited["stage"].fake, invited["room_id"]
    fake.person_joins(room_id, ALICE)
    fake._state(fake.rooms[room_id], "m.room.member", BOB, {"membership": "leave"}, BOB)
    fake._state(fake.rooms[room_id], "m.room.member", EVE, {"membership": "leave"}, EVE)
    assert look(work("people")) is None
    result = look(work())
    assert result is not None
    assert (result["known"], result["to_send"]) == (2, 1)
    assert result["sentence"] == "2 invitations had been sent, accepted or declined since; nobody is invited again."
    found = states()
    assert found[ALICE][0] == InvitationState.JOINED
    assert found[BOB][0] not in (InvitationState.PENDING, InvitationState.FAILED)
    assert found[CAROL] == ("pending", False), "looked at, it may be sent"
    assert (found[DORA][0], found[EVE][0]) == ("invited", "joined"), "what was known of these is as good"
