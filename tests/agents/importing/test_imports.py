"""From files to agents with the accounts and rooms that they had: taken over, compared, decided, given back."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.signals import post_save
from django.utils import timezone

from agents.backends.base import AgentInfo
from agents.models import Account, Agent, Invitation, Mapping, MappingImport, MappingImportRow, Room
from agents.services.import_applying import import_apply
from agents.services.import_preparing import import_prepare, import_preview
from agents.services.imports import ImportRefused, import_choose, import_discard, import_rejects, prune_imports
from tests.agents.importing.conftest import ADMIN, Predecessor
from tests.agents.importing.files import agent_id, as_bytes, file_of, user_id, without
from tests.support.fake_homeserver import SERVER_NAME
from tests.support.stage import ALICE


def said(run_rows: list[MappingImportRow]) -> list[tuple[str, str]]:
    return [(row.action, row.result) for row in run_rows]


def test_accounts_and_rooms_are_taken_over_and_nothing_is_made(predecessor: Predecessor) -> None:
    predecessor.makes(1, 2)
    before = predecessor.made()
    run = predecessor.brings(predecessor.file(1, 2))
    assert run.state == "done"
    assert run.counts["create"] == 2
    mappings = {
        mapping.agent.external_id: mapping for mapping in Mapping.objects.select_related("agent", "account", "room")
    }
    for number in (1, 2):
        row = mappings[agent_id(number)]
        assert row.account.user_id == user_id(number, SERVER_NAME)
        assert row.account.registered_at is not None
        assert row.room is not None
        assert row.room.room_id == predecessor.rooms[number].room_id
        assert row.room.name == f"Agent {number} - Letta Agent Chat"
        assert row.agent.state == "active"
    accounts, rooms = predecessor.made()
    # Besides Switchboard's own, which sync makes, there is no account and no room that was not there.
    assert (accounts, rooms) == before
    # The room can be found by the account's name from now on.
    assert predecessor.fake.aliases[f"#{user_id(1, SERVER_NAME)[1:]}"] == predecessor.rooms[1].room_id
    assert Invitation.objects.get(room=mappings[agent_id(1)].room, user_id=ADMIN).state == "joined"


def test_the_sync_after_it_makes_no_room_and_what_was_said_before_is_not_answered(predecessor: Predecessor) -> None:
    predecessor.makes(1, 2)
    predecessor.brings(predecessor.file(1, 2))
    rooms = set(predecessor.fake.rooms)
    report = predecessor.stage.sync()
    assert not report.error
    assert "room.create" not in report.applied
    # The space is new: none was in the files.
    assert len(set(predecessor.fake.rooms) - rooms) == 1
    room = predecessor.rooms[1]
    assert room.state[("m.room.name", "")]["content"] == {"name": "Agent 1"}
    old = next(event for event in room.events if event["type"] == "m.room.message")
    predecessor.stage.receive(old)
    predecessor.stage.drain()
    assert len(predecessor.fake.messages_of(room.room_id)) == 1
    predecessor.fake.person_joins(room.room_id, ALICE)
    predecessor.stage.receive(predecessor.fake.person_says(room.room_id, ALICE, "hello"))
    predecessor.stage.drain()
    assert len(predecessor.fake.messages_of(room.room_id)) > 2


def test_a_room_has_no_row_for_a_moment_in_which_old_words_would_be_taken_in(predecessor: Predecessor) -> None:
    predecessor.makes(1, 2)
    bare: list[str] = []

    def look(sender: Any, instance: Room, **_: Any) -> None:
        if instance.room_id and instance.taken_over_at is None:
            bare.append(instance.room_id)

    post_save.connect(look, sender=Room)
    try:
        predecessor.brings(predecessor.file(1, 2))
    finally:
        post_save.disconnect(look, sender=Room)
    assert Room.objects.filter(taken_over_at__isnull=False).count() == 2
    assert bare == []


def test_a_second_import_changes_nothing(predecessor: Predecessor) -> None:
    predecessor.makes(1, 2)
    predecessor.brings(predecessor.file(1, 2))
    before = list(Mapping.objects.values_list("pk", "account_id", "room_id", "updated_at"))
    calls = len(predecessor.fake.calls("state_put"))
    run = predecessor.brings(predecessor.file(1, 2))
    assert run.counts == {"create": 0, "update": 0, "unchanged": 2, "conflict": 0, "reject": 0}
    assert list(Mapping.objects.values_list("pk", "account_id", "room_id", "updated_at")) == before
    assert len(predecessor.fake.calls("state_put")) == calls


def test_passwords_lie_in_no_column_in_the_clear(predecessor: Predecessor) -> None:
    predecessor.makes(1)
    run = predecessor.prepare(predecessor.file(1))
    assert _in_the_clear("word-of-agent-1") == []
    import_apply(run=run, actor="test")
    assert _in_the_clear("word-of-agent-1") == []
    assert Account.objects.get().secrets["password"] == "word-of-agent-1"
    assert predecessor.row(run, agent_id(1)).record == ""


def _in_the_clear(word: str) -> list[str]:
    found = []
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            found += [table for row in cursor.fetchall() if word in repr(row)]
    return found


def test_agents_that_are_gone_are_archived_and_keep_their_rooms(predecessor: Predecessor) -> None:
    predecessor.makes(1)
    predecessor.makes(2, 3, listed=False)
    gone = predecessor.entry(3, removed_at="2026-01-02T03:04:05")
    predecessor.brings(as_bytes(file_of(predecessor.entry(1), predecessor.entry(2), gone)))
    states = dict(Agent.objects.values_list("external_id", "state"))
    assert states == {agent_id(1): "active", agent_id(2): "archived", agent_id(3): "archived"}
    report = predecessor.stage.sync()
    assert not report.plan.stopped
    assert Mapping.objects.get(agent__external_id=agent_id(2)).room.room_id == predecessor.rooms[2].room_id
    predecessor.stage.world.agents["scripts"].append(AgentInfo(agent_id(2), "Agent 2"))
    predecessor.stage.sync()
    assert Agent.objects.get(external_id=agent_id(2)).state == "active"


def test_what_differs_waits_for_a_decision_with_all_three_sides(predecessor: Predecessor) -> None:
    predecessor.makes(1)
    predecessor.brings(predecessor.file(1))
    mine = predecessor.rooms[1].room_id
    other = predecessor.fake.new_room(user_id(1, SERVER_NAME))
    run = predecessor.brings(as_bytes(file_of(predecessor.entry(1) | {"room_id": other.room_id})))
    row = predecessor.row(run, agent_id(1))
    assert (row.action, row.code, row.result) == ("conflict", "mapping.differs", "")
    assert (row.stored["room_id"], row.file["room_id"]) == (mine, other.room_id)
    assert row.homeserver["room_id"] == other.room_id
    assert set(row.stored) == set(row.file) == set(row.homeserver)
    assert Mapping.objects.get().room.room_id == mine
    import_choose(run=run, rows=[row.pk], choice="stored", actor="test")
    import_apply(run=run, actor="test")
    assert predecessor.row(run, agent_id(1)).result == "kept"
    assert Mapping.objects.get().room.room_id == mine
    import_choose(run=run, rows=[row.pk], choice="file", actor="test")
    import_apply(run=run, actor="test")
    assert predecessor.row(run, agent_id(1)).result == "done"
    assert Mapping.objects.get().room.room_id == other.room_id
    assert predecessor.fake.aliases[f"#{user_id(1, SERVER_NAME)[1:]}"] == other.room_id


def test_a_room_that_the_account_is_not_in_is_a_conflict_and_the_homeserver_may_decide(
    predecessor: Predecessor,
) -> None:
    predecessor.makes(1)
    run = predecessor.prepare(as_bytes(file_of(predecessor.entry(1) | {"room_id": "!gone:fake.test"})))
    row = predecessor.row(run, agent_id(1))
    assert (row.action, row.code) == ("conflict", "mapping.not_in_room")
    assert row.homeserver["room_id"] == predecessor.rooms[1].room_id
    assert import_choose(run=run, choice="homeserver", actor="test") == 1
    import_apply(run=run, actor="test")
    assert Mapping.objects.get().room.room_id == predecessor.rooms[1].room_id


def test_a_file_that_wins_over_a_room_nobody_can_enter_fails_and_says_what_to_do(predecessor: Predecessor) -> None:
    predecessor.makes(1)
    run = predecessor.brings(as_bytes(file_of(predecessor.entry(1) | {"room_id": "!gone:fake.test"})), prefer="file")
    row = predecessor.row(run, agent_id(1))
    assert row.result == "failed"
    assert "Invite it there" in row.result_sentence
    assert not Mapping.objects.exists()
    body = json.loads(import_rejects(run))
    assert body["records"][0]["record"]["room_id"] == "!gone:fake.test"


def test_one_room_for_two_agents_goes_to_the_one_that_is_in_it(predecessor: Predecessor) -> None:
    predecessor.makes(1, 2)
    shared = predecessor.rooms[1].room_id
    run = predecessor.brings(as_bytes(file_of(predecessor.entry(1), predecessor.entry(2) | {"room_id": shared})))
    assert (predecessor.row(run, agent_id(1)).action, predecessor.row(run, agent_id(1)).result) == ("create", "done")
    row = predecessor.row(run, agent_id(2))
    assert (row.action, row.code) == ("conflict", "mapping.room_shared")
    assert row.homeserver["room_id"] == predecessor.rooms[2].room_id
    assert Mapping.objects.get().agent.external_id == agent_id(1)


def test_one_room_for_two_agents_that_are_both_in_it_is_for_people_to_decide(predecessor: Predecessor) -> None:
    predecessor.makes(1, 2)
    shared = predecessor.rooms[1].room_id
    predecessor.fake.person_joins(shared, user_id(2, SERVER_NAME))
    run = predecessor.brings(as_bytes(file_of(predecessor.entry(1), predecessor.entry(2) | {"room_id": shared})))
    assert {row.code for row in MappingImportRow.objects.filter(run=run)} == {"mapping.room_shared"}
    assert not Mapping.objects.exists()
    first = predecessor.row(run, agent_id(1))
    import_choose(run=run, rows=[first.pk], choice="file", actor="test")
    import_apply(run=run, actor="test")
    assert Mapping.objects.get().room.room_id == shared


def test_a_half_written_file_saves_what_is_whole_and_its_rejects_come_back_mended(predecessor: Predecessor) -> None:
    predecessor.makes(1, 2, 3)
    whole = predecessor.file(1, 2, 3)
    cut = whole[: whole.index(f'"{agent_id(3)}"'.encode()) + 150]
    run = predecessor.brings(cut)
    assert Mapping.objects.count() == 2
    assert run.counts["reject"] == 1
    assert [finding["code"] for finding in run.findings] == ["import.truncated"]
    body = json.loads(import_rejects(run))
    assert body["records"][0]["kind"] == "broken"
    # As it stands it is refused again, with its place; mended it is taken.
    again = predecessor.brings(as_bytes(body))
    assert again.counts["reject"] == 1
    body["records"][0]["text"] = f'"{agent_id(3)}": {json.dumps(predecessor.entry(3))}'
    mended = predecessor.brings(as_bytes(body))
    assert (mended.counts["create"], mended.counts["reject"]) == (1, 0)
    assert Mapping.objects.count() == 3


def test_rejected_records_come_back_mended_and_the_counts_add_up(predecessor: Predecessor) -> None:
    predecessor.makes(1, 2)
    bad = predecessor.entry(2) | {"matrix_user_id": "agent without a server"}
    run = predecessor.brings(as_bytes({agent_id(1): predecessor.entry(1), agent_id(2): bad, "x": {"what": "is this"}}))
    assert sum(run.counts.values()) == 3
    assert (run.counts["create"], run.counts["reject"]) == (1, 2)
    body = json.loads(import_rejects(run))
    assert [record["kind"] for record in body["records"]] == ["mapping", ""]
    assert "is no Matrix user id" in body["records"][0]["why"]
    body["records"][0]["record"]["matrix_user_id"] = user_id(2, SERVER_NAME)
    del body["records"][1]
    again = predecessor.brings(as_bytes(body))
    assert (again.counts["create"], again.counts["reject"]) == (1, 0)
    assert Mapping.objects.count() == 2
    assert json.loads(import_rejects(again))["records"] == []


def test_an_account_of_another_server_is_refused(predecessor: Predecessor) -> None:
    predecessor.makes(1)
    run = predecessor.brings(as_bytes(file_of(predecessor.entry(1) | {"matrix_user_id": user_id(1, "elsewhere.test")})))
    row = predecessor.row(run, agent_id(1))
    assert (row.action, row.code) == ("reject", "mapping.other_server")
    assert "elsewhere.test" in row.sentence


def test_an_account_that_is_gone_is_made_again_only_when_somebody_says_so(predecessor: Predecessor) -> None:
    predecessor.makes(1)
    predecessor.fake.lose_account(user_id(1, SERVER_NAME))
    run = predecessor.brings(predecessor.file(1))
    row = predecessor.row(run, agent_id(1))
    assert (row.action, row.code) == ("conflict", "mapping.account_missing")
    assert user_id(1, SERVER_NAME) not in predecessor.fake.users
    import_choose(run=run, rows=[row.pk], choice="file", actor="test")
    import_apply(run=run, actor="test")
    # The fake keeps memberships of lost accounts, as a homeserver that was restored from a backup does.
    assert predecessor.row(run, agent_id(1)).result == "done"
    assert Mapping.objects.get().room.room_id == predecessor.rooms[1].room_id


def test_the_service_is_found_by_who_lists_the_agent(predecessor: Predecessor, monkeypatch: pytest.MonkeyPatch) -> None:
    from agents.importing.plan import plan_mappings
    from agents.importing.read import read_file
    from agents.importing.world import ListedService, MappingFacts

    records = read_file("f.json", predecessor.file(1)).records

    def plan(*services: ListedService) -> tuple[str, int | None, str]:
        row = plan_mappings(records, MappingFacts(SERVER_NAME, services))[0]
        return row.code, row.data.get("service"), row.data.get("state", "")

    lists, silent = {agent_id(1): "One"}, ListedService(3, "silent", None, error="no answer")
    assert plan() == ("mapping.no_service", None, "")
    assert plan(ListedService(1, "a", lists, True), ListedService(2, "b", {}, True)) == ("", 1, "active")
    assert (
        plan(ListedService(1, "a", lists, True), ListedService(2, "b", lists, True))[0] == "mapping.service_ambiguous"
    )
    assert plan(ListedService(1, "a", {}, True)) == ("", 1, "archived")
    assert plan(ListedService(1, "a", {}, False)) == ("", 1, "active")
    assert plan(silent) == ("", 3, "active")
    assert plan(ListedService(1, "a", {}, True), silent)[0] == "mapping.service_unknown"
    assert plan(ListedService(1, "a", lists, True), silent) == ("", 1, "active")


def test_a_preview_writes_nothing(predecessor: Predecessor) -> None:
    predecessor.makes(1)
    run, rows = import_preview(files=[("f.json", predecessor.file(1))], service_name="scripts", actor="test")
    assert run.counts["create"] == len(rows) == 1
    assert run.pk is None
    assert not MappingImportRow.objects.exists()
    assert not Agent.objects.exists()


def test_what_is_discarded_keeps_no_secrets_and_cannot_be_applied(predecessor: Predecessor) -> None:
    predecessor.makes(1)
    run = predecessor.prepare(predecessor.file(1))
    assert predecessor.row(run, agent_id(1)).record
    import_discard(run=run, actor="test")
    assert predecessor.row(run, agent_id(1)).record == ""
    with pytest.raises(ImportRefused, match="discarded"):
        import_apply(run=run, actor="test")


def test_only_open_conflicts_can_be_decided(predecessor: Predecessor) -> None:
    predecessor.makes(1)
    run = predecessor.prepare(predecessor.file(1))
    row = predecessor.row(run, agent_id(1))
    with pytest.raises(ImportRefused, match="no conflict"):
        import_choose(run=run, rows=[row.pk], choice="file", actor="test")
    with pytest.raises(ImportRefused, match="stored"):
        import_choose(run=run, choice="coin", actor="test")
    with pytest.raises(ImportRefused, match="Name a file"):
        import_prepare(actor="test")


def test_the_space_is_taken_over_and_lists_what_it_listed(predecessor: Predecessor) -> None:
    predecessor.makes(1, 2)
    sender = f"@switchboard:{SERVER_NAME}"
    space = predecessor.fake._make_room(ADMIN, {"type": "m.space"})
    predecessor.fake._state(space, "m.room.name", "", {"name": "Letta Agents"}, ADMIN)
    predecessor.fake._state(space, "m.room.power_levels", "", {"users": {ADMIN: 100, sender: 100}}, ADMIN)
    predecessor.fake._state(
        space, "m.space.child", predecessor.rooms[1].room_id, {"via": [SERVER_NAME], "order": "a"}, ADMIN
    )
    config = as_bytes({"space_id": space.room_id, "created_at": 1763160328, "name": "Letta Agents"})
    run = predecessor.brings(predecessor.file(1, 2), config)
    row = predecessor.row(run, space.room_id)
    # Nobody has let Switchboard in; no second space is made meanwhile.
    assert row.result == "failed"
    assert f"{sender} is not in the space" in row.result_sentence
    predecessor.stage.sync()
    spaces = [
        room for room in predecessor.fake.rooms.values() if room.state[("m.room.create", "")]["content"].get("type")
    ]
    assert spaces == [space]
    predecessor.fake._state(space, "m.room.member", sender, {"membership": "invite"}, ADMIN)
    import_apply(run=run, actor="test")
    assert predecessor.row(run, space.room_id).result == "done", predecessor.row(run, space.room_id).result_sentence
    assert Room.objects.get(kind="space").room_id == space.room_id
    assert dict(Room.objects.filter(kind="agent").values_list("room_id", "in_space")) == {
        predecessor.rooms[1].room_id: True,
        predecessor.rooms[2].room_id: False,
    }
    predecessor.stage.sync()
    assert predecessor.fake.children(space.room_id) == {room.room_id for room in predecessor.rooms.values()}
    assert predecessor.brings(predecessor.file(1, 2), config).counts["unchanged"] == 3


def test_sessions_of_people_are_told_of_and_not_used(predecessor: Predecessor) -> None:
    predecessor.makes(1)
    identities = {
        "letta_1": {"id": "letta_1", "mxid": user_id(1, SERVER_NAME), "accessToken": "syt_agent", "type": "letta"},
        "custom": {"id": "custom", "mxid": ADMIN, "accessToken": "syt_admin", "type": "custom"},
    }
    run = predecessor.brings(predecessor.file(1), as_bytes(identities))
    agent, admin = predecessor.row(run, user_id(1, SERVER_NAME)), predecessor.row(run, ADMIN)
    assert (agent.action, agent.code) == ("unchanged", "identity.covered")
    assert (admin.action, admin.code) == ("unchanged", "identity.person")
    assert not Account.objects.filter(user_id=ADMIN).exists()
    assert _in_the_clear("syt_admin") == []


def test_five_fields_are_enough(predecessor: Predecessor) -> None:
    predecessor.makes(1)
    entry = without(predecessor.entry(1), "matrix_password", "created", "invitation_status", "agent_id")
    run = predecessor.brings(as_bytes({agent_id(1): entry}))
    assert predecessor.row(run, agent_id(1)).result == "done"


def test_thousands_of_records_are_compared_with_few_queries(
    predecessor: Predecessor, django_assert_max_num_queries: Any
) -> None:
    data = predecessor.file(*range(4_000))
    # Forty statements a thousand records at most, reading and writing, whatever their number.
    with django_assert_max_num_queries(160):
        run = predecessor.prepare(data, look_seconds=0)
    assert run.counts["create"] == 4_000
    assert "not asked" in predecessor.row(run, agent_id(3_999)).sentence
    import_discard(run=run, actor="test")


def test_what_no_database_can_store_does_not_stop_the_others(predecessor: Predecessor) -> None:
    predecessor.makes(1)
    strange = '{"agent_id": "agent-\\ud800", "agent_name": "N\\u0000", "matrix_user_id": "@agent_x:fake.test", "m\\u0000\\udfff": 1}'
    text = predecessor.file(1).decode()[:-2] + ', "k\\ud800\\u0000": ' + strange + "}"
    run = predecessor.brings(text.encode())
    assert predecessor.row(run, agent_id(1)).result == "done"
    assert run.counts["create"] + run.counts["reject"] + run.counts["conflict"] == 2
    json.loads(import_rejects(run))


def test_secrets_of_an_import_that_nobody_goes_on_with_are_forgotten_after_a_month(predecessor: Predecessor) -> None:
    predecessor.makes(1)
    run = predecessor.prepare(predecessor.file(1))
    assert prune_imports() == 0
    MappingImport.objects.filter(pk=run.pk).update(created_at=timezone.now() - timedelta(days=31))
    assert prune_imports() == 1
    run.refresh_from_db()
    assert run.state == "discarded"
    assert predecessor.row(run, agent_id(1)).record == ""
    assert prune_imports() == 0
