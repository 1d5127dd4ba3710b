"""A conversation over the socket of a real ``up`` process."""

from __future__ import annotations

import pytest

from tests.chat.socket.place import Person, Place

pytestmark = pytest.mark.e2e


def test_a_question_is_answered_as_it_is_written(embedded: Place, ada: Person) -> None:
    embedded.speed(40)
    conversation = ada.conversation("Ada")
    client = ada.client()
    first = client.subscribe(conversation)
    assert (first["gap"], first["last_seq"], first["cursor"]) == (False, 0, "0.0")
    sent = client.do("send", conversation=conversation, client_id="one", text="tell me about rooms")
    turn = client.until_over(sent["turn"])
    assert turn.text == embedded.answer(sent["turn"])
    assert turn.state["state"] == "done"
    assert turn.state["length"] == len(turn.text)
    deltas = [frame for frame in client.frames if frame.get("type") == "delta"]
    assert len(deltas) > 5, "it came bit by bit"
    kinds = [frame.get("type") for frame in client.frames]
    assert kinds.count("message") >= 2
    reply = client.state.messages[turn.state["reply"]]
    assert reply["text"] == turn.text
    assert client.state.messages[sent["message"]]["client_id"] == "one"
    # The order of things is the stored one.
    assert turn.reasoning == "".join(part["text"] for part in reply["parts"] if part["type"] == "reasoning")
    assert turn.reasoning


def test_the_same_client_id_is_the_same_message(embedded: Place, ada: Person) -> None:
    conversation = ada.conversation()
    client = ada.client()
    client.subscribe(conversation)
    sent = [client.do("send", conversation=conversation, client_id="x", text="hello") for _ in range(3)]
    assert len({one["message"] for one in sent}) == 1
    assert [one["repeated"] for one in sent] == [False, True, True]
    client.until_over(sent[0]["turn"])
    assert embedded.ask("result = Message.objects.filter(conversation_id=c).count()", c=conversation) == 2
