"""Clients send the whole history each time; what of it reaches the agents, and where it is kept."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from agents.models import Agent, MemoryPolicy
from chat.models import Attachment, ClientPrefix, Conversation, Membership, Message, Person, Turn
from chat.openai.asked import Asked, GivenFile, Said, parse
from chat.openai.errors import ApiError
from chat.services.branches import path
from chat.services.completions import completion_start
from chat.services.messages import CannotSend
from tests.chat.portagent.fixtures import PNG
from tests.support.stage import Stage

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada(db: Any) -> Person:
    return Person.objects.create_user("ada", password="x", display_name="Ada")


@pytest.fixture
def agent(stage: Stage) -> Agent:
    return stage.agent("Echo", homeserver=False)


@pytest.fixture
def letta(stage: Stage) -> Agent:
    agent = stage.agent("Memo", kind="scripted_memory", homeserver=False)
    agent.memory_policy = MemoryPolicy.ISOLATED
    agent.save()
    return agent


class Client:
    """Keeps its own history, as chat clients do."""

    def __init__(self, stage: Stage, person: Person, agent: Agent) -> None:
        self.stage, self.person, self.agent = stage, person, agent
        self.said: list[Said] = []
        self.instructions = ""

    def send(self, repeated: bool = False) -> Any:
        asked = Asked("x", list(self.said), self.instructions)
        return completion_start(
            person=self.person, agent=self.agent, asked=asked, repeated=repeated, actor="person:ada"
        )

    def ask(self, text: str, *files: GivenFile) -> str:
        self.said.append(Said("user", text, files))
        return self.again()

    def again(self) -> str:
        """The same history once more; the answer is kept."""
        sent = self.send()
        self.stage.run_turns()
        turn = Turn.objects.select_related("reply").get(pk=sent.turn.pk)
        assert turn.reply is not None
        self.said.append(Said("assistant", turn.reply.text))
        return turn.reply.text

    @property
    def heard(self) -> Any:
        """The last request that the backend got."""
        return self.stage.world.requests[-1]


def history(request: Any) -> list[tuple[str, str]]:
    return [(item.role, item.text) for item in request.history]


# Backends that keep no history


def test_a_chat_is_one_conversation_in_the_archive(stage: Stage, ada: Person, agent: Agent) -> None:
    client = Client(stage, ada, agent)
    for text in ("one", "two", "three"):
        assert client.ask(text) == f"You said: {text}"
    conversation = Conversation.objects.get()
    member = Membership.objects.get()
    assert (member.person, member.conversation, member.archived_at is not None) == (ada, conversation, True)
    assert (conversation.title, conversation.agent, conversation.portal) == ("one", agent, True)
    assert [Message.objects.get(pk=pk).text for pk in path(conversation)] == [one.text for one in client.said]
    assert history(client.heard) == [(one.role, one.text) for one in client.said[:-2]]
    assert client.heard.speaker.name == "Ada"


def test_the_agent_gets_exactly_the_history_that_was_sent(
    stage: Stage, ada: Person, agent: Agent, settings: Any
) -> None:
    settings.HISTORY_MESSAGES = 3
    client = Client(stage, ada, agent)
    client.said = [Said("user" if number % 2 == 0 else "assistant", f"line {number}") for number in range(80)]
    client.instructions = "Speak like a pirate."
    client.ask("and now?")
    assert history(client.heard) == [(one.role, one.text) for one in client.said[:80]]
    assert (client.heard.instructions, client.heard.whole_history) == ("Speak like a pirate.", True)
    # It is here now, and goes on in the same conversation.
    client.ask("more")
    assert Conversation.objects.count() == 1
    assert history(client.heard) == [(one.role, one.text) for one in client.said[:-2]]
    assert Turn.objects.count() == 2, "what was said elsewhere is not answered"


def test_an_edited_message_is_a_branch_of_the_same_conversation(stage: Stage, ada: Person, agent: Agent) -> None:
    client = Client(stage, ada, agent)
    client.ask("one"), client.ask("two"), client.ask("three")
    client.said = client.said[:2]
    client.ask("other two")
    assert Conversation.objects.count() == 1
    assert history(client.heard) == [("user", "one"), ("assistant", "You said: one")]
    shown = [Message.objects.get(pk=pk).text for pk in path(Conversation.objects.get())]
    assert shown == ["one", "You said: one", "other two", "You said: other two"]


def test_an_edited_answer_is_what_the_agent_hears(stage: Stage, ada: Person, agent: Agent) -> None:
    client = Client(stage, ada, agent)
    client.ask("one")
    client.said[1] = Said("assistant", "Put into my mouth")
    client.ask("two")
    assert history(client.heard) == [("user", "one"), ("assistant", "Put into my mouth")]
    client.ask("three")
    assert history(client.heard)[1] == ("assistant", "Put into my mouth")


def test_the_same_again_gives_another_answer_to_the_same_message(stage: Stage, ada: Person, agent: Agent) -> None:
    client = Client(stage, ada, agent)
    client.ask("one")
    stage.world.script("first")
    client.ask("two")
    client.said.pop()
    stage.world.script("second")
    assert client.again() == "second"
    assert Message.objects.filter(text="two").count() == 1
    assert sorted(Message.objects.get(text="two").turns.values_list("variant", flat=True)) == [0, 1]
    client.ask("three")
    assert history(client.heard)[-1] == ("assistant", "second")


def test_other_instructions_are_another_question(stage: Stage, ada: Person, agent: Agent) -> None:
    client = Client(stage, ada, agent)
    client.instructions = "It is 10:00."
    client.ask("one")
    client.instructions = "It is 10:01."
    client.ask("two")
    assert client.heard.instructions == "It is 10:01."
    assert Conversation.objects.count() == 1, "a time of day in them does not break the chat"
    client.said.pop()
    client.instructions = "It is 10:02."
    client.again()
    assert client.heard.instructions == "It is 10:02."
    assert Message.objects.filter(text="two").count() == 2


def test_nobody_goes_on_in_another_persons_conversation(stage: Stage, ada: Person, agent: Agent) -> None:
    bob = Person.objects.create_user("bob")
    first = Client(stage, ada, agent)
    first.ask("one")
    second = Client(stage, bob, agent)
    second.said = list(first.said)
    second.ask("two")
    assert Conversation.objects.count() == 2
    assert set(Membership.objects.values_list("person__username", "conversation__messages__text").distinct()) >= {
        ("bob", "two")
    }
    assert not Message.objects.filter(conversation__memberships__person=ada, text="two").exists()


def test_two_at_once_do_not_wait_for_each_other(stage: Stage, ada: Person, agent: Agent) -> None:
    client = Client(stage, ada, agent)
    client.ask("one")
    client.said.append(Said("user", "two"))
    first, second = client.send(), client.send()
    assert first.message.conversation != second.message.conversation
    stage.run_turns()
    assert [history(request) for request in stage.world.requests[1:]] == [
        [("user", "one"), ("assistant", "You said: one")]
    ] * 2


def test_a_library_that_repeats_a_request_gets_the_same_answer(stage: Stage, ada: Person, agent: Agent) -> None:
    client = Client(stage, ada, agent)
    client.said.append(Said("user", "one"))
    first = client.send()
    again = client.send(repeated=True)
    assert (again.turn, again.repeated) == (first.turn, True)
    assert Turn.objects.count() == 1


def test_a_deleted_conversation_is_not_gone_on_in(stage: Stage, ada: Person, agent: Agent) -> None:
    from django.utils import timezone

    client = Client(stage, ada, agent)
    client.ask("one")
    Membership.objects.update(removed_at=timezone.now())
    client.ask("two")
    assert Conversation.objects.count() == 2


def test_pictures_come_along_and_are_kept_once(
    stage: Stage, ada: Person, agent: Agent, settings: Any, tmp_path: Any
) -> None:
    settings.DATA_DIR = tmp_path
    picture = GivenFile("sky.png", base64.b64decode(PNG))
    client = Client(stage, ada, agent)
    client.ask("look", picture)
    client.ask("and?")
    assert Conversation.objects.count() == 1
    assert Attachment.objects.get().message == Message.objects.get(text="look")
    # From elsewhere: the picture in the history is kept with its message.
    other = Client(stage, ada, agent)
    other.said = [Said("user", "elsewhere", (picture,)), Said("assistant", "yes")]
    other.ask("go on")
    assert Message.objects.get(text="elsewhere").attachments.count() == 1
    other.ask("further")
    assert Attachment.objects.count() == 2


# Backends that keep it


def test_a_memory_is_told_only_what_is_new(stage: Stage, ada: Person, letta: Agent) -> None:
    client = Client(stage, ada, letta)
    client.instructions = "Be brief."
    client.ask("one")
    assert client.heard.text == "[Instructions for this conversation:\nBe brief.]\n\none"
    client.ask("two")
    client.ask("three")
    assert [request.text for request in stage.world.requests[1:]] == ["two", "three"]
    assert {request.conversation_ref for request in stage.world.requests} == {"conv-1"}
    assert all(not request.history for request in stage.world.requests)
    client.instructions = "Be long."
    client.ask("four")
    assert client.heard.text == "[Instructions for this conversation:\nBe long.]\n\nfour"
    assert Message.objects.get(text="four"), "the message itself stays as it was said"


def test_a_memory_is_never_fed_twice(stage: Stage, ada: Person, letta: Agent) -> None:
    """Regenerated and edited messages go on in a fresh conversation of the server, with what went before told once."""
    client = Client(stage, ada, letta)
    client.ask("one"), client.ask("two")
    client.said.pop()
    client.again()
    assert client.heard.conversation_ref == "conv-2"
    assert client.heard.text == "two"
    assert history(client.heard) == [("user", "one"), ("assistant", "You said: one")], "told once"
    client.ask("three")
    assert (client.heard.conversation_ref, client.heard.text) == ("conv-2", "three")
    assert not client.heard.history
    heard = [(request.conversation_ref, request.text) for request in stage.world.requests]
    assert len(set(heard)) == len(heard)
    assert Conversation.objects.count() == 1


def test_chats_that_begin_alike_are_two(stage: Stage, ada: Person, letta: Agent) -> None:
    for _ in range(3):
        client = Client(stage, ada, letta)
        client.ask("hi"), client.ask("how are you?")
    heard = [(request.conversation_ref, request.text) for request in stage.world.requests]
    assert heard == [(f"conv-{number}", text) for number in (1, 2, 3) for text in ("hi", "how are you?")]


def test_a_history_from_elsewhere_is_told_once(stage: Stage, ada: Person, letta: Agent) -> None:
    client = Client(stage, ada, letta)
    client.said = [Said("user", "my number is 4711"), Said("assistant", "noted")]
    client.ask("which?")
    assert history(client.heard) == [("user", "my number is 4711"), ("assistant", "noted")]
    client.ask("thanks")
    assert (client.heard.text, history(client.heard)) == ("thanks", [])


def test_a_branch_is_told_the_instructions_again(stage: Stage, ada: Person, letta: Agent) -> None:
    client = Client(stage, ada, letta)
    client.instructions = "Be brief."
    client.ask("one"), client.ask("two")
    client.said.pop()
    client.again()
    assert client.heard.text == "[Instructions for this conversation:\nBe brief.]\n\ntwo"


def test_an_agent_with_one_memory_for_all_is_not_told_what_it_heard(stage: Stage, ada: Person, letta: Agent) -> None:
    letta.memory_policy = MemoryPolicy.SHARED
    letta.save()
    client = Client(stage, ada, letta)
    client.ask("one"), client.ask("two")
    client.said.pop()
    client.again()
    assert (client.heard.text, client.heard.conversation_ref) == ("two", "")
    assert not client.heard.history
    client.said = [Said("user", "my number is 4711"), Said("assistant", "noted")]
    client.ask("which?")
    assert client.heard.text == (
        "[What was said before in this conversation:\nI said: my number is 4711\n\nYou said: noted]\n\nwhich?"
    )
    client.ask("thanks")
    assert client.heard.text == "thanks"


# Refusals


def test_an_agent_that_is_not_theirs_and_empty_messages_are_refused(stage: Stage, ada: Person, agent: Agent) -> None:
    client = Client(stage, ada, agent)
    client.said = [Said("user", "  ")]
    with pytest.raises(CannotSend, match="empty"):
        client.send()
    Person.objects.filter(pk=ada.pk).update(all_agents=False)
    ada.refresh_from_db()
    client.said = [Said("user", "hi")]
    with pytest.raises(CannotSend) as refused:
        client.send()
    assert refused.value.code == "agent.not_yours"
    assert not Conversation.objects.exists()
    assert not ClientPrefix.objects.exists()


def test_quotas_count(stage: Stage, ada: Person, agent: Agent, monkeypatch: Any) -> None:
    from chat.models import Quota
    from chat.services import quotas

    Quota.objects.create(person=ada, messages_per_day=1)
    if hasattr(quotas, "forget"):
        quotas.forget()
    client = Client(stage, ada, agent)
    client.ask("one")
    client.said.append(Said("user", "two"))
    with pytest.raises(CannotSend) as refused:
        client.send()
    assert refused.value.code == "quota.messages"
    assert Message.objects.get(text="two").guard == "quota.messages", "kept, not answered"
    assert len(stage.world.requests) == 1


# Reading bodies


def body(*messages: Any, **more: Any) -> bytes:
    import json

    return json.dumps({"model": "agent-1", "messages": list(messages), **more}).encode()


def said(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def test_bodies_are_read(stage: Stage) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    asked = parse(
        body(
            said("system", "Be brief."),
            said("developer", [{"type": "text", "text": "And kind."}]),
            said("user", "one"),
            said("assistant", None, tool_calls=[call]),
            said("tool", "42", tool_call_id="c"),
            said("assistant", "It is 42."),
            said(
                "user",
                [
                    {"type": "text", "text": "look"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                ],
            ),
            stream=True,
            stream_options={"include_usage": True},
            temperature=0.2,
        )
    )
    assert asked.instructions == "Be brief.\n\nAnd kind."
    assert [(one.role, one.text) for one in asked.said] == [
        ("user", "one"),
        ("assistant", "[called f({})]\n\n[tool: 42]\n\nIt is 42."),
        ("user", "look"),
    ]
    assert asked.said[2].files[0].name == "picture.png"
    assert (asked.stream, asked.include_usage) == (True, True)


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        (b"{", None),
        (b"[]", None),
        (body(said("user", "x"), model=""), "model"),
        (body(), "messages"),
        (body(said("assistant", "x")), "messages"),
        (body(said("wizard", "x")), "messages[0].role"),
        (body(said("user", 5)), "messages[0].content"),
        (body(said("user", [{"type": "input_audio"}])), "messages[0].content[0]"),
        (
            body(said("user", [{"type": "image_url", "image_url": {"url": "http://169.254.169.254/x"}}])),
            "messages[0].content[0]",
        ),
        (
            body(said("user", [{"type": "image_url", "image_url": {"url": "data:image/png;base64,%%"}}])),
            "messages[0].content[0]",
        ),
        (body(said("user", "x"), tools=[{"type": "function"}]), "tools"),
        (body(said("user", "x"), response_format={"type": "json_object"}), "response_format"),
        (body(said("user", "x"), n=2), "n"),
    ],
)
def test_bodies_that_cannot_be_answered_are_refused(raw: bytes, param: str | None) -> None:
    with pytest.raises(ApiError) as refused:
        parse(raw)
    assert (refused.value.status, refused.value.param) == (400, param)
