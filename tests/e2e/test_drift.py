"""Each kind of drift caused on a real Synapse, found by the next pass, shown, mended by that pass, and nothing left for the one after."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from agents.backends.base import AgentInfo
from agents.models import Drift, DriftKind, Invitation, Mapping, Room
from agents.services.drift import drift_of, look
from agents.services.spaces import space_alias, space_row
from tests.agents.doctor.matrix.conftest import (
    House,
    house,
    receiver,
    registration_file,
    synapse,
)
from tests.e2e.drift_place import (
    PICTURE,
    Place,
    kinds,
    lose_account,
    lose_topic,
    mended,
    move_address_away,
    move_spaces_address,
    redress,
    remove_address,
    rename,
    rename_room,
    rename_space,
    second,
    unlist,
    unname_space,
    whole,
)
from tests.support.scripted_backend import WORLD

__all__ = ["house", "receiver", "registration_file", "synapse"]

pytestmark = pytest.mark.e2e


@pytest.fixture
def place(house: House, settings: Any) -> Place:
    WORLD.agents["scripts"] = [AgentInfo("id-ada", "Ada", avatar_url=PICTURE)]
    house.sync()
    return Place(house, settings)


CAUSES: list[tuple[str, Callable[[Place], None]]] = [
    (DriftKind.ACCOUNT_NAME, rename),
    (DriftKind.ACCOUNT_AVATAR, redress),
    (DriftKind.ROOM_NAME, rename_room),
    (DriftKind.ROOM_NAME, lose_topic),
    (DriftKind.ROOM_ALIAS, remove_address),
    (DriftKind.ROOM_ALIAS, move_address_away),
    (DriftKind.SPACE_CHILD, unlist),
    (DriftKind.SPACE_CHILD, unname_space),
    (DriftKind.ROOM_NAME, rename_space),
    (DriftKind.ROOM_ALIAS, move_spaces_address),
]


def test_small_differences_are_mended_one_after_the_other(place: Place) -> None:
    second(place)
    for kind, cause in CAUSES:
        Drift.objects.all().delete()
        cause(place)
        report = mended(place, kind)
        assert report.applied == {f"drift.{kind}": 1}, cause.__name__
        whole(place)
    assert place.client.resolve_alias(space_alias(place.homeserver)) == place.space_id()


def test_all_at_once_is_one_pass(place: Place) -> None:
    for cause in (rename, redress, rename_room, remove_address, unlist, unname_space, rename_space):
        cause(place)
    mended(
        place, DriftKind.ACCOUNT_NAME, DriftKind.ACCOUNT_AVATAR, DriftKind.ROOM_NAME, DriftKind.ROOM_ALIAS, DriftKind.SPACE_CHILD
    )  # fmt: skip
    whole(place)


def test_a_look_and_a_dry_run_change_nothing(place: Place) -> None:
    rename(place)
    report = place.pass_(dry_run=True)
    assert report.plan.counts == {"drift.account.name": 1}
    assert "name back" in report.plan.steps[0].sentence
    assert Drift.objects.count() == 0
    found = look(homeserver=place.homeserver, mappings=[place.mapping()])
    assert [row.kind for row in found] == ["account.name"]
    assert found == drift_of(place.mapping())
    assert found[0].detail == {"stored": "Ada", "found": "Somebody else"}
    assert place.client.get_profile(place.user).display_name == "Somebody else"
    mended(place, DriftKind.ACCOUNT_NAME)


def test_an_account_that_is_gone_is_made_again(place: Place) -> None:
    room = place.room
    lose_account(place)
    mended(place, DriftKind.ACCOUNT_GONE)
    whole(place)
    assert place.room == room


def test_a_room_that_is_gone_is_made_again_and_the_row_remembers_the_old_one(place: Place) -> None:
    boss, room = place.person("boss", admin=True), place.room
    boss.admin("DELETE", f"v1/rooms/{room}", purge=True, block=False)
    mended(place, DriftKind.ROOM_GONE)
    whole(place)
    assert place.room != room
    assert place.mapping().room.predecessors == [room]
    assert room not in place.children()


def test_an_agent_that_left_a_room_with_nobody_in_it_gets_a_new_one(place: Place) -> None:
    room = place.room
    place.client.leave(room, place.user)
    report = place.pass_()
    assert report.findings == []
    assert kinds(mended_at__isnull=True) == []
    second(place)
    whole(place)
    assert place.mapping().room.predecessors == [room]


def test_an_agent_that_left_is_invited_back_by_switchboards_own_account(place: Place) -> None:
    room = place.room
    place.client.invite(room, place.sender, place.user)
    place.client.join(room, place.sender)
    place.client.leave(room, place.user)
    mended(place, DriftKind.ACCOUNT_OUT)
    whole(place)
    assert place.room == room


def test_a_banned_agent_comes_back_through_an_administrator_or_is_said_to_be_out(place: Place) -> None:
    room, ann = place.older_room(), place.person("ann")
    ann.enters(place, room, power=100)
    place.levels(room, **{place.user: 50})
    ann.post(f"rooms/{room}/ban", user_id=place.user)
    report = place.pass_()
    assert report.state == "done"
    assert report.findings[-1].code == "drift.not_mended"
    row = Drift.objects.get(kind=DriftKind.ACCOUNT_OUT, mended_at__isnull=True)
    # Synapse does not let the banned read who is in the room.
    assert "is not in its room" in row.sentence
    assert "banned" in row.error
    assert f"/invite {place.user}" in row.error
    assert "administrator" in row.error
    assert place.mapping().problem == row.error
    # By itself sync does not try that again at once; whoever asks for it does.
    assert place.pass_(trigger="beat").plan.steps == []
    assert [step.kind for step in place.pass_().plan.steps] == ["drift.account.out"]
    boss = place.person("boss", admin=True)
    service = place.service
    service.credentials = {**service.credentials, "admin_token": boss.token}
    service.save()
    mended(place, DriftKind.ACCOUNT_OUT)
    whole(place)
    assert place.room == room
    assert place.client.joined_members(room, place.user) == {place.user, ann.user_id}


def test_power_comes_back_from_switchboard_or_its_loss_is_said(place: Place) -> None:
    room, ann = place.older_room(), place.person("ann")
    ann.enters(place, room, power=100)
    place.levels(room, **{place.user: 0})
    report = place.pass_()
    assert [finding.code for finding in report.findings] == ["drift.not_mended"]
    row = Drift.objects.get(kind=DriftKind.ROOM_POWER, mended_at__isnull=True)
    assert f"{ann.user_id} (100) can give it 100" in row.error
    assert place.mapping().problem == ""
    ann.post(f"rooms/{room}/invite", user_id=place.sender)
    place.client.join(room, place.sender)
    levels = place.client.get_state(room, "m.room.power_levels", "", place.user)
    content = {**levels, "users": {**levels["users"], place.sender: 100}}
    httpx.put(
        f"{place.synapse.url}/_matrix/client/v3/rooms/{room}/state/m.room.power_levels", json=content,
        headers={"Authorization": f"Bearer {ann.token}"},
    ).raise_for_status()  # fmt: skip
    mended(place, DriftKind.ROOM_POWER)
    whole(place)


def test_an_upgraded_room_is_followed(place: Place) -> None:
    room, conversation = place.room, place.mapping().room.pk
    fresh = place.as_agent(f"rooms/{room}/upgrade", place.user, new_version="12")["replacement_room"]
    again = place.as_agent(f"rooms/{fresh}/upgrade", place.user, new_version="12")["replacement_room"]
    mended(place, DriftKind.ROOM_UPGRADED)
    whole(place)
    assert (place.room, place.mapping().room.pk) == (again, conversation)
    assert place.mapping().room.predecessors == [room]
    assert room not in place.children()
    assert place.mapping().room.caught_up_epoch == 0, "what was said since the upgrade is taken in"


def test_a_room_that_somebody_upgraded_without_the_agent_is_named_and_followed_once_it_is_invited(place: Place) -> None:
    room, ann = place.older_room(), place.person("ann")
    ann.enters(place, room, power=100)
    fresh = ann.post(f"rooms/{room}/upgrade", new_version="12")["replacement_room"]
    place.pass_()
    row = Drift.objects.get(kind=DriftKind.ROOM_UPGRADED, mended_at__isnull=True)
    assert fresh in row.sentence
    assert "/invite" in row.error
    assert place.room == room
    ann.post(f"rooms/{fresh}/invite", user_id=place.user)
    report = place.pass_()
    assert report.applied["drift.room.upgraded"] == 1
    assert place.room == fresh
    assert kinds(mended_at__isnull=True) == []
    whole(place)


def test_operators_are_invited_again_unless_they_left_themselves(place: Place) -> None:
    ann, bob = place.person("ann"), place.person("bob")
    place.settings.MATRIX_INVITE = [ann.user_id, bob.user_id]
    place.pass_()
    second(place)
    for person in (ann, bob):
        person.post(f"join/{place.room}")
    place.client.kick(place.room, ann.user_id, place.user)
    bob.post(f"rooms/{place.room}/leave")
    report = mended(place, DriftKind.ROOM_OPERATORS)
    assert report.applied == {"drift.room.operators": 1}
    members = place.client.members(place.room, place.user)
    assert (members[ann.user_id], members[bob.user_id]) == ("invite", "leave")
    assert Invitation.objects.get(room__room_id=place.room, user_id=bob.user_id).state == "left"


def test_a_refused_invitation_is_shown_and_ends(place: Place) -> None:
    room, ann, bob = place.older_room(), place.person("ann"), place.person("bob")
    bob.enters(place, room, power=100)
    levels = place.client.get_state(room, "m.room.power_levels", "", place.user)
    content = {**levels, "invite": 90, "users": {**levels["users"], place.user: 50}}
    place.client.put_state(room, "m.room.power_levels", "", content, place.user)
    place.settings.MATRIX_INVITE = [ann.user_id]
    place.pass_()
    assert Invitation.objects.get(room__room_id=room).state == "failed"
    place.pass_()
    assert kinds(mended_at__isnull=True) == ["room.invites", "room.power"]
    drift = Drift.objects.get(kind=DriftKind.ROOM_INVITES)
    assert ann.user_id in drift.sentence
    assert drift.mends
    Invitation.objects.filter(state="failed").update(attempts=3)
    place.pass_()
    drift.refresh_from_db()
    assert not drift.mends
    assert drift.detail["repair"] == "room.repair_membership"
    # Somebody else invites her: our row follows the room.
    bob.post(f"rooms/{room}/invite", user_id=ann.user_id)
    place.pass_()
    assert kinds(mended_at__isnull=True) == ["room.power"]
    assert Invitation.objects.get(room__room_id=room).state == "invited"


def test_a_space_that_is_gone_is_found_again_or_made_and_lists_everything_in_one_pass(place: Place) -> None:
    WORLD.agents["scripts"] += [AgentInfo("id-bea", "Bea")]
    place.pass_()
    space, boss = place.space_id(), place.person("boss", admin=True)
    boss.admin("DELETE", f"v1/rooms/{space}", purge=True, block=False)
    report = place.pass_()
    assert report.findings == []
    assert report.applied["drift.space.gone"] == 1
    assert place.space_id() != space
    for name in ("Ada", "Bea"):
        whole(place, name)
    second(place)


def test_a_second_space_and_a_second_room_are_named_and_mended_by_their_repairs(place: Place) -> None:
    from tests.agents.doctor.matrix.conftest import mend

    name = place.service.options["space_name"]
    place.client.create_room(user_id=place.sender, name=name, is_space=True)
    extra = place.client.create_room(user_id=place.user, name="Ada", preset="private_chat")
    report = place.pass_()
    assert sorted(finding.code for finding in report.findings) == ["drift.room.double", "drift.space.double"]
    assert report.applied == {}
    assert kinds(mended_at__isnull=True) == ["room.double", "space.double"]
    assert extra in drift_of(place.mapping())[0].sentence
    # Told once by passes that nobody asked for, and every time to whoever asks.
    assert place.pass_(trigger="beat").findings == []
    for row in Drift.objects.all():
        target = f"mapping:{row.mapping_id}" if row.mapping_id else "homeserver"
        typed = "Ada" if row.mapping_id else "merge"
        run = mend(row.detail["repair"], target, typed=typed)
        assert run.state == "succeeded", run.error
    place.pass_()
    assert kinds(mended_at__isnull=True) == []
    whole(place)


def test_one_room_for_two_agents_is_named_and_the_other_one_leaves(place: Place) -> None:
    from tests.agents.doctor.matrix.conftest import mend

    WORLD.agents["scripts"] += [AgentInfo("id-bea", "Bea")]
    place.pass_()
    bea = place.user_id("Bea")
    place.client.invite(place.room, bea, place.user)
    place.client.join(place.room, bea)
    place.pass_()
    row = Drift.objects.get(mended_at__isnull=True)
    assert (row.kind, row.mapping, row.key) == ("room.shared", place.mapping(), bea)
    assert "Bea" in row.sentence
    run = mend(row.detail["repair"], f"mapping:{row.mapping_id}")
    assert run.state == "succeeded", run.error
    place.pass_()
    assert kinds(mended_at__isnull=True) == []
    assert bea not in place.client.joined_members(place.room, place.user)


def test_an_agent_in_another_room_of_its_own_keeps_that_one(place: Place) -> None:
    """An older program has made the room anew: no third one is made."""
    room = place.room
    fresh = place.client.create_room(user_id=place.user, name="Ada", preset="private_chat")
    place.client.leave(room, place.user)
    place.pass_()
    assert place.room == fresh
    assert kinds(mended_at__isnull=True) == []
    whole(place)
    second(place)


def test_an_emptied_homeserver_stops_and_asks(place: Place) -> None:
    WORLD.agents["scripts"] = [AgentInfo(f"id-{n}", f"Agent {n}") for n in range(5)] + WORLD.agents["scripts"]
    place.pass_()
    boss = place.person("boss", admin=True)
    rooms = {mapping.pk: mapping.room.room_id for mapping in Mapping.objects.select_related("room")}
    for room_id in list(rooms.values())[:5]:
        boss.admin("DELETE", f"v1/rooms/{room_id}", purge=True, block=False)
    report = place.pass_()
    assert report.state == "stopped"
    assert [finding.code for finding in report.findings] == ["homeserver.lost"]
    assert {mapping.pk: mapping.room.room_id for mapping in Mapping.objects.select_related("room")} == rooms
    report = place.pass_(force=True)
    assert report.applied["drift.room.gone"] == 5
    assert kinds(mended_at__isnull=True) == []
    for mapping in Mapping.objects.select_related("agent"):
        whole(place, mapping.agent.name)


def test_more_mappings_than_a_pass_looks_at_come_in_turn(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from agents.services import drift as service

    WORLD.agents["scripts"] += [AgentInfo("id-bea", "Bea"), AgentInfo("id-cy", "Cy")]
    place.pass_()
    monkeypatch.setattr("agents.services.sync.ALL", 2)
    monkeypatch.setattr(service, "SLICE", 1)
    last = Mapping.objects.select_related("account").order_by("pk").last()
    assert last is not None
    late = last.account.user_id
    place.client.set_display_name(late, "Nobody")
    found = []
    for _ in range(3):
        place.pass_()
        found.append(kinds())
    assert found == [[], [], ["account.name"]]
    # An event says where to look: it does not have to wait for its turn.
    place.client.set_display_name(late, "Nobody")
    Room.objects.filter(mapping=last).update(look_wanted_at="2020-01-01T00:00:00Z")
    place.pass_()
    assert kinds() == ["account.name", "account.name"]
    assert Room.objects.get(mapping=last).look_wanted_at is None
    place.client.set_display_name(late, "Nobody")
    report = place.pass_(verify=True)
    assert report.looked["mappings"] == 3
    assert kinds(mended_at__isnull=True) == []
    assert space_row(place.homeserver) is not None
