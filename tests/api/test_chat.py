"""Conversations, messages, turns, deliveries; and writes that are sent twice."""

from __future__ import annotations

import pytest
from django.utils import timezone

from chat.models import Conversation, Delivery, DeliveryState, Message, Turn, TurnState
from chat.turns.run import run_turn
from ops.models import AuditEvent, IdempotencyRecord
from ops.services.idempotency import begin

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_message_is_sent_answered_and_traced(api, ada):
    sent = api("post", f"agents/{ada.pk}/messages", {"text": "Hello"}, status=202)
    assert (sent["message"]["sender"]["name"], sent["turn"]["state"]) == ("Olga", "queued")
    run_turn(sent["turn"]["id"])
    turn = api("get", sent["turn"]["links"]["self"])
    assert turn["state"] == "done"
    found = api("get", sent["message"]["url"])
    assert [hop["name"] for hop in found["trace"]][:2] == ["received", "stored"]
    assert found["turns"][0]["reply"] == turn["reply"]
    reply = api("get", f"messages/{turn['reply']}")
    text = api("get", sent["turn"]["links"]["text"])
    assert (text["text"], text["final"], text["length"]) == (reply["text"], True, len(reply["text"]))
    assert api("get", sent["turn"]["links"]["text"] + "?from=5")["text"] == reply["text"][5:]


def test_somebody_else_may_be_spoken_for(api, ada):
    body = {"text": "Hello", "speaker": {"name": "Grace", "id": "ticket-1"}}
    sender = api("post", f"agents/{ada.pk}/messages", body, status=202)["message"]["sender"]
    assert (sender["kind"], sender["name"], sender["external_id"]) == ("guest", "Grace", "ticket-1")


@pytest.mark.parametrize("text", ["", "   "])
def test_an_empty_message_is_refused(api, ada, text):
    problem = api("post", f"agents/{ada.pk}/messages", {"text": text}, status=422)
    assert problem["code"] in {"request.invalid", "message.empty"}
    assert not Message.objects.exists()


def test_refusals_of_messages_say_why(api, make_agent, settings):
    gone = make_agent("demo-gone", "Gone", state="archived")
    api("post", f"agents/{gone.pk}/messages", {"text": "x"}, status=409, code="agent.archived")
    api("post", "agents/999/messages", {"text": "x"}, status=404, code="resource.not_found")
    settings.MAX_MESSAGE_CHARS = 10
    here = make_agent("demo-echo", "Echo")
    api("post", f"agents/{here.pk}/messages", {"text": "x" * 11}, status=422, code="guard.too_long")


def test_a_test_message_is_audited(api, ada):
    sent = api("post", f"agents/{ada.pk}/test-message", {}, status=202)
    assert sent["turn"]["agent"] == ada.pk
    assert AuditEvent.objects.filter(action="agent.test_message", actor="token:ci").exists()


def test_a_conversation_is_opened_spoken_in_and_read(api, ada, make_agent):
    made = api("post", "conversations", {"agent": ada.pk, "title": "Ticket 1"}, status=201)
    api("post", "conversations", {"agent": make_agent("demo-echo", "Echo").pk}, status=201)
    api("post", "conversations", {"agent": 999}, status=422, code="conversation.no_agent")
    path = f"conversations/{made['id']}"
    for number in range(5):
        api("post", f"{path}/messages", {"text": f"no {number}"}, status=202)
    texts = [row["text"] for row in api.walk(f"{path}/messages?limit=2")]
    assert texts == [f"no {number}" for number in range(5)]
    assert [row["text"] for row in api.walk(f"{path}/messages?limit=2&order=desc")] == texts[::-1]
    found = api("get", path)
    assert (found["agent"], found["messages"], len(found["participants"])) == (ada.pk, 5, 1)
    assert [row["id"] for row in api("get", f"conversations?agent={ada.pk}")["items"]] == [made["id"]]
    assert len(api("get", "conversations")["items"]) == 2
    bare = Conversation.objects.create(title="Nobody")
    api("post", f"conversations/{bare.pk}/messages", {"text": "x"}, status=422, code="conversation.no_agent")
    api("post", f"conversations/{bare.pk}/messages", {"text": "x", "agent": ada.pk}, status=202)
    api("get", "conversations/999", status=404)
    api("get", "conversations/999/messages", status=404)


def test_turns_are_listed_stopped_retried_and_discarded(api, ada):
    turns = [api("post", f"agents/{ada.pk}/messages", {"text": "x"}, status=202)["turn"]["id"] for _ in range(3)]
    assert api("post", f"turns/{turns[0]}/cancel", status=202)["state"] == "cancelled"
    assert api("post", f"turns/{turns[0]}/cancel", status=202)["stop_requested_by"] == "token:ci"
    api("post", f"turns/{turns[1]}/retry", status=409, code="turn.wrong_state")
    Turn.objects.filter(pk=turns[1]).update(state=TurnState.DEAD, error_reason="key sk-abcdefgh12345678 refused")
    row = api("get", "turns?state=dead")["items"][0]
    assert "sk-abcdefgh" not in row["error_reason"]
    assert api("post", f"turns/{turns[1]}/retry", status=202)["state"] == "queued"
    Turn.objects.filter(pk=turns[2]).update(state=TurnState.FAILED)
    assert api("post", f"turns/{turns[2]}/discard")["finish_reason"] == "discarded"
    assert len(api.walk(f"turns?agent={ada.pk}&limit=1")) == 3
    for path in ("", "/text", "/stream"):
        api("get", f"turns/999{path}", status=404, code="resource.not_found")


def test_dead_letters_are_listed_retried_and_discarded(api, make_agent):
    agent = make_agent("demo-ada", "Ada", room=True)
    sent = api("post", f"agents/{agent.pk}/messages", {"text": "x"}, status=202)
    delivery = Delivery.objects.create(
        message_id=sent["message"]["id"], target="matrix", room=agent.mapping.room, account=agent.mapping.account,
        lane="lane-x", state=DeliveryState.DEAD, not_before=timezone.now(), created_at=timezone.now(), error_code="matrix.gone",
    )  # fmt: skip
    row = api("get", f"deliveries?state=dead&room={agent.mapping.room_id}")["items"][0]
    assert (row["id"], row["account"]) == (delivery.pk, "@agent_demo-ada:hs")
    assert api("get", f"deliveries/{delivery.pk}") == row
    assert api("post", f"deliveries/{delivery.pk}/retry", status=202)["state"] == "queued"
    api("post", f"deliveries/{delivery.pk}/discard", status=409, code="turn.wrong_state")
    Delivery.objects.filter(pk=delivery.pk).update(state=DeliveryState.DEAD)
    assert api("post", f"deliveries/{delivery.pk}/discard")["state"] == "discarded"
    api("get", "deliveries/999", status=404)


def test_the_same_key_says_it_once(api, ada):
    path, body = f"agents/{ada.pk}/messages", {"text": "Once"}
    first = api("post", path, body, status=202, key="order-1")
    assert "Idempotency-Replayed" not in api.response.headers
    assert api("post", path, body, status=202, key="order-1") == first
    assert api.response.headers["Idempotency-Replayed"] == "true"
    api("post", path, {"text": "Other"}, status=422, code="idempotency.key_reused", key="order-1")
    api("post", path, body, status=400, code="idempotency.key_invalid", key="k" * 201)
    assert Message.objects.count() == 1


def test_a_lost_answer_does_not_double_the_message(api, ada):
    path, body = f"agents/{ada.pk}/messages", {"text": "Once"}
    first = api("post", path, body, status=202, key="order-2")
    # The process died before it could keep its answer, or the record has been pruned.
    IdempotencyRecord.objects.all().delete()
    again = api("post", path, body, status=202, key="order-2")
    assert (again["repeated"], again["message"]["id"]) == (True, first["message"]["id"])
    IdempotencyRecord.objects.all().delete()
    api("post", path, {"text": "Other"}, status=422, code="idempotency.key_reused", key="order-2")
    assert Message.objects.count() == 1


def test_a_key_in_flight_is_a_conflict(api, ada, write_token):
    prefix = write_token.partition("_")[2].partition(".")[0]
    path = f"/api/v1/agents/{ada.pk}/messages"
    begin(key="busy", principal=f"token:{prefix}", method="POST", path=path, body=b'{"text": "x"}')
    api("post", path, {"text": "x"}, status=409, code="idempotency.in_flight", key="busy")
    assert not Message.objects.exists()


def test_lasting_refusals_are_repeated_and_passing_ones_tried_again(api, make_agent):
    gone = make_agent("demo-gone", "Gone", state="archived")
    path = f"agents/{gone.pk}/messages"
    api("post", path, {"text": "x"}, status=409, key="k")
    gone.state = "active"
    gone.save()
    api("post", path, {"text": "x"}, status=202, key="k")
    first = api("post", "conversations", {"agent": 999}, status=422, key="c")
    again = api("post", "conversations", {"agent": 999}, status=422, key="c")
    assert api.response.headers["Idempotency-Replayed"] == "true"
    assert {**again, "request_id": ""} == {**first, "request_id": ""}


def test_keys_of_two_callers_do_not_meet(api, operator, ada):
    from ops.services.tokens import token_create
    from tests.api.conftest import Api

    other = Api(token_create(owner=operator, name="ci", scope="write", actor="test")[1])
    path = f"agents/{ada.pk}/messages"
    api("post", path, {"text": "mine"}, status=202, key="same")
    other("post", path, {"text": "theirs"}, status=202, key="same")
    assert Message.objects.count() == 2
