"""Conversations of the portal that have had their time: shown with their size, exported with their files, removed, brought back, held."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from agents.models import Agent
from chat.models import Attachment, Conversation, Membership, Message, Participant, Person, Turn
from chat.services.conversations import next_seq, participant
from chat.services.holds import conversation_hold, conversation_release
from chat.services.people import person_delete
from chat.services.portal import conversation_delete, conversation_start
from ops.live import forget, live_set
from ops.models import AuditEvent, Service
from ops.services.repairs import repair_plan, repair_start, repair_undo

pytestmark = pytest.mark.django_db(transaction=True)
LONG_AGO = timezone.now() - timedelta(days=400)


@pytest.fixture(autouse=True)
def data_dir(settings, tmp_path):
    settings.DATA_DIR = tmp_path
    forget()
    yield tmp_path
    forget()


@pytest.fixture
def bea(transactional_db) -> Person:
    return Person.objects.create_user("bea", password="a long passphrase")


@pytest.fixture
def old(bea, data_dir) -> Conversation:
    """One that was last spoken in 400 days ago, with two messages in a branch and a file."""
    service = Service.objects.create(name="demo", kind="demo")
    agent = Agent.objects.create(service=service, external_id="demo-echo", name="Echo")
    made = conversation_start(person=bea, agent=agent, title="Long ago", actor="person:bea").conversation
    parent = None
    for role, kind in (("user", "person"), ("assistant", "agent")):
        parent = Message.objects.create(
            conversation=made, seq=next_seq(made.pk), role=role, text="x" * 1000, parent=parent, transport="portal",
            sender=participant(made.pk, kind=kind, external_id=kind, name=kind), received_at=LONG_AGO, stored_at=LONG_AGO,
        )  # fmt: skip
    place = data_dir / "attachments" / "ab" / "abcd"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"a picture")
    Attachment.objects.create(
        owner=bea,
        conversation=made,
        message=parent,
        name="a.png",
        media_type="image/png",
        size=9,
        sha256="abcd",
        path="ab/abcd",
    )
    Conversation.objects.filter(pk=made.pk).update(head=parent, last_message_at=LONG_AGO, created_at=LONG_AGO)
    conversation_start(person=bea, agent=agent, title="Today", actor="person:bea")
    live_set(key="retention.conversations.days", value=365, actor="test")
    made.refresh_from_db()
    return made


def purge(**asked):
    return repair_start(
        repair_id="retention.run", actor="test", trigger="command", typed="purge", params={"kind": "conversations"}
    )


def planned():
    return repair_plan(repair_id="retention.run", target="", params={"kind": "conversations"}, actor="test").plan


def counts():
    return {
        model.__name__: model.objects.count() for model in (Conversation, Message, Participant, Membership, Attachment)
    }


def test_shown_exported_removed_and_brought_back_with_its_file(old, data_dir) -> None:
    before = counts()
    sentence = planned().sentence
    assert "1 conversations of the portal (oldest" in sentence
    assert "about 2" in sentence  # KB of text and the file
    run = purge()
    assert run.state == "succeeded", run.error
    assert [row.title for row in Conversation.objects.all()] == ["Today"]
    assert counts()["Attachment"] == 0
    # Content that no row needs goes by itself; the export has it.
    (data_dir / "attachments" / "ab" / "abcd").unlink()
    repair_undo(run=run, actor="test")
    assert counts() == before
    assert (data_dir / "attachments" / "ab" / "abcd").read_bytes() == b"a picture"
    back = Conversation.objects.get(title="Long ago")
    assert (back.head_id, [row.parent_id for row in back.messages.order_by("seq")]) == (
        old.head_id,
        [None, back.messages.first().pk],
    )


def test_what_is_held_pinned_shown_elsewhere_or_answered_stays(old, bea) -> None:
    conversation_hold(conversation=old, reason="Court", actor="person:ada")
    assert not planned().changes
    with pytest.raises(ValidationError, match="Court"):
        conversation_delete(conversation=old, actor="test")
    conversation_release(conversation=old, actor="person:ada")
    assert planned().changes
    assert [event.action for event in AuditEvent.objects.filter(action__startswith="conversation.").order_by("id")][
        -2:
    ] == ["conversation.held", "conversation.released"]
    Membership.objects.filter(conversation=old).update(pinned_at=timezone.now())
    assert not planned().changes
    Membership.objects.update(pinned_at=None)
    said = old.messages.first()
    Turn.objects.create(
        conversation=old,
        agent=old.agent,
        message=said,
        seq=1,
        lane="x",
        not_before=timezone.now(),
        created_at=timezone.now(),
    )
    assert not planned().changes


def test_a_deleted_person_takes_no_held_conversation_along(old, bea) -> None:
    conversation_hold(conversation=old, reason="Court", actor="person:ada")
    person_delete(person=bea, conversations="delete", actor="test")
    assert [row.title for row in Conversation.objects.all()] == ["Long ago"]
    assert old.messages.count() == 2


def test_held_messages_stay_as_well(old) -> None:
    live_set(key="retention.messages.days", value=30, actor="test")
    asked = {"repair_id": "retention.run", "target": "", "params": {"kind": "messages"}, "actor": "test"}
    assert repair_plan(**asked).plan.changes
    conversation_hold(conversation=old, reason="Court", actor="person:ada")
    assert not repair_plan(**asked).plan.changes
