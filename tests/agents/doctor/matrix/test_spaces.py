"""The space on a real Synapse: lost in every way, doubled, and out of line with the agents."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from agents.models import Agent, Room
from agents.services.spaces import space_alias, space_row
from ops.models import AuditEvent
from tests.agents.doctor.matrix.conftest import House, ask, issue, mend, plan, undo


def alias_of(house: House) -> str | None:
    return house.client.resolve_alias(space_alias(house.homeserver))


def test_a_broken_address_is_linked_again_and_the_space_stays(synced: House) -> None:
    space = synced.space_id()
    assert ask("space.lost").status == "pass"
    synced.client.delete_alias(space_alias(synced.homeserver), synced.homeserver.sender_id)
    run = ask("space.lost")
    assert run.status == "fail"
    assert "leads nowhere" in run.sentence
    assert run.evidence["room_id"] == space
    assert run.evidence["children"] == 3
    assert issue("space.lost") is not None
    planned = plan("space.relink", "homeserver")
    assert [(one.before, one.after) for one in planned.plan.changes] == [(None, space)]
    done = mend("space.relink", "homeserver")
    assert (done.state, done.receipt["space"], done.receipt["made"]) == ("succeeded", space, False)
    assert alias_of(synced) == space
    assert issue("space.lost") is None
    assert mend("space.relink", "homeserver").state == "unneeded"
    undo(done)
    assert alias_of(synced) is None
    assert ask("space.lost").status == "fail"


def test_a_lost_row_is_found_by_its_address_twice_the_same(synced: House) -> None:
    space = synced.space_id()
    for _ in range(2):
        Room.objects.filter(kind="space").delete()
        run = ask("space.lost")
        assert run.status == "fail"
        assert run.evidence["alias_leads_to"] == space
        assert mend("space.relink").state == "succeeded"
        assert synced.space_id() == space
    assert set(Room.objects.filter(kind="agent").values_list("in_space", flat=True)) == {True}
    assert AuditEvent.objects.filter(action="space.relinked").count() == 2


def test_without_row_and_address_it_is_found_by_its_maker(synced: House) -> None:
    space = synced.space_id()
    synced.client.delete_alias(space_alias(synced.homeserver), synced.homeserver.sender_id)
    Room.objects.filter(kind="space").delete()
    planned = plan("space.relink")
    assert "found among the spaces that Switchboard made" in planned.plan.sentence
    done = mend("space.relink")
    assert done.state == "succeeded"
    assert synced.space_id() == space
    assert alias_of(synced) == space
    undo(done)
    assert space_row(synced.homeserver) is None
    assert alias_of(synced) is None


def test_only_when_there_is_none_a_new_one_is_made_and_sync_fills_it(synced: House) -> None:
    old = synced.space_id()
    synced.client.delete_alias(space_alias(synced.homeserver), synced.homeserver.sender_id)
    synced.client.leave(old, synced.homeserver.sender_id)
    run = ask("space.lost")
    assert run.status == "fail"
    assert "is not in the space" in run.sentence
    assert "a new one" in plan("space.relink").plan.changes[0].after
    done = mend("space.relink")
    assert (done.state, done.receipt["made"]) == ("succeeded", True)
    assert synced.space_id() != old
    assert synced.children() == set()
    synced.sync()
    assert synced.children() == {synced.room_id(name) for name in ("Ada", "Bea", "Cy")}
    assert ask("space.lost").status == ask("space.duplicates").status == "pass"


def test_an_address_that_leads_elsewhere_is_taken_back(synced: House) -> None:
    space, client, sender = synced.space_id(), synced.client, synced.homeserver.sender_id
    other = client.create_room(user_id=sender, name="Something else")
    alias = space_alias(synced.homeserver)
    client.delete_alias(alias, sender)
    client.put_alias(alias, other, sender)
    run = ask("space.lost")
    assert run.status == "fail"
    assert other in run.sentence
    done = mend("space.relink")
    assert done.state == "succeeded"
    assert alias_of(synced) == space
    undo(done)
    assert alias_of(synced) == other
    client.delete_alias(alias, sender)


def test_a_replaced_space_is_followed(synced: House) -> None:
    client, sender, old = synced.client, synced.homeserver.sender_id, synced.space_id()
    new = client.create_room(user_id=sender, name="Moved", is_space=True, preset="private_chat")
    client.put_state(old, "m.room.tombstone", "", {"body": "moved", "replacement_room": new}, sender)
    run = ask("space.lost")
    assert run.status == "fail"
    assert run.evidence["replaced_by"] == new
    assert mend("space.relink").state == "succeeded"
    assert synced.space_id() == new
    assert alias_of(synced) == new


def test_duplicates_are_merged_and_parted_again(synced: House) -> None:
    client, sender, keeper = synced.client, synced.homeserver.sender_id, synced.space_id()
    ann = synced.synapse.register_user(f"ann{synced.prefix}", "ann-has-a-password")
    name = synced.service.options["space_name"]
    double = client.create_room(
        user_id=sender, name=name, is_space=True, preset="private_chat", invite=[ann.user_id],
        alias_localpart=f"{synced.prefix}double",
    )  # fmt: skip
    client.add_to_space(double, synced.room_id("Ada"), user_id=sender)
    guest_room = client.create_room(user_id=sender, name="A room that people listed")
    client.add_to_space(double, guest_room, user_id=sender)
    client.set_parent(synced.room_id("Ada"), double, user_id=synced.user_id("Ada"))
    person = client.__class__(synced.synapse.url, ann.access_token, "sb.test", sender_localpart="x")
    person.call("POST", f"/_matrix/client/v3/join/{double}", "{}", action="join")
    person.close()
    other_name = client.create_room(user_id=sender, name="Not ours", is_space=True)

    run = ask("space.duplicates")
    assert run.status == "fail"
    assert run.evidence["keeper"] == keeper
    assert [one["room_id"] for one in run.evidence["duplicates"]] == [double]
    assert other_name not in str(run.evidence)
    assert ask("space.lost").status == "pass"

    planned = plan("space.dedupe")
    assert planned.confirm_word == "merge"
    done = mend("space.dedupe", typed="merge")
    assert done.state == "succeeded", done.error
    assert synced.children() == {synced.room_id("Ada"), synced.room_id("Bea"), synced.room_id("Cy"), guest_room}
    tombstone = client.get_state(double, "m.room.tombstone", "", sender)
    assert tombstone["replacement_room"] == keeper
    assert client.members(keeper, sender)[ann.user_id] == "invite"
    assert client.get_state(synced.room_id(), "m.space.parent", double, synced.user_id()) == {}
    assert client.resolve_alias(f"#{synced.prefix}double:sb.test") is None
    assert mend("space.dedupe", typed="merge").state == "unneeded"

    undo(done)
    assert guest_room not in synced.children()
    assert len(synced.children()) == 3
    assert client.members(keeper, sender)[ann.user_id] == "leave"
    assert client.resolve_alias(f"#{synced.prefix}double:sb.test") == double
    assert ask("space.duplicates").status == "fail"


def test_merging_wants_the_word(synced: House) -> None:
    import pytest

    from ops.doctor.repairs import RepairRefused

    name = synced.service.options["space_name"]
    sender = synced.homeserver.sender_id
    double = synced.client.create_room(user_id=sender, name=name, is_space=True)
    with pytest.raises(RepairRefused, match="merge"):
        mend("space.dedupe", typed="yes")
    assert synced.client.get_state(double, "m.room.tombstone", "", sender) is None


def test_rooms_that_are_not_listed_either_way_are_listed_again(synced: House) -> None:
    client, sender, space = synced.client, synced.homeserver.sender_id, synced.space_id()
    Room.objects.update(created_at=timezone.now() - timedelta(hours=1))
    assert ask("space.rooms_missing").status == "pass"
    client.remove_from_space(space, synced.room_id("Ada"), user_id=sender)
    client.put_state(synced.room_id("Bea"), "m.space.parent", space, {}, synced.user_id("Bea"))
    run = ask("space.rooms_missing")
    assert run.status == "fail"
    assert (run.evidence["not_listed"], run.evidence["without_parent"], run.evidence["rooms"]) == (1, 1, 3)
    targets = {one.target for one in run.affected}
    assert targets == {f"room:{synced.mapping('Ada').room_id}", f"room:{synced.mapping('Bea').room_id}"}

    one_room = plan("space.reconcile", f"room:{synced.mapping('Ada').room_id}")
    assert len(one_room.plan.changes) == 1
    done = mend("space.reconcile")
    assert (done.state, done.receipt["listed"], done.receipt["named"]) == ("succeeded", 1, 1)
    assert len(synced.children()) == 3
    assert client.get_state(synced.room_id("Bea"), "m.space.parent", space, synced.user_id("Bea"))["via"]
    assert mend("space.reconcile").state == "unneeded"
    undo(done)
    assert synced.room_id("Ada") not in synced.children()
    assert ask("space.rooms_missing").evidence["without_parent"] == 1


def test_rooms_of_archived_agents_leave_the_list_and_others_stay(synced: House) -> None:
    client, sender, space = synced.client, synced.homeserver.sender_id, synced.space_id()
    guest_room = client.create_room(user_id=sender, name="A room that people listed")
    client.add_to_space(space, guest_room, user_id=sender)
    Agent.objects.filter(name="Cy").update(state="archived")
    run = ask("space.rooms_missing")
    assert run.status == "fail"
    assert run.evidence["listed_but_archived"] == 1
    done = mend("space.reconcile")
    assert (done.state, done.receipt["taken_off"]) == ("succeeded", 1)
    assert synced.children() == {synced.room_id("Ada"), synced.room_id("Bea"), guest_room}
    undo(done)
    assert synced.room_id("Cy") in synced.children()


def test_before_there_are_rooms_nobody_misses_a_space(house: House) -> None:
    assert ask("space.lost").status == "pass"
    assert ask("space.duplicates").status == "skip"
    assert ask("space.rooms_missing").status == "skip"
