"""Answers that stand in an agent's room under another name, on a real Synapse."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from agents.matrix.keys import MARKER
from agents.services.identities import CANARY
from chat.deliveries import outbox
from chat.deliveries.run import run_delivery
from chat.models import Message, Turn
from chat.services.conversations import conversation_of, participant
from tests.agents.doctor.matrix.conftest import House, ask, issue, mend, plan, undo


def say(house: House, user_id: str, text: str, **mark: Any) -> str:
    """An event that carries our mark, as deliveries do."""
    content = {"msgtype": "m.text", "body": text, MARKER: {"hop": 0, **mark}}
    return str(house.client.send(house.room_id(), content, txn_id=f"say.{text}", user_id=user_id))


def switchboard_comes(house: House) -> str:
    sender = house.homeserver.sender_id
    house.client.invite(house.room_id(), sender, house.user_id())
    house.client.join(house.room_id(), sender)
    return sender


def test_an_answer_under_switchboards_name_is_found_and_the_agent_speaks_again(synced: House) -> None:
    agent, sender = f"agent:{synced.mapping().agent_id}", switchboard_comes(synced)
    say(synced, synced.user_id(), "as itself", turn=1)
    assert ask("identity.wrong_sender").evidence["as_itself_percent"] == 100
    # People's words from elsewhere are Switchboard's to say: they belong to no turn.
    say(synced, sender, "**Ann:** hello", message=7)
    assert ask("identity.wrong_sender").status == "pass"

    wrong = say(synced, sender, "an answer", turn=2)
    run = ask("identity.wrong_sender")
    assert run.status == "fail"
    assert (run.evidence["own"], run.evidence["wrong"]) == (1, 1)
    assert run.evidence["events"] == [{"agent": synced.mapping().agent_id, "event_id": wrong, "sender": sender}]
    assert [one.target for one in run.affected] == [agent]

    planned = plan("identity.speak_again", agent)
    assert [(one.before, one.after) for one in planned.plan.changes] == [(sender, synced.user_id())]
    done = mend("identity.speak_again", agent)
    assert done.state == "succeeded", done.error
    said = synced.client.get_event(synced.room_id(), next(iter(done.receipt["said"].values())), synced.user_id())
    assert (said["sender"], said["content"]["body"]) == (synced.user_id(), CANARY)
    assert said["content"]["msgtype"] == "m.notice"
    assert issue("identity.wrong_sender") is None
    assert mend("identity.speak_again", agent).state == "unneeded"
    undo(done)
    assert ask("identity.wrong_sender").status == "fail"
    # The agent's own next answer ends it as well.
    say(synced, synced.user_id(), "the next answer", turn=3)
    assert ask("identity.wrong_sender").status == "pass"


def test_a_delivery_that_lost_its_account_is_noticed(synced: House) -> None:
    """What the bridge really does when a delivery has no account: it speaks as Switchboard."""
    mapping, now = synced.mapping(), timezone.now()
    conversation = conversation_of(mapping.room, mapping.agent)
    place = {"conversation": conversation, "received_at": now, "stored_at": now, "transport": "api"}
    who = participant(conversation.pk, kind="agent", external_id=str(mapping.agent_id), agent_id=mapping.agent_id)
    asked = Message.objects.create(seq=1, role="user", text="?", external_id="x1", sender=who, **place)
    turn = Turn.objects.create(
        conversation=conversation,
        agent=mapping.agent,
        message=asked,
        lane="l",
        seq=1,
        state="done",
        not_before=now,
        created_at=now,
    )
    answer = Message.objects.create(seq=2, role="assistant", text="Whose?", external_id="x2", sender=who, **place)
    delivery = outbox.reply(turn, answer, mapping.room, None, previewed=False)
    run_delivery(delivery.pk)
    delivery.refresh_from_db()
    assert delivery.state == "sent", delivery.error_reason
    run = ask("identity.wrong_sender")
    assert run.status == "fail"
    assert run.evidence["events"][0]["sender"] == synced.homeserver.sender_id


def test_a_room_that_cannot_be_read_is_left_to_other_checks(synced: House) -> None:
    synced.client.leave(synced.room_id("Bea"), synced.user_id("Bea"))
    run = ask("identity.wrong_sender")
    assert run.status == "pass"
