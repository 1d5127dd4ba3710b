"""Invitations that are refused again and again, on a real Synapse."""

from __future__ import annotations

import pytest

from agents.models import Invitation
from agents.sync.rooms import invite
from ops.doctor.repairs import RepairRefused
from tests.agents.doctor.matrix.conftest import SERVER, House, ask, issue, mend, plan, undo


def refused(house: House, person: str, times: int = 3) -> Invitation:
    """Sync invites, and the homeserver refuses, for real."""
    mapping = house.mapping()
    for _ in range(times):
        invite(house.homeserver, mapping.room, person, mapping.account.user_id)
    row = Invitation.objects.get(room=mapping.room, user_id=person)
    assert (row.state, row.attempts) == ("failed", times)
    return row


def test_an_inviter_that_left_the_room_comes_back_and_invites(synced: House) -> None:
    sender, room_id, person = synced.homeserver.sender_id, synced.room_id(), f"@ann:{SERVER}"
    synced.client.invite(room_id, sender, synced.user_id())
    synced.client.join(room_id, sender)
    synced.client.leave(room_id, synced.user_id())
    refused(synced, person, times=2)
    assert ask("matrix.invite_loop", "").status == "pass"
    mapping = synced.mapping()
    invite(synced.homeserver, mapping.room, person, mapping.account.user_id)
    run = ask("matrix.invite_loop", "")
    assert run.status == "fail"
    assert run.evidence["invitations"][0]["attempts"] == 3
    assert [one.target for one in run.affected] == [f"room:{mapping.room_id}"]
    assert person in run.sentence

    planned = plan("room.repair_membership")
    assert "not in the room" in planned.plan.changes[0].before
    done = mend("room.repair_membership")
    assert done.state == "succeeded", done.error
    members = synced.client.members(room_id, synced.user_id())
    assert (members[synced.user_id()], members[person]) == ("join", "invite")
    assert issue("matrix.invite_loop") is None
    assert mend("room.repair_membership").state == "unneeded"
    undo(done)
    assert synced.client.members(room_id, synced.user_id())[person] == "leave"
    assert ask("matrix.invite_loop", "").status == "fail"


def test_who_is_banned_is_given_up(synced: House) -> None:
    person = f"@barred:{SERVER}"
    synced.client.ban(synced.room_id(), person, synced.user_id())
    row = refused(synced, person)
    planned = plan("room.repair_membership", f"room:{row.room_id}")
    assert planned.plan.changes[0].after == "given up: they are banned"
    assert mend("room.repair_membership", f"room:{row.room_id}").state == "succeeded"
    row.refresh_from_db()
    assert (row.state, row.attempts) == ("left", 0)
    assert synced.client.members(synced.room_id(), synced.user_id())[person] == "ban"
    # Sync leaves whoever left alone.
    synced.sync()
    row.refresh_from_db()
    assert row.state == "left"


def test_who_came_meanwhile_is_settled_and_the_way_in_is_refused_when_there_is_none(synced: House) -> None:
    person = f"@late:{SERVER}"
    synced.client.ban(synced.room_id(), person, synced.user_id())
    row = refused(synced, person)
    synced.client.call(
        "POST", f"/_matrix/client/v3/rooms/{synced.room_id()}/unban", f'{{"user_id": "{person}"}}',
        query=f"user_id={synced.user_id()}", action="unban",
    )  # fmt: skip
    synced.client.invite(synced.room_id(), person, synced.user_id())
    assert plan("room.repair_membership").plan.changes[0].after == "settled: they are there"
    assert mend("room.repair_membership").state == "succeeded"
    row.refresh_from_db()
    assert row.state == "invited"

    lonely = synced.mapping("Bea")
    synced.client.leave(str(lonely.room.room_id), lonely.account.user_id)
    Invitation.objects.create(room=lonely.room, user_id=person, state="failed", attempts=5, error="forbidden")
    failed = mend("room.repair_membership", f"room:{lonely.room_id}")
    assert failed.state == "failed"
    assert "does not get into the room" in failed.error
    assert Invitation.objects.get(room=lonely.room).attempts == 5


def test_it_is_refused_while_the_homeserver_is_gone(synced: House) -> None:
    mapping = synced.mapping()
    Invitation.objects.create(room=mapping.room, user_id=f"@x:{SERVER}", state="failed", attempts=4, error="no")
    synced.service.__class__.objects.update(base_url="http://127.0.0.1:9")
    with pytest.raises(RepairRefused, match="does not answer"):
        plan("room.repair_membership")
