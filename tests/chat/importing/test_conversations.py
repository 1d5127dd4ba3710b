"""What another bridge knew of conversations: between agents, in direct rooms, on the agents' own server."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from agents.models import Account, Mapping, MappingImport, MappingImportRow, Room
from agents.services.backends import open_homeserver
from agents.services.import_applying import import_apply
from agents.services.import_preparing import import_prepare
from agents.services.imports import import_rejects
from chat.models import Conversation, Message, Participant, Turn
from tests.agents.importing.conftest import ADMIN, Predecessor, _fake_homeserver, predecessor, stage
from tests.agents.importing.files import agent_id, as_bytes, request, user_id
from tests.support.fake_homeserver import SERVER_NAME
from tests.support.stage import ALICE

__all__ = ["_fake_homeserver", "predecessor", "stage"]


def asked(*records: dict) -> bytes:
    return as_bytes({record["tracking_id"]: record for record in records})


class TestRequests:
    def test_what_agents_asked_each_other_becomes_history_in_order(self, predecessor: Predecessor) -> None:
        predecessor.makes(1, 2)
        one, two = agent_id(1), agent_id(2)
        run = predecessor.brings(
            asked(
                request(3, one, two, status="timeout", response=None),
                request(1, one, two),
                request(2, one, two, status="failed", response=None, error="no such tool"),
                request(4, "system", two),
            ),
            predecessor.file(1, 2),
        )
        assert (run.counts["create"], run.counts["reject"]) == (6, 0)
        assert set(MappingImportRow.objects.filter(run=run).values_list("result", flat=True)) == {"done"}
        assert dict(Conversation.objects.values_list("title", "pk")).keys() == {
            "Agent 1 → Agent 2",
            "Letta-Matrix → Agent 2",
        }
        talk = Conversation.objects.get(title="Agent 1 → Agent 2")
        said = list(talk.messages.order_by("seq").values_list("role", "sender__name", "text"))
        assert said == [
            ("user", "Agent 1", "Question 1?"),
            ("assistant", "Agent 2", "Answer 1."),
            ("user", "Agent 1", "Question 2?"),
            ("notice", "Agent 2", "The request failed: no such tool."),
            ("user", "Agent 1", "Question 3?"),
            ("notice", "Agent 2", "The agent did not answer in time."),
        ]
        assert talk.last_message_at is not None
        assert talk.last_message_at.year == 2025
        assert not Turn.objects.exists()

    def test_the_same_file_again_changes_nothing_and_a_late_answer_is_added(self, predecessor: Predecessor) -> None:
        predecessor.makes(1, 2)
        one, two = agent_id(1), agent_id(2)
        open_one = request(1, one, two, status="pending", response=None, completed_at=None)
        predecessor.brings(predecessor.file(1, 2), asked(open_one))
        assert [message.text for message in Message.objects.all()] == ["Question 1?"]
        assert predecessor.brings(asked(open_one)).counts["unchanged"] == 1
        run = predecessor.brings(asked(request(1, one, two)))
        assert run.counts["update"] == 1
        assert [message.text for message in Message.objects.order_by("seq")] == ["Question 1?", "Answer 1."]
        assert predecessor.brings(asked(request(1, one, two))).counts["unchanged"] == 1

    def test_an_unknown_agent_makes_a_reject_that_is_taken_once_the_agent_is_known(
        self, predecessor: Predecessor
    ) -> None:
        predecessor.makes(1, 2)
        run = predecessor.brings(predecessor.file(1), asked(request(1, agent_id(1), agent_id(2))))
        row = MappingImportRow.objects.get(run=run, kind="request")
        assert (row.action, row.code) == ("reject", "request.unknown_agent")
        rejects = import_rejects(run)
        assert json.loads(rejects)["records"][0]["record"]["message"] == "Question 1?"
        predecessor.brings(predecessor.file(2))
        assert predecessor.brings(rejects).counts["create"] == 1
        assert Message.objects.count() == 2


class TestDirectRooms:
    def test_a_room_of_two_with_an_agent_in_it_goes_on(self, predecessor: Predecessor) -> None:
        predecessor.makes(1)
        who = user_id(1, SERVER_NAME)
        room = predecessor.fake.new_room(ALICE, who)
        old = predecessor.fake.person_says(room.room_id, ALICE, "an old word")
        entry = {"roomId": room.room_id, "participants": sorted([ALICE, who]), "createdAt": 1763160328000}
        run = predecessor.brings(predecessor.file(1), as_bytes({f"{ALICE}<->{who}": entry}))
        assert MappingImportRow.objects.get(run=run, kind="direct_room").result == "done"
        assert Room.objects.get(room_id=room.room_id).kind == "direct"
        predecessor.stage.sync()
        predecessor.stage.receive(old)
        predecessor.stage.drain()
        assert not Message.objects.filter(text="an old word").exists()
        predecessor.stage.receive(predecessor.fake.person_says(room.room_id, ALICE, "a new word"))
        predecessor.stage.drain()
        assert Message.objects.filter(text="a new word").exists()
        assert [event["sender"] for event in predecessor.fake.messages_of(room.room_id)][-1] == who
        assert predecessor.brings(as_bytes({f"{ALICE}<->{who}": entry})).counts["unchanged"] == 1

    def test_rooms_of_people_are_left_to_them(self, predecessor: Predecessor) -> None:
        room = predecessor.fake.new_room(ALICE, ADMIN)
        run = predecessor.brings(
            as_bytes({f"{ADMIN}<->{ALICE}": {"roomId": room.room_id, "participants": [ADMIN, ALICE]}})
        )
        row = MappingImportRow.objects.get(run=run)
        assert (row.action, row.code) == ("unchanged", "direct_room.of_people")
        assert not Room.objects.exists()

    def test_a_room_that_the_agent_is_not_in_is_not_taken(self, predecessor: Predecessor) -> None:
        predecessor.makes(1)
        who = user_id(1, SERVER_NAME)
        room = predecessor.fake.new_room(ALICE)
        entry = {"roomId": room.room_id, "participants": [ALICE, who]}
        run = predecessor.brings(predecessor.file(1), as_bytes({f"{ALICE}<->{who}": entry}))
        row = MappingImportRow.objects.get(run=run, kind="direct_room")
        assert row.result == "failed"
        assert "cannot get into" in row.result_sentence
        assert not Room.objects.filter(kind="direct").exists()


TABLES = """
CREATE TABLE agent_mappings (agent_id VARCHAR, agent_name VARCHAR, matrix_user_id VARCHAR, matrix_password VARCHAR, room_id VARCHAR,
  room_created BOOLEAN, created_at DATETIME, updated_at DATETIME, removed_at DATETIME);
CREATE TABLE dm_rooms (id INTEGER, room_id VARCHAR, participant_1 VARCHAR, participant_2 VARCHAR, created_at DATETIME,
  last_activity_at DATETIME);
CREATE TABLE room_conversations (id INTEGER, room_id VARCHAR, agent_id VARCHAR, conversation_id VARCHAR, strategy VARCHAR,
  created_at DATETIME, last_message_at DATETIME, user_mxid VARCHAR);
CREATE TABLE inter_agent_conversations (id INTEGER, source_agent_id VARCHAR, target_agent_id VARCHAR, room_id VARCHAR,
  conversation_id VARCHAR, user_mxid VARCHAR, created_at DATETIME, last_message_at DATETIME);
"""


def test_the_whole_database_is_taken_over(predecessor: Predecessor, tmp_path: Path) -> None:
    predecessor.makes(1, 2)
    who, mine = user_id(1, SERVER_NAME), predecessor.rooms[1].room_id
    direct = predecessor.fake.new_room(ALICE, who)
    place = tmp_path / "bridge.db"
    with sqlite3.connect(place) as database:
        database.executescript(TABLES)
        for number in (1, 2):
            entry = predecessor.entry(number)
            names = ("agent_id", "agent_name", "matrix_user_id", "matrix_password", "room_id")
            values = (*(entry[name] for name in names), 1, "2026-01-02", "2026-01-02", None)
            database.execute("INSERT INTO agent_mappings VALUES (?,?,?,?,?,?,?,?,?)", values)
        database.execute("INSERT INTO dm_rooms VALUES (1, ?, ?, ?, NULL, NULL)", (direct.room_id, ALICE, who))
        rows = [
            (1, mine, agent_id(1), "conv-of-room", "per-room", None),
            (2, mine, agent_id(1), "conv-of-alice", "per-user", ALICE),
            (3, mine, agent_id(2), "conv-of-guest", "per-room", None),
        ]
        for row in rows:
            database.execute("INSERT INTO room_conversations VALUES (?,?,?,?,?,NULL,NULL,?)", row)
        database.execute("INSERT INTO inter_agent_conversations VALUES (1,'a','b','!r:x','conv',NULL,NULL,NULL)")
    database.close()

    def brings() -> MappingImport:
        run = import_prepare(
            database_url=f"sqlite:///{place}", homeserver=open_homeserver(), service_name="scripts", actor="test"
        )
        return import_apply(run=run, actor="test")

    run = brings()
    assert [finding["code"] for finding in run.findings] == ["import.not_taken"]
    assert (run.counts["create"], run.counts["unchanged"]) == (4, 2)
    assert set(MappingImportRow.objects.filter(run=run, action="create").values_list("result", flat=True)) == {"done"}
    speaker = Participant.objects.get(conversation__links__room__room_id=mine, kind="agent")
    assert speaker.backend_ref == "conv-of-room"
    assert Mapping.objects.count() == Account.objects.count() == 2
    assert brings().counts["unchanged"] == 6
    Participant.objects.filter(pk=speaker.pk).update(backend_ref="conv-of-here")
    row = MappingImportRow.objects.get(run=brings(), action="conflict")
    assert (row.code, row.stored["conversation"], row.file["conversation"]) == (
        "conversation.differs", "conv-of-here", "conv-of-room",
    )  # fmt: skip
