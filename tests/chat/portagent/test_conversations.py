"""Conversations, messages, tools, thinking, files come over, and no second time."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agents.models import Agent
from chat.models import Attachment, Conversation, ImportedRow, Membership, Message, Person
from chat.portagent.databases import Databases
from chat.portagent.plan import Step, Wishes, plan
from chat.services.attachments import open_content
from chat.services.branches import path as branch
from chat.services.portagent_import import imported_agent_choose
from ops.models import AuditEvent
from tests.chat.portagent.conftest import Run
from tests.chat.portagent.fixtures import (
    T0,
    Portagent,
    agent_says,
    talk,
    tool_call,
    tool_result,
    user_says,
)
from tests.chat.portagent.test_people import snapshot

pytestmark = pytest.mark.django_db


def test_a_conversation_comes_over_whole(old: Portagent, ada: str) -> None:
    image_id, session_id = old.conversation(1, old.container(ada), talk(), systemPrompt="Be brief.")
    run = Run(old.folder)
    assert run.codes() == []
    assert run.counts("create") == {"user": 1, "image": 1, "message": 9}
    conversation = Conversation.objects.get()
    member = Membership.objects.get()
    assert member.person.username == "ada"
    assert conversation.portal
    assert conversation.agent is None
    assert conversation.title == "What is the weather in Bonn?"
    assert conversation.created_at == datetime.fromtimestamp(T0 / 1000 + 1, UTC)
    assert member.last_read_seq == conversation.next_seq - 1
    said = list(Message.objects.order_by("seq"))
    assert [(one.role, one.text) for one in said] == [
        ("notice", "This conversation comes from Portagent. Its instructions there were:\n\nBe brief."),
        ("user", "What is the weather in Bonn?"),
        ("assistant", "Let me look.\n\nIt is sunny."),
        ("user", "And this?"),
        ("assistant", "A sky."),
        ("notice", "The model is overloaded."),
        ("user", "Again?"),
    ]
    answer = said[2]
    assert [part["type"] for part in answer.parts] == ["reasoning", "text", "tool_call", "tool_result", "text", "usage"]
    texts = [answer.text[part["start"] : part["end"]] for part in answer.parts if part["type"] == "text"]
    assert texts == ["Let me look.", "It is sunny."]
    assert answer.parts[2] == {
        "type": "tool_call",
        "id": "c1",
        "name": "weather",
        "arguments": '{"city": "Bonn"}',
        "start": 12,
        "end": 12,
    }
    assert (answer.parts[3]["output"], answer.parts[3]["ok"]) == ('{"sun": true}', True)
    assert answer.in_reply_to == said[1]
    # One branch, notices beside it.
    assert [one.parent_id for one in said] == [None, None, said[1].pk, said[2].pk, said[3].pk, said[4].pk, said[4].pk]
    assert conversation.head == said[6]
    assert branch(conversation) == [one.pk for one in said]
    assert said[1].said_at is not None
    assert said[1].said_at > datetime.fromtimestamp(T0 / 1000, UTC)
    assert conversation.last_message_at == datetime.fromtimestamp(T0 / 1000 + 1.5, UTC)
    picture = Attachment.objects.get()
    assert (picture.message, picture.conversation, picture.name, picture.media_type) == (
        said[3],
        conversation,
        "sky.png",
        "image/png",
    )
    assert open_content(picture).read(4) == b"\x89PNG"
    assert said[0].parts[0]["systemPrompt"] == "Be brief."
    assert said[0].parts[0]["imageId"] == image_id
    assert ImportedRow.objects.filter(kind="message", key__startswith=session_id).count() == 9
    assert AuditEvent.objects.filter(action="portagent.imported").count() == 1


def test_outputs_of_tools_of_every_kind(old: Portagent, ada: str) -> None:
    outputs = [
        ({"type": "text", "value": "plain"}, "plain", True),
        ({"type": "json", "value": [1, "ü"]}, '[1, "ü"]', True),
        ({"type": "error-text", "value": "no"}, "no", False),
        ({"type": "error-json", "value": {"code": 1}}, '{"code": 1}', False),
        ({"type": "execution-denied", "reason": "not now"}, "not now", False),
        ({"type": "content", "value": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "a\nb", True),
    ]
    messages = [user_says("go")]
    for number, (output, _, _) in enumerate(outputs):
        messages += [tool_call(f"c{number}", "t", {}), tool_result(f"c{number}", "t", output)]
    old.conversation(1, old.container(ada), messages)
    Run(old.folder)
    results = [part for part in Message.objects.get(role="assistant").parts if part["type"] == "tool_result"]
    assert [(part["output"], part["ok"]) for part in results] == [(text, ok) for _, text, ok in outputs]


def test_a_second_run_changes_nothing_and_new_messages_follow(old: Portagent, ada: str) -> None:
    messages = talk()
    _, session_id = old.conversation(1, old.container(ada), messages)
    Run(old.folder)
    before = snapshot()
    again = Run(old.folder)
    assert again.counts("create") == {}
    assert again.counts("unchanged") == {"user": 1, "image": 1, "message": 9}
    assert snapshot() == before
    old.put(f"messages:{session_id}", [*messages, agent_says("Yes."), user_says("Thanks")])
    more = Run(old.folder)
    assert more.counts("create") == {"message": 2}
    last = list(Message.objects.order_by("-seq")[:3])
    assert [one.text for one in last] == ["Thanks", "Yes.", "Again?"]
    assert [last[0].parent, last[1].parent] == [last[1], last[2]]
    assert last[1].in_reply_to == last[2]


def test_a_changed_message_is_said_and_ours_stays(old: Portagent, ada: str) -> None:
    messages = [user_says("one"), agent_says("two")]
    _, session_id = old.conversation(1, old.container(ada), messages)
    Run(old.folder)
    messages[1]["content"] = "three"
    old.put(f"messages:{session_id}", messages)
    run = Run(old.folder)
    assert (run.codes(), run.counts("changed")) == (["portagent.changed"], {"message": 1})
    assert Message.objects.get(role="assistant").text == "two"


def test_a_dry_run_tells_the_same_and_writes_nothing(old: Portagent, ada: str, tmp_path: Path) -> None:
    old.conversation(1, old.container(ada), talk())
    old.conversation(2, "user-nobody", [user_says("lost")])
    before = snapshot()
    rejects = tmp_path / "rejects.jsonl"
    dry = Run(old.folder, dry_run=True, rejects=rejects)
    assert snapshot() == before
    assert not rejects.exists()
    assert list((tmp_path / "var").iterdir()) == []
    real = Run(old.folder)
    assert dry.report.counts == real.report.counts
    assert [one.to_dict() for one in dry.findings] == [one.to_dict() for one in real.findings]
    assert dry.report.rejects == real.report.rejects == 2


def test_planning_needs_no_database(old: Portagent, ada: str, django_assert_num_queries: Any) -> None:
    class Nothing:
        def known(self, kind: str, keys: Any) -> dict[str, str]:
            return {}

        def name_taken(self, name: str, *, exact: bool = False) -> bool:
            return False

        def match(self, name: str, email: str) -> None:
            return None

        def person_exists(self, user_key: str) -> bool:
            return False

        def owner_of(self, container: str) -> None:
            return None

    old.conversation(1, old.container(ada), talk())
    source = Databases(old.folder)
    with django_assert_num_queries(0):
        steps: list[Step] = list(plan(source, Nothing(), Wishes()))
    source.close()
    assert [(step.action, step.row.kind, step.count) for step in steps] == [
        ("create", "user", 1),
        ("create", "image", 1),
        ("create", "message", 1),
        ("create", "message", 4),
        ("create", "message", 1),
        ("create", "message", 1),
        ("create", "message", 1),
        ("create", "message", 1),
    ]


# Who answers


def test_without_an_agent_they_can_only_be_read_until_one_is_chosen(old: Portagent, ada: str, agent: Agent) -> None:
    old.conversation(1, old.container(ada), talk())
    assert Run(old.folder).report.read_only == 1
    again = Run(old.folder, agent=agent)
    assert again.report.read_only == 0
    assert again.counts("create") == {}
    conversation = Conversation.objects.get()
    assert conversation.agent == agent
    assert imported_agent_choose(agent=agent, actor="test") == 0


def test_the_chosen_agent_answers_from_the_beginning(old: Portagent, ada: str, agent: Agent) -> None:
    old.conversation(1, old.container(ada), talk())
    Run(old.folder, agent=agent)
    assert set(Message.objects.filter(role="assistant").values_list("sender__agent", flat=True)) == {agent.pk}
    from chat.services.messages import message_send

    person = Person.objects.get()
    sent = message_send(agent=agent, text="And now?", person=person, conversation=Conversation.objects.get())
    assert sent.turn is not None
    from chat.turns.history import history_of

    assert [item.text for item in history_of(sent.turn)][-2:] == ["A sky.", "Again?"]


# Secrets, oddities


def test_keys_of_tool_servers_stay_behind(old: Portagent, ada: str) -> None:
    servers = {
        "hub": {
            "command": "npx",
            "env": {"HUB_TOKEN": "tok-very-secret"},
            "url": "https://u:tok-very-secret@h/mcp?key=tok-very-secret",
        }
    }
    old.conversation(1, old.container(ada), [], mcpServers=servers)
    run = Run(old.folder)
    assert "portagent.secrets_left" in run.codes("info")
    kept = Message.objects.get().parts[0]
    assert "tok-very-secret" not in json.dumps(kept)
    assert kept["mcpServers"]["hub"]["command"] == "npx"


def test_odd_characters_and_times_are_survived(old: Portagent, ada: str) -> None:
    odd = [
        user_says("NUL \x00 and half \ud83d."),
        agent_says([{"type": "thinking", "reasoning": "\x00"}]),
        {**user_says("when?"), "timestamp": "soon"},
        {**user_says("far"), "timestamp": 1e300},
    ]
    del odd[2]["id"]
    old.conversation(1, old.container(ada), odd, name="T\x00itle", createdAt="nonsense")
    run = Run(old.folder)
    assert run.codes() == []
    assert [one.text for one in Message.objects.filter(role="user").order_by("seq")] == [
        "NUL  and half �.",
        "when?",
        "far",
    ]
    assert Conversation.objects.get().title == "Title"


def test_the_same_message_id_twice_is_two_messages(old: Portagent, ada: str) -> None:
    one = user_says("one")
    old.conversation(1, old.container(ada), [one, {**one, "content": "two"}])
    Run(old.folder)
    assert list(Message.objects.filter(role="user").order_by("seq").values_list("text", flat=True)) == ["one", "two"]
    assert Run(old.folder).counts("create") == {}


def test_what_was_deleted_here_does_not_come_back(old: Portagent, ada: str) -> None:
    _, session = old.conversation(1, old.container(ada), [user_says("one")])
    Run(old.folder)
    Message.objects.all().delete()
    Conversation.objects.all().delete()
    old.put(f"messages:{session}", [user_says("two")])
    Run(old.folder)
    assert Conversation.objects.count() == Message.objects.count() == 0
    assert Run(old.folder).counts("create") == {}


def test_portagent_2_keeps_conversations_in_the_same_way(newer: Portagent) -> None:
    from tests.chat.portagent.fixtures import pbkdf2_hash

    carol = newer.user(1, "carol", password_hash=pbkdf2_hash("x"))
    newer.conversation(1, newer.container(carol), talk(), name="Holidays")
    run = Run(newer.folder)
    assert run.codes() == []
    assert Membership.objects.get().person.username == "carol"
    assert Conversation.objects.get().title == "Holidays"
