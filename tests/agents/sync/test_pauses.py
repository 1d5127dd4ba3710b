"""Somebody whom the homeserver refuses everywhere is asked for less and less, in all rooms together, and comes back by one try."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from agents.models import Invitation, InviteePause
from agents.services.drift import Looked
from agents.services.invitations import invitee_resume
from ops.models import AuditEvent
from tests.support.stage import ALICE, BOB, Stage

pytestmark = pytest.mark.django_db
NAMES = ("Ada", "Bea", "Cy", "Dan", "Eve", "Fay")


def tried(house: Stage, person: str = BOB) -> int:
    """How often the person was invited singly."""
    return sum(call.body.get("user_id") == person for call in house.fake.calls("invite"))


def pause() -> InviteePause:
    return InviteePause.objects.get(user_id=BOB)


def its_time_is_over() -> None:
    InviteePause.objects.update(until=timezone.now() - timedelta(seconds=1))


@pytest.fixture
def refused(house: Stage, settings: Any) -> Stage:
    settings.MATRIX_INVITE = [ALICE, BOB]
    house.fake.unknown_people = {BOB}
    house.lists("scripts", *NAMES)
    house.sync()
    return house


def test_three_refusals_in_different_rooms_pause_the_person_everywhere(refused: Stage) -> None:
    assert tried(refused) == 3
    assert pause().failures == 3
    assert pause().until > timezone.now() + timedelta(minutes=4)
    for name in NAMES:
        assert refused.fake.rooms[str(refused.room(name).room_id)].membership(ALICE) == "invite"
    assert refused.sync().plan.steps == []
    refused.lists("scripts", *NAMES, "Gil")
    refused.sync()
    assert tried(refused) == 3, "a new room does not ask for them either"
    assert refused.fake.rooms[str(refused.room("Gil").room_id)].membership(ALICE) == "invite"


def test_one_invitation_tries_and_a_refusal_doubles_the_pause(refused: Stage) -> None:
    its_time_is_over()
    report = refused.sync()
    assert [step.detail["user_id"] for step in report.plan.steps if step.kind == "invite"] == [BOB]
    assert tried(refused) == 4
    assert pause().failures == 4
    assert pause().until > timezone.now() + timedelta(minutes=9)


def test_an_invitation_that_is_taken_lets_all_others_follow(refused: Stage) -> None:
    refused.fake.unknown_people = set()
    its_time_is_over()
    refused.sync()
    assert tried(refused) == 4
    assert not InviteePause.objects.exists()
    refused.sync()
    invited = [refused.fake.rooms[str(refused.room(name).room_id)].membership(BOB) for name in NAMES]
    assert invited == ["invite"] * len(NAMES)
    assert set(Invitation.objects.filter(user_id=BOB).values_list("state", flat=True)) == {"invited"}
    assert refused.sync().plan.steps == []


def test_rooms_that_the_inviter_is_not_in_say_nothing_of_the_person(
    house: Stage, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.lists("scripts", *NAMES)
    house.sync()
    # The last ones: an invitation that is taken after them would clear the count.
    for name in NAMES[2:]:
        mapping = house.mapping(name)
        room = house.fake.rooms[str(mapping.room.room_id)]
        room.state.pop(("m.room.member", mapping.account.user_id))
    settings.MATRIX_INVITE = [BOB]
    # Between two looks: a look would find the agents out of their rooms, and nobody would be invited there.
    monkeypatch.setattr("agents.services.sync.look_now", lambda *_, **__: Looked(timezone.now()))
    house.sync()
    assert not InviteePause.objects.filter(failures__gte=1).exists()
    assert Invitation.objects.filter(user_id=BOB, state="failed").count() == 4
    assert Invitation.objects.filter(user_id=BOB, state="invited").count() == 3


def test_an_operator_ends_a_pause(refused: Stage) -> None:
    refused.fake.unknown_people = set()
    invitee_resume(pause=pause(), actor="person:olga")
    refused.sync()
    assert set(Invitation.objects.filter(user_id=BOB).values_list("state", flat=True)) == {"invited"}
    assert AuditEvent.objects.get(action="invitee.resumed").actor == "person:olga"
