"""The tree of a portal conversation: what follows what, what stands beside it, and what is shown."""

from __future__ import annotations

from typing import Any

import pytest

from agents.backends.errors import BackendRejected
from chat.models import AgentGrant, Attachment, Conversation, Message, Turn
from chat.services import branches
from chat.services.conversations import conversation_of
from chat.services.messages import CannotSend, message_edit, message_redact
from chat.services.turns import turn_retry
from tests.chat.portal_helpers import again, begin, edit, message, person, say, shown
from tests.support.stage import ALICE, Stage

pytestmark = pytest.mark.django_db


def history(stage: Stage) -> list[str]:
    return [item.text for item in stage.world.requests[-1].history]


def test_what_is_said_and_answered_is_one_chain(stage: Stage) -> None:
    talk = begin(stage)
    for text in ("One", "Two"):
        say(talk, text)
        stage.run_turns()
    assert shown(talk) == ["One", "You said: One", "Two", "You said: Two"]
    talk.refresh_from_db()
    assert (talk.head.text, talk.title, talk.revision) == ("You said: Two", "One", 0)
    assert history(stage) == ["One", "You said: One"]


def test_what_was_said_while_it_answers_stands_behind_the_answer(stage: Stage) -> None:
    talk = begin(stage)
    for text in ("One", "Two", "Three"):
        say(talk, text)
    assert shown(talk) == ["One", "Two", "Three"]
    stage.run_turns()
    assert shown(talk) == ["One", "You said: One", "Two", "You said: Two", "Three", "You said: Three"]
    # The messages that moved carry the revision at which they did, so that whoever was away is told.
    talk.refresh_from_db()
    assert (message("Two").revision, message("Three").revision, talk.revision) == (1, 2, 2)
    assert history(stage) == ["One", "You said: One", "Two", "You said: Two"]


def test_an_answer_given_again_is_a_sibling(stage: Stage) -> None:
    talk = begin(stage)
    question = say(talk, "One").message
    stage.run_turns()
    say(talk, "Two")
    stage.run_turns()
    first = message("You said: One")
    stage.world.script("Another answer")
    turn = again(first)
    assert (turn.variant, turn.seq, shown(talk)) == (1, question.seq, ["One"])
    stage.run_turns()
    assert shown(talk) == ["One", "Another answer"]
    other = message("Another answer")
    assert branches.siblings(talk.pk, [first.pk, other.pk, question.pk]) == {
        first.pk: [first.pk, other.pk],
        other.pk: [first.pk, other.pk],
        question.pk: [question.pk],
    }
    keys = [request.idempotency_id for request in stage.world.requests if request.text == "One"]
    assert len(set(keys)) == 2
    # Going back shows what was said in that branch later.
    branches.head_set(conversation=talk, message=first, actor="person:grace")
    assert shown(talk) == ["One", "You said: One", "Two", "You said: Two"]


def test_an_edited_question_is_a_sibling_with_a_history_of_its_own(stage: Stage) -> None:
    talk = begin(stage)
    for text in ("One", "Two"):
        say(talk, text)
        stage.run_turns()
    edit(message("Two"), "Two, otherwise")
    stage.run_turns()
    assert shown(talk) == ["One", "You said: One", "Two, otherwise", "You said: Two, otherwise"]
    assert history(stage) == ["One", "You said: One"]
    edit(message("One"), "One, otherwise")
    stage.run_turns()
    assert (shown(talk), history(stage)) == (["One, otherwise", "You said: One, otherwise"], [])
    ids = [message("One").pk, message("One, otherwise").pk]
    assert branches.siblings(talk.pk, ids) == {ids[0]: ids, ids[1]: ids}
    branches.head_set(conversation=talk, message=message("One"), actor="person:grace")
    assert shown(talk)[2:] == ["Two, otherwise", "You said: Two, otherwise"]


def test_the_same_edit_twice_is_one(stage: Stage) -> None:
    talk = begin(stage)
    sent = say(talk, "One")
    edit(sent.message, "Uno", key="k")
    repeated = edit(sent.message, "Uno", key="k")
    assert repeated.repeated
    assert repeated.message.pk == sent.message.pk
    stage.run_turns()
    first = edit(Message.objects.get(text="Uno"), "Eins", key="l")
    stage.run_turns()
    assert edit(message("Uno"), "Eins", key="l").message.pk == first.message.pk
    assert Message.objects.filter(text="Eins").count() == 1


def test_a_message_in_line_is_changed_where_it_stands(stage: Stage) -> None:
    talk = begin(stage)
    say(talk, "One")
    waiting = say(talk, "Two")
    assert waiting.turn is not None
    changed = edit(waiting.message, "Two, better")
    assert changed.turn == waiting.turn
    assert changed.turn.fence == 1
    stage.run_turns()
    assert [request.text for request in stage.world.requests] == ["One", "Two, better"]
    assert message("Two, better").parts[0]["before"] == "Two"
    assert shown(talk)[2:] == ["Two, better", "You said: Two, better"]


def test_while_it_answers_nothing_is_answered_again_or_edited(stage: Stage) -> None:
    talk = begin(stage)
    say(talk, "One")
    stage.run_turns()
    running = say(talk, "Two").turn
    Turn.objects.filter(pk=running.pk).update(state="running")
    for attempt in (
        lambda: again(message("You said: One")),
        lambda: edit(message("One"), "Uno"),
        lambda: edit(message("Two"), "Due"),
    ):
        with pytest.raises(CannotSend) as refused:
            attempt()
        assert (refused.value.code, "Stop the answer first" in refused.value.sentence) == ("turn.open", True)


def test_only_ones_own_words_can_be_edited(stage: Stage) -> None:
    talk = begin(stage)
    say(talk, "One")
    stage.run_turns()
    person("eve")
    for attempt in (lambda: edit(message("One"), "Mine", who="eve"), lambda: edit(message("You said: One"), "No")):
        with pytest.raises(CannotSend) as refused:
            attempt()
        assert refused.value.code == "message.not_yours"


def test_notices_hang_beside_the_chain(stage: Stage) -> None:
    talk = begin(stage)
    stage.world.script(BackendRejected("400", public="It was refused."))
    failed = say(talk, "One").turn
    stage.run_turns()
    say(talk, "Two")
    stage.run_turns()
    assert [text.split(".")[0] for text in shown(talk)] == ["One", "It was refused", "Two", "You said: Two"]
    # Answered after all, the answer stands between the question and what was said since.
    turn_retry(turn=Turn.objects.get(pk=failed.pk), actor="test")
    stage.run_turns()
    assert shown(talk)[2:] == ["You said: One", "Two", "You said: Two"]


def test_a_failed_answer_can_be_asked_for_again_without_hiding_what_followed(stage: Stage) -> None:
    talk = begin(stage)
    stage.world.script(BackendRejected("400", public="It was refused."))
    question = say(talk, "One").message
    stage.run_turns()
    say(talk, "Two")
    stage.run_turns()
    again(question)
    stage.run_turns()
    assert shown(talk)[2:] == ["You said: One", "Two", "You said: Two"]


def test_something_can_be_said_in_another_branch(stage: Stage) -> None:
    talk = begin(stage)
    for text in ("One", "Two"):
        say(talk, text)
        stage.run_turns()
    say(talk, "Instead", parent=message("You said: One"))
    stage.run_turns()
    assert shown(talk) == ["One", "You said: One", "Instead", "You said: Instead"]
    elsewhere = begin(stage)
    with pytest.raises(CannotSend) as refused:
        say(elsewhere, "Stray", parent=message("One"))
    assert refused.value.code == "message.parent"


def test_edits_and_redactions_raise_the_revision(stage: Stage) -> None:
    talk = begin(stage)
    sent = say(talk, "One", transport="matrix", external_id="$one")
    sender = sent.message.sender.external_id
    message_edit(transport="matrix", external_id="$one", sender_id=sender, text="Uno")
    assert message("Uno").revision == 1
    message_redact(transport="matrix", external_id="$one")
    talk.refresh_from_db()
    sent.message.refresh_from_db()
    assert (talk.revision, sent.message.revision, sent.message.text) == (2, 2, "")


def test_a_person_talks_only_to_agents_that_are_theirs(stage: Stage) -> None:
    talk = begin(stage, who="heidi")
    person("heidi").__class__.objects.filter(username="heidi").update(all_agents=False)
    with pytest.raises(CannotSend) as refused:
        say(talk, "One", who="heidi")
    assert refused.value.code == "agent.not_yours"
    AgentGrant.objects.create(person=person("heidi"), agent=talk.agent)
    assert say(talk, "One", who="heidi").turn is not None


def _file(who: str, **fields: Any) -> Attachment:
    values = {"name": "a.txt", "media_type": "text/plain", "size": 3, "sha256": "0" * 64, "path": "00/0", **fields}
    return Attachment.objects.create(owner=person(who), **values)


def test_files_belong_to_the_message_that_they_are_sent_with(stage: Stage) -> None:
    talk = begin(stage)
    mine, other = _file("grace"), _file("eve")
    with pytest.raises(CannotSend) as refused:
        say(talk, "Look", attachments=[str(other.pk)])
    assert refused.value.code == "attachment.unknown"
    assert not Message.objects.exists()
    sent = say(talk, "", attachments=[str(mine.pk)], external_id="once")
    assert list(sent.message.attachments.all()) == [mine]
    assert say(talk, "", attachments=[str(mine.pk)], external_id="once").repeated
    with pytest.raises(CannotSend):
        say(talk, "Twice", attachments=[str(mine.pk)])
    stage.run_turns()
    changed = edit(sent.message, "Described")
    assert [one.name for one in changed.message.attachments.all()] == ["a.txt"]


def test_a_room_becomes_a_conversation_of_the_portal(stage: Stage) -> None:
    ada = stage.agent()
    stage.enters(ada)
    for text in ("One", "Two"):
        stage.says(ada, text)
        stage.run_turns()
    talk = conversation_of(stage.room(), ada)
    assert not Message.objects.exclude(parent=None).exists()
    assert talk.head is None
    branches.plant(talk)
    assert shown(talk) == ["One", "You said: One", "Two", "You said: Two"]
    stage.says(ada, "Three", ALICE)
    stage.run_turns()
    assert shown(talk)[4:] == ["Three", "You said: Three"]
    before = Conversation.objects.get(pk=talk.pk).head_id
    branches.plant(talk)
    assert Conversation.objects.get(pk=talk.pk).head_id == before


def test_the_branch_and_its_siblings_take_a_constant_number_of_queries(
    stage: Stage, django_assert_num_queries: Any
) -> None:
    talk = begin(stage)
    for number in range(5):
        say(talk, f"Message {number}")
        stage.run_turns()
    with django_assert_num_queries(1):
        ids = branches.path(talk)
    assert len(ids) == 10
    with django_assert_num_queries(3):
        branches.siblings(talk.pk, ids)
