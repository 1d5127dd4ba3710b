"""Conversations, messages, tools, thinking, files; what cannot be taken is rejected, mended and taken after all."""

from __future__ import annotations

import base64
import json
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from agents.models import Agent
from chat.models import Attachment, Conversation, ImportedRow, Membership, Message, Person
from chat.portagent.databases import Databases, NotPortagent
from chat.portagent.plan import Step, Wishes, plan
from chat.services.attachments import open_content
from chat.services.branches import path as branch
from chat.services.portagent_import import imported_agent_choose, portagent_import
from ops.models import AuditEvent, Service
from tests.chat.portagent.conftest import Run
from tests.chat.portagent.fixtures import (
    PNG,
    T0,
    Portagent,
    agent_says,
    bcrypt_hash,
    error,
    tool_call,
    tool_result,
    user_says,
)
from tests.chat.portagent.test_people import snapshot

pytestmark = pytest.mark.django_db

HASH = bcrypt_hash("portagent-1")


@pytest.fixture
def ada(old: Portagent) -> str:
    return old.user(1, "ada", passwordHash=HASH)


@pytest.fixture
def agent(db: Any) -> Agent:
    service = Service.objects.create(name="demo", kind="demo", options={"speed": 0})
    return Agent.objects.create(service=service, external_id="demo-x", name="Xenia")


def talk() -> list[dict[str, Any]]:
    return [
        user_says("What is the weather in Bonn?"),
        agent_says(
            [
                {"type": "thinking", "reasoning": "I should look.", "tokenCount": 4},
                {"type": "text", "text": "Let me look."},
            ]
        ),
        tool_call("c1", "weather", {"city": "Bonn"}),
        tool_result("c1", "weather", {"type": "json", "value": {"sun": True}}),
        agent_says("It is sunny.", usage={"inputTokens": 10, "outputTokens": 5}),
        user_says(
            [
                {"type": "text", "text": "And this?"},
                {"type": "image", "data": PNG, "mediaType": "image/png", "name": "sky.png"},
            ]
        ),
        agent_says("A sky."),
        error("The model is overloaded.", "overloaded"),
        user_says("Again?"),
    ]


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


# Rejects


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_nothing_is_lost_of_what_is_rejected(old: Portagent, ada: str, tmp_path: Path) -> None:
    container = old.container(ada)
    broken = user_says("fine")
    old.conversation(
        1,
        container,
        [broken, {"role": "wizard", "id": "msg_x", "timestamp": T0}, "text", agent_says([{"type": "hologram"}])],
    )
    old.conversation(2, "user-gone", [user_says("whose?")])
    old.conversation(3, container, '[{"role": "user"')
    old.put("images:img_broken", "{not json")
    old.put("messages:sess_orphan", [user_says("alone")])
    rejects = tmp_path / "rejects.jsonl"
    run = Run(old.folder, rejects=rejects)
    assert sorted(run.codes()) == sorted(
        [
            *["portagent.message_broken"] * 3,
            "portagent.no_owner",
            "portagent.no_conversation",
            "portagent.broken_json",
            "portagent.broken_json",
            "portagent.no_conversation",
        ]
    )
    assert rejects.stat().st_mode & 0o777 == 0o600
    written = lines(rejects)
    assert len(written) == run.report.rejects == 8
    assert Message.objects.filter(role="user").count() == 1
    for text in ("wizard", "hologram", "whose?", '[{\\"role\\": \\"user\\"', "{not json", "alone"):
        assert any(text in json.dumps(line["row"]) for line in written), text
    assert run.counts("reject") == {"message": 3, "image": 1, "kv": 4}


def test_mended_rejects_are_imported_and_again_change_nothing(old: Portagent, ada: str, tmp_path: Path) -> None:
    container = old.container(ada)
    old.conversation(
        1, container, [user_says("first"), {"role": "wizard", "id": "msg_w", "timestamp": T0, "content": "abracadabra"}]
    )
    old.conversation(2, "user-gone", [user_says("whose?"), agent_says("yours")])
    old.conversation(3, container, '[{"role": "user", "content": "cut"')
    rejects, second = tmp_path / "rejects.jsonl", tmp_path / "second.jsonl"
    Run(old.folder, rejects=rejects)
    text = (
        rejects.read_text()
        .replace('"wizard"', '"assistant"')
        .replace("user-gone", container)
        .replace('\\"cut\\"', '\\"cut\\"}]')
    )
    mended = tmp_path / "mended.jsonl"
    mended.write_text(text)
    run = Run(mended, rejects=second)
    assert run.codes() == []
    assert not second.exists()
    assert Conversation.objects.count() == 3
    assert set(Message.objects.exclude(role="notice").values_list("text", flat=True)) == {
        "first",
        "abracadabra",
        "whose?",
        "yours",
        "cut",
    }
    owners = set(Membership.objects.values_list("person__username", flat=True))
    assert owners == {"ada"}
    before = snapshot()
    again = Run(mended)
    assert again.counts("create") == {}
    assert snapshot() == before


def test_rejects_that_are_not_mended_are_rejected_again(old: Portagent, ada: str, tmp_path: Path) -> None:
    old.conversation(2, "user-gone", [user_says("whose?")])
    old.conversation(3, old.container(ada), "broken")
    first, second = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    Run(old.folder, rejects=first)
    run = Run(first, rejects=second)
    assert run.counts("create") == {}
    assert {json.dumps(line["row"], sort_keys=True) for line in lines(first)} == {
        json.dumps(line["row"], sort_keys=True) for line in lines(second)
    }


def test_conversations_of_nobody_may_be_given_to_somebody(old: Portagent, ada: str) -> None:
    old.conversation(2, "user-gone", [user_says("whose?")])
    keeper = Person.objects.create_user("keeper")
    run = Run(old.folder, orphans=keeper.pk)
    assert run.codes() == []
    assert Membership.objects.get().person == keeper


def test_a_file_that_is_not_taken_waits_in_the_rejects(old: Portagent, ada: str, tmp_path: Path) -> None:
    parts = [
        {"type": "text", "text": "Look"},
        {"type": "file", "data": "%%%", "mediaType": "text/plain", "filename": "a.txt"},
        {
            "type": "file",
            "data": base64.b64encode(b"MZ\x90\x00" * 100).decode(),
            "mediaType": "application/pdf",
            "filename": "b.pdf",
        },
    ]
    old.conversation(1, old.container(ada), [user_says(parts)])
    rejects = tmp_path / "rejects.jsonl"
    run = Run(old.folder, rejects=rejects)
    assert run.codes() == ["portagent.file_refused"] * 2
    assert run.counts("reject") == {"file": 2}
    assert Message.objects.get(role="user").text == "Look"
    mended = tmp_path / "mended.jsonl"
    good = base64.b64encode(b"hello there").decode()
    mended.write_text(rejects.read_text().replace("%%%", good))
    later = Run(mended, rejects=tmp_path / "still.jsonl")
    assert later.counts("create") == {"file": 1}
    kept = Attachment.objects.get()
    assert (kept.name, kept.message) == ("a.txt", Message.objects.get(role="user"))
    assert Run(mended, rejects=tmp_path / "again.jsonl").counts("create") == {}
    assert Attachment.objects.count() == 1


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


# Secrets, oddities, sizes


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


def test_a_database_in_use_is_read_without_disturbing_it(old: Portagent, ada: str) -> None:
    old.conversation(1, old.container(ada), [user_says("checkpointed")])
    writer = old.store()
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("PRAGMA wal_autocheckpoint = 0")
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE kv_storage SET updated_at = 1")
    assert Run(old.folder).counts("create")["message"] == 1
    writer.execute("COMMIT")
    writer.close()


def test_a_locked_database_is_copied_with_its_wal(old: Portagent, ada: str) -> None:
    old.conversation(1, old.container(ada), [user_says("in the log")])
    holder = sqlite3.connect(old.users_path, isolation_level=None)
    holder.execute("PRAGMA locking_mode = EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    run = Run(old.folder)
    holder.execute("ROLLBACK")
    holder.close()
    assert run.counts("create") == {"user": 1, "image": 1, "message": 1}


def test_reading_changes_no_byte_of_it(old: Portagent, ada: str) -> None:
    old.conversation(1, old.container(ada), talk())
    for file in (old.users_path, old.store_path):
        before = file.read_bytes()
        Run(old.folder)
        assert file.read_bytes() == before


def test_places_without_portagent_are_named(tmp_path: Path) -> None:
    for wrong in (tmp_path / "missing", tmp_path):
        with pytest.raises(NotPortagent, match=r"There is nothing|No database"):
            portagent_import(path=wrong, actor="test")
    other = sqlite3.connect(tmp_path / "unstorage.db")
    other.execute("CREATE TABLE unstorage (id TEXT, value TEXT)")
    other.close()
    with pytest.raises(NotPortagent, match=r"unstorage\.db"):
        portagent_import(path=tmp_path, actor="test")


def test_a_hundred_thousand_messages_in_bounded_memory(old: Portagent, ada: str, tmp_path: Path) -> None:
    """Planned in a process of its own, whose peak is measured against one with a hundredth of them."""
    container = old.container(ada)
    small = Portagent(tmp_path / "small")
    small.user(1, "ada", passwordHash=HASH)
    messages = [
        message
        for number in range(500)
        for message in (user_says(f"question {number} " + "x" * 200), agent_says("y" * 400))
    ]
    small.conversation(1, container, messages)
    with old.store() as store:
        for number in range(100):
            image, session = f"img_{number:04d}", f"sess_{number:04d}"
            text = json.dumps(
                {
                    "imageId": image,
                    "sessionId": session,
                    "containerId": container,
                    "name": "n",
                    "createdAt": T0,
                    "updatedAt": T0,
                }
            )
            store.execute("INSERT INTO kv_storage VALUES (?, ?, 1, 1)", [f"images:{image}", text])
            store.execute("INSERT INTO kv_storage VALUES (?, ?, 1, 1)", [f"messages:{session}", json.dumps(messages)])

    def peak(folder: Path) -> tuple[int, int]:
        code = (
            "import sys, resource, django; django.setup()\n"
            "from pathlib import Path\n"
            "from chat.portagent.databases import Databases\nfrom chat.portagent.plan import plan, Wishes\n"
            "class Here:\n"
            "    def known(self, kind, keys): return {}\n"
            "    def name_taken(self, name, exact=False): return False\n"
            "    def person_exists(self, key): return True\n"
            "    def owner_of(self, container): return None\n"
            f"n = sum(step.count for step in plan(Databases(Path({str(folder)!r})), Here(), Wishes()) if step.row.kind == 'message')\n"
            "print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=250)
        count, most = out.stdout.split()[-2:]
        return int(count), int(most)

    few, some_memory = peak(small.folder)
    many, much_memory = peak(old.folder)
    assert (few, many) == (1000, 100_000)
    assert much_memory < some_memory + 30_000, "kilobytes"


# The command


def test_the_command_reports_and_says_what_is_left_to_do(
    old: Portagent, ada: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    old.conversation(1, old.container(ada), talk())
    out = StringIO()
    call_command("import_portagent", str(old.folder), dry_run=True, stdout=out)
    assert "Nothing was changed" in out.getvalue()
    assert Person.objects.count() == 0
    old.conversation(2, "user-gone", [user_says("whose?")])
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("import_portagent", str(old.folder), stdout=out)
    assert ended.value.code == 1
    assert "2 rows are in portagent-rejects.jsonl" in out.getvalue()
    assert "1 conversation can be read but not continued" in out.getvalue()
    assert (tmp_path / "portagent-rejects.jsonl").exists()
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("import_portagent", str(old.folder), json=True, stdout=out)
    told = [json.loads(line) for line in out.getvalue().splitlines()]
    assert told[-1]["summary"]["counts"]["create"] == {}
    assert told[-1]["summary"]["counts"]["unchanged"] == {"user": 1, "image": 1, "message": 9}
    assert {one["code"] for one in told[:-1]} == {"portagent.no_owner", "portagent.no_conversation"}
    assert (tmp_path / "portagent-rejects-2.jsonl").exists(), "the first one is not written over"


def test_the_command_names_what_it_cannot_use(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="There is nothing"):
        call_command("import_portagent", str(tmp_path / "no"))
    with pytest.raises(CommandError, match="must be one agent"):
        call_command("import_portagent", str(tmp_path), agent="nobody")
