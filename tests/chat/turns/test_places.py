"""Each branch of a portal conversation has a conversation of its own on a server that keeps the history."""

from __future__ import annotations

import pytest

from agents.backends.errors import BackendRejected, ConversationGone
from agents.models import Agent
from chat.models import Conversation
from chat.services import branches
from chat.services.conversations import conversation_of
from tests.chat.portal_helpers import again, begin, edit, message, say, shown
from tests.chat.turns.helpers import KEEPS
from tests.support.stage import Stage

pytestmark = pytest.mark.django_db


def told(stage: Stage) -> list[tuple[str, str, list[str]]]:
    """Text, conversation of the server, and history of each request."""
    return [(one.text, one.conversation_ref, [item.text for item in one.history]) for one in stage.world.requests]


def talk_of(stage: Stage, *texts: str) -> Conversation:
    talk = begin(stage, kind=KEEPS)
    for text in texts:
        say(talk, text)
        stage.run_turns()
    return talk


def test_one_branch_is_one_conversation(stage: Stage) -> None:
    talk_of(stage, "One", "Two", "Three")
    assert told(stage) == [("One", "conv-1", []), ("Two", "conv-1", []), ("Three", "conv-1", [])]


def test_an_answer_given_again_forgets_the_earlier_one(stage: Stage) -> None:
    talk = talk_of(stage, "One", "Two")
    again(message("You said: Two"))
    stage.run_turns()
    say(talk, "Three")
    stage.run_turns()
    before = ["One", "You said: One"]
    assert told(stage)[2:] == [("Two", "conv-2", before), ("Three", "conv-2", [])]


def test_an_edited_beginning_knows_nothing(stage: Stage) -> None:
    talk = talk_of(stage, "One")
    edit(message("One"), "Uno")
    stage.run_turns()
    assert told(stage)[1:] == [("Uno", "conv-2", [])]
    # Back in the first branch it goes on where that had ended.
    branches.head_set(conversation=talk, message=message("One"), actor="test")
    say(talk, "Two")
    stage.run_turns()
    assert told(stage)[2:] == [("Two", "conv-1", [])]
    say(talk, "Aside", parent=message("You said: One"))
    stage.run_turns()
    assert told(stage)[3:] == [("Aside", "conv-3", ["One", "You said: One"])]


def test_a_branch_that_failed_is_not_gone_on_with(stage: Stage) -> None:
    talk = talk_of(stage, "One")
    stage.world.script(BackendRejected("400"))
    say(talk, "Two")
    stage.run_turns()
    edit(message("Two"), "Due")
    stage.run_turns()
    assert told(stage)[1:] == [("Two", "conv-1", []), ("Due", "conv-2", ["One", "You said: One"])]


def test_a_conversation_that_the_server_lost_is_told_again_what_was_said(stage: Stage) -> None:
    talk = talk_of(stage, "One")
    stage.world.script(ConversationGone("conv-1 does not exist"))
    say(talk, "Two")
    stage.run_turns()
    stage.hurry()
    stage.run_turns()
    say(talk, "Three")
    stage.run_turns()
    assert told(stage)[1:] == [
        ("Two", "conv-1", []),
        ("Two", "conv-2", ["One", "You said: One"]),
        ("Three", "conv-2", []),
    ]


def test_a_room_that_came_into_the_portal_goes_on_where_it_was(stage: Stage) -> None:
    ada = stage.agent(kind=KEEPS)
    stage.enters(ada)
    stage.says(ada, "One")
    stage.run_turns()
    talk = conversation_of(stage.room(), ada)
    branches.plant(talk)
    stage.says(ada, "Two")
    stage.run_turns()
    assert told(stage) == [("One", "conv-1", []), ("Two", "conv-1", [])]
    assert shown(talk)[2:] == ["Two", "You said: Two"]


def test_whether_an_agent_remembers_what_was_edited(stage: Stage) -> None:
    plain, keeps = stage.agent("Ada"), stage.agent("Eve", kind=KEEPS)
    assert (branches.remembers_branches(plain), branches.remembers_branches(keeps)) == (False, False)
    keeps.service.capabilities = {"conversations": False}
    assert branches.remembers_branches(keeps)
    shared = Agent(service=stage.fresh("Eve").service, memory_policy="shared")
    assert branches.remembers_branches(shared)
    talk = begin(stage, kind=KEEPS, name="Eve")
    Agent.objects.filter(pk=keeps.pk).update(memory_policy="shared")
    say(talk, "One")
    stage.run_turns()
    assert told(stage) == [("One", "", [])]
