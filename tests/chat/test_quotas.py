"""What people use is counted, and a day's limit ends in one honest sentence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from agents.backends.chunks import Finished
from chat.intake.incoming import Incoming
from chat.intake.store import Place, store
from chat.models import Message, Participant, Quota, Role, UsageDay
from chat.services import quotas, usage
from chat.services.conversations import conversation_of
from chat.services.messages import CannotSend
from chat.services.quotas import quota_set
from tests.chat.portal_helpers import again, begin, message, person, say
from tests.support.stage import ALICE, BOB, Stage

pytestmark = pytest.mark.django_db


def used() -> list[tuple[str | None, int, int, int, int]]:
    rows = UsageDay.objects.order_by("person__username", "pk")
    return list(rows.values_list("person__username", "messages", "answers", "input_tokens", "output_tokens"))


def test_messages_and_answers_are_counted_where_they_are_stored(stage: Stage) -> None:
    talk = begin(stage)
    say(talk, "One")
    assert used() == [("grace", 1, 0, 0, 0)]
    stage.world.script("Yes.", Finished("end", 11, 7))
    stage.run_turns()
    stage.world.script("No.", Finished("cancelled", 5, 2))
    again(message("Yes."))
    stage.run_turns()
    assert used() == [("grace", 2, 2, 16, 9)]
    assert UsageDay.objects.get().day == datetime.now(UTC).date()


def test_guests_of_rooms_are_counted_together_and_known_people_as_themselves(stage: Stage) -> None:
    ada = stage.agent()
    person("alice", matrix_user_id=ALICE)
    stage.enters(ada, ALICE, BOB)
    stage.says(ada, "One", ALICE)
    stage.says(ada, "Two", BOB)
    stage.says(ada, "Three", BOB)
    stage.run_turns()
    assert sorted(used(), key=str) == sorted([("alice", 1, 1, 3, 5), (None, 2, 2, 6, 10)], key=str)


def test_a_batch_takes_one_statement_more_for_each_row_of_usage(stage: Stage, django_assert_num_queries: Any) -> None:
    agent, one = stage.agent(), person()
    with django_assert_num_queries(2):
        usage.count([usage.Use(None, agent.pk, messages=1)] * 5 + [usage.Use(one.pk, agent.pk, messages=1)])
    assert sorted(used(), key=str) == sorted([("grace", 1, 0, 0, 0), (None, 5, 0, 0, 0)], key=str)


def test_without_quotas_nothing_is_asked(stage: Stage, django_assert_num_queries: Any) -> None:
    agent = stage.agent()
    quotas.check(person=1, agent=agent)
    with django_assert_num_queries(0):
        quotas.check(person=1, agent=agent)


def test_a_message_beyond_the_limit_is_kept_and_the_person_told(stage: Stage) -> None:
    talk = begin(stage)
    quota_set(actor="test", person=person(), messages_per_day=2)
    say(talk, "One")
    say(talk, "Two")
    stage.run_turns()
    with pytest.raises(CannotSend) as refused:
        say(talk, "Three", external_id="three")
    kept = message("Three")
    assert (refused.value.code, refused.value.message) == ("quota.messages", kept)
    assert (kept.state, kept.guard, kept.turns.count()) == ("held", "quota.messages", 0)
    notice = Message.objects.get(role=Role.NOTICE)
    assert notice.parent == kept
    assert notice.text == refused.value.sentence
    assert "today's 2 messages" in notice.text
    assert "00:00 (UTC" in notice.text
    with pytest.raises(CannotSend) as repeated:
        say(talk, "Three", external_id="three")
    assert (repeated.value.code, repeated.value.sentence) == ("quota.messages", notice.text)
    with pytest.raises(CannotSend) as also:
        again(message("You said: One"))
    assert also.value.code == "quota.messages"
    # The day after, the message that was kept can be answered.
    UsageDay.objects.update(day=datetime.now(UTC).date() - timedelta(days=1))
    again(kept)
    stage.run_turns()
    assert message("You said: Three").parent == kept
    kept.refresh_from_db()
    assert (kept.state, kept.guard) == ("stored", "")


def test_tokens_are_limited_too_and_the_tightest_limit_counts(stage: Stage) -> None:
    talk = begin(stage)
    quota_set(actor="test", role="person", tokens_per_day=8)
    quota_set(actor="test", person=person(), tokens_per_day=1000)
    quota_set(actor="test", role="operator", tokens_per_day=0)
    say(talk, "One")
    stage.run_turns()
    standing = quotas.standing(person())
    assert (standing["tokens"], standing["messages"]) == ({"used": 8, "limit": 8}, {"used": 1, "limit": None})
    with pytest.raises(CannotSend) as refused:
        say(talk, "Two")
    assert refused.value.code == "quota.tokens"


def test_an_agent_has_a_budget_for_all(stage: Stage) -> None:
    ada = stage.agent()
    quota_set(actor="test", agent=ada, tokens_per_day=8)
    stage.enters(ada, ALICE, BOB)
    stage.says(ada, "One", ALICE)
    stage.drain()
    stage.says(ada, "Two", BOB)
    stage.drain()
    assert Message.objects.get(text="Two").guard == "quota.tokens"
    sent = [event["content"]["body"] for event in stage.fake.messages_of(str(stage.room().room_id))]
    assert sent[-1].startswith("All together have with Ada used up today's 8 tokens.")


def test_a_person_is_limited_in_matrix_as_well(stage: Stage) -> None:
    ada = stage.agent()
    person("alice", matrix_user_id=ALICE, time_zone="Europe/Berlin")
    quota_set(actor="test", role="person", messages_per_day=1)
    stage.enters(ada, ALICE, BOB)
    for text in ("One", "Two"):
        stage.says(ada, text, ALICE)
    stage.says(ada, "Three", BOB)
    stage.drain()
    assert [row.guard for row in Message.objects.filter(role="user").order_by("seq")] == ["", "quota.messages", ""]
    notice = Message.objects.get(role=Role.NOTICE).text
    assert notice.startswith("You have used up today's 1 message.")
    assert "Europe/Berlin" in notice


def test_an_agent_that_is_over_its_budget_is_not_told(stage: Stage) -> None:
    ada = stage.agent()
    quota_set(actor="test", agent=ada, messages_per_day=0)
    talk = conversation_of(stage.room(), ada)
    incoming = Incoming("matrix", "$1", "7", "Bob", "Hi", datetime.now(UTC), sender_kind="agent")  # type: ignore[arg-type]
    store([(Place(talk, ada, stage.room()), incoming)])
    assert (incoming.guard, incoming.notice) == ("quota.messages", "")
    assert Participant.objects.get(conversation=talk).kind == "agent"


def test_a_quota_is_for_one_thing_and_goes_with_its_last_limit(stage: Stage) -> None:
    with pytest.raises(ValidationError):
        quota_set(actor="test", person=person(), role="person", messages_per_day=1)
    with pytest.raises(ValidationError):
        quota_set(actor="test", messages_per_day=1)
    with pytest.raises(ValidationError):
        quota_set(actor="test", role="person", tokens_per_day=-1)
    quota_set(actor="test", role="person", messages_per_day=5)
    quota_set(actor="test", role="person", tokens_per_day=9)
    assert list(Quota.objects.values_list("messages_per_day", "tokens_per_day")) == [(None, 9)]
    assert quota_set(actor="test", role="person") is None
    assert not Quota.objects.exists()
