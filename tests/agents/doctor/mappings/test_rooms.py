"""Rooms that have drifted, been lost or been made twice, on a real Synapse."""

from __future__ import annotations

from typing import Any

import pytest

from agents.doctor.mappings import faults as breaks
from agents.models import Agent, Mapping, Room, SyncRun
from agents.services.backends import open_homeserver
from agents.services.mappings import rows_kept
from agents.services.rebuild import rebuild_apply, rebuild_plan
from agents.services.sync import sync_agents
from ops.doctor.repairs import RepairRefused
from ops.models import Issue, IssueTarget
from ops.runner import run_checks
from ops.services.repairs import repair_plan
from tests.agents.doctor.mappings.conftest import green, heal, mend, red, rooms_made, undone, walk
from tests.agents.doctor.matrix.conftest import House

pytestmark = pytest.mark.e2e


def everything() -> list[dict[str, Any]]:
    return rows_kept(Mapping.objects.order_by("pk"), Room.objects.order_by("pk"))


def name_of(memory: dict[str, Any]) -> str:
    return str(Mapping.objects.get(pk=memory["mapping"]).agent.name)


def agree(house: House, name: str = "Ada") -> None:
    """Alias, mapping and the agent's rooms are one."""
    mapping = house.mapping(name)
    assert house.client.resolve_alias(mapping.room.alias) == mapping.room.room_id
    assert mapping.room.room_id in house.client.joined_rooms(mapping.account.user_id)


class TestDrift:
    def test_break_red_plan_relink_green_undo(self, synced: House) -> None:
        before = everything()
        memory, run = walk("mapping.room_drift", "homeserver")
        name = name_of(memory)
        assert synced.room_id(name) == memory["new"]
        agree(synced, name)
        assert memory["new"] in synced.children()
        assert memory["old"] not in synced.children()
        undone(run)
        assert everything() == before
        assert memory["old"] in synced.children()
        found = red("mapping.room_drift", "homeserver")
        assert found.affected[0].evidence["address_leads_to"] == memory["new"]
        heal("mapping.room_drift", memory)
        green("mapping.room_drift", "homeserver")
        assert everything() == before

    def test_an_address_that_leads_nowhere_is_put_back_and_no_room_is_made(self, synced: House) -> None:
        mapping, rooms = synced.mapping(), rooms_made(synced)
        synced.client.delete_alias(mapping.room.alias, mapping.account.user_id)
        found = red("mapping.room_drift", "homeserver")
        assert [one.target for one in found.affected] == [f"mapping:{mapping.pk}"]
        run = mend("mapping.relink", f"agent:{mapping.agent_id}")
        assert run.state == "succeeded", run.error
        agree(synced)
        undone(run)
        assert synced.client.resolve_alias(mapping.room.alias) is None
        assert mend("mapping.relink", f"room:{mapping.room_id}").state == "succeeded"
        assert rooms_made(synced) == rooms

    def test_an_agent_that_left_is_invited_back(self, synced: House) -> None:
        from agents.sync.rooms import register_sender

        mapping = synced.mapping()
        register_sender(synced.homeserver)
        synced.client.invite(mapping.room.room_id, synced.homeserver.sender_id, mapping.account.user_id)
        synced.client.join(mapping.room.room_id, synced.homeserver.sender_id)
        synced.client.leave(mapping.room.room_id, mapping.account.user_id)
        assert red("mapping.room_drift", "homeserver").affected[0].evidence["what"] == "not_in_room"
        assert mend("mapping.relink").state == "succeeded"
        agree(synced)

    def test_an_agent_without_any_room_is_refused_with_the_way_out(self, synced: House) -> None:
        mapping, rooms = synced.mapping(), rooms_made(synced)
        synced.client.leave(mapping.room.room_id, mapping.account.user_id)
        red("mapping.room_drift", "homeserver")
        with pytest.raises(RepairRefused, match="Put account and room back"):
            repair_plan(repair_id="mapping.relink", target=f"mapping:{mapping.pk}", actor="test")
        assert rooms_made(synced) == rooms

    def test_a_slice_goes_on_where_the_last_one_ended_and_keeps_what_was_wrong(
        self, synced: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from agents.doctor.mappings import sweep

        monkeypatch.setattr(sweep, "SLICE", 2)
        monkeypatch.setattr(sweep, "AGAIN", 1)
        _, second, mapping = Mapping.objects.order_by("pk").select_related("room", "account")
        assert mapping.room is not None
        synced.client.delete_alias(mapping.room.alias, mapping.account.user_id)
        assert green("mapping.room_drift", "homeserver").evidence["last"] == second.pk
        for _ in range(3):
            assert red("mapping.room_drift", "homeserver").affected[0].target == f"mapping:{mapping.pk}"
        assert IssueTarget.objects.get().target == f"mapping:{mapping.pk}"

    def test_a_homeserver_that_is_down_blocks_it(self, synced: House) -> None:
        service = synced.service
        service.base_url = "http://127.0.0.1:9"
        service.save()
        runs = {run.check.id: run for run in run_checks(["homeserver.reachable", "mapping.room_drift"])}
        assert runs["homeserver.reachable"].status == "fail"
        assert runs["mapping.room_drift"].status == "blocked"


class TestDuplicates:
    def test_break_red_plan_dedupe_green_undo(self, synced: House) -> None:
        before = everything()
        memory, run = walk("mapping.duplicate_rooms", "homeserver")
        name = name_of(memory)
        assert synced.room_id(name) == memory["old"]
        user = synced.user_id(name)
        assert memory["new"] not in synced.client.joined_rooms(user)
        sign = synced.client.get_state(memory["new"], "m.room.tombstone", "", synced.homeserver.sender_id)
        assert sign["replacement_room"] == memory["old"]
        undone(run)
        assert memory["new"] in synced.client.joined_rooms(user)
        assert not synced.client.get_state(memory["new"], "m.room.tombstone", "", user)
        assert everything() == before
        red("mapping.duplicate_rooms", "homeserver")
        heal("mapping.duplicate_rooms", memory)
        green("mapping.duplicate_rooms", "homeserver")

    def test_the_room_where_people_talk_is_kept_and_people_are_invited_over(self, synced: House) -> None:
        ann = synced.synapse.register_user(f"ann{synced.prefix}", "ann-has-a-password")
        bob = synced.synapse.register_user(f"bob{synced.prefix}", "bob-has-a-password")
        memory = breaks.make_a_second_room()
        name = name_of(memory)
        mapping = synced.mapping(name)
        user, old = mapping.account.user_id, str(mapping.room.room_id)
        for person, room in ((ann, memory["new"]), (bob, old)):
            synced.client.invite(room, person.user_id, user)
        import httpx

        with httpx.Client(base_url=synced.synapse.url, headers={"Authorization": f"Bearer {ann.access_token}"}) as web:
            assert web.post(f"/_matrix/client/v3/join/{memory['new']}", json={}).status_code == 200
            said = {"msgtype": "m.text", "body": "here I am"}
            path = f"/_matrix/client/v3/rooms/{memory['new']}/send/m.room.message/1"
            assert web.put(path, json=said).status_code == 200
        red("mapping.duplicate_rooms", "homeserver")
        planned = repair_plan(repair_id="room.dedupe", target=f"mapping:{mapping.pk}", actor="test")
        assert planned.confirm_word == name
        run = mend("room.dedupe", f"mapping:{mapping.pk}")
        assert run.state == "succeeded", run.error
        assert synced.room_id(name) == memory["new"]
        agree(synced, name)
        members = synced.client.members(memory["new"], user)
        assert members[bob.user_id] == "invite"
        assert memory["new"] in synced.children()
        undone(run)
        assert synced.room_id(name) == old
        agree(synced, name)
        assert old in synced.children()
        heal("mapping.duplicate_rooms", memory)

    def test_what_is_no_duplicate(self, synced: House) -> None:
        """A chat that a person opened, a room with a successor, and another agent's room."""
        ann = synced.synapse.register_user(f"eve{synced.prefix}", "eve-has-a-password")
        import httpx

        with httpx.Client(base_url=synced.synapse.url, headers={"Authorization": f"Bearer {ann.access_token}"}) as web:
            made = web.post("/_matrix/client/v3/createRoom", json={"invite": [synced.user_id()], "is_direct": True})
        synced.client.join(made.json()["room_id"], synced.user_id())
        memory = breaks.make_a_second_room()
        gone = {"replacement_room": memory["old"], "body": "moved"}
        synced.client.put_state(memory["new"], "m.room.tombstone", "", gone, synced.user_id(name_of(memory)))
        green("mapping.duplicate_rooms", "homeserver")

    def test_without_the_word_nothing_happens(self, synced: House) -> None:
        from ops.services.repairs import repair_start

        breaks.make_a_second_room()
        red("mapping.duplicate_rooms", "homeserver")
        with pytest.raises(RepairRefused, match="to confirm"):
            repair_start(repair_id="room.dedupe", actor="test", trigger="command", typed="yes")
        red("mapping.duplicate_rooms", "homeserver")


NAMES = ("Ada", "Bea", "Cy", "Dan", "Eve")


class TestLost:
    @pytest.fixture
    def five(self, house: House) -> House:
        house.lists(*NAMES)
        house.sync()
        return house

    def test_break_red_plan_rebuild_green_undo(self, five: House) -> None:
        rooms, ids = rooms_made(five), {name: five.room_id(name) for name in NAMES}
        memory, run = walk("mapping.lost")
        assert run.receipt["rooms_made"] == 0
        assert {name: five.room_id(name) for name in NAMES} == ids
        assert rooms_made(five) == rooms
        for name in NAMES:
            agree(five, name)
        assert set(ids.values()) <= five.children()
        undone(run)
        assert not Mapping.objects.exists()
        assert five.client.resolve_alias(memory["addresses"][0]["alias"]) is None
        sync_agents(actor="test")
        red("mapping.lost")
        heal("mapping.lost", memory)
        green("mapping.lost")
        assert {name: five.room_id(name) for name in NAMES} == ids

    def test_the_stop_is_one_cause_and_turns_one_check_red(self, five: House) -> None:
        breaks.lose_mappings()
        runs = run_checks(["mapping.lost", "mapping.stale", "mapping.room_drift"])
        assert {run.check.id: str(run.status) for run in runs} == {
            "mapping.lost": "fail", "mapping.stale": "pass", "mapping.room_drift": "blocked",
        }  # fmt: skip
        assert SyncRun.objects.order_by("-pk").first().state == "stopped"
        assert [issue.check_id for issue in Issue.objects.all()] == ["mapping.lost"]

    def test_an_empty_database_stops_sync_until_it_is_rebuilt_and_no_room_is_made(self, five: House) -> None:
        rooms, ids = rooms_made(five), {name: five.room_id(name) for name in NAMES}
        Mapping.objects.all().delete()
        Room.objects.all().delete()
        Agent.objects.all().delete()
        from agents.models import Account

        Account.objects.all().delete()
        assert sync_agents(actor="test").state == "stopped"
        assert not Room.objects.exists()
        red("mapping.lost")
        rebuild_apply(plan=rebuild_plan(homeserver=open_homeserver()), actor="test")
        assert sync_agents(actor="test").plan.steps == []
        assert {name: five.room_id(name) for name in NAMES} == ids
        assert rooms_made(five) == rooms
        green("mapping.lost")

    def test_with_force_new_rooms_are_made_and_a_few_lost_ones_do_not_stop(self, five: House) -> None:
        memory = breaks.lose_mappings()
        report = sync_agents(actor="test", force=True)
        assert report.applied["room.create"] == len(memory["agents"])
        green("mapping.lost")
