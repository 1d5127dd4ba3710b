"""Everything that is done in a conversation, seen by a second socket: branches, tools, HTML, lists, presence, catching up."""

from __future__ import annotations

import httpx
import pytest

from tests.chat.socket.place import Person, Place, State
from tests.chat.socket.test_doors import _token

pytestmark = pytest.mark.e2e


def test_branches_are_made_and_shown(embedded: Place, ada: Person) -> None:
    conversation = ada.conversation()
    client, second = ada.client(), ada.client()
    client.subscribe(conversation)
    second.subscribe(conversation)
    sent = client.do("send", conversation=conversation, client_id="a", text="one")
    first = client.until_over(sent["turn"]).state["reply"]
    again = client.do("regenerate", message=first)
    other = client.until_over(again["turn"]).state["reply"]
    assert client.state.turns[again["turn"]].state["variant"] == 1
    second.until_over(again["turn"])
    second.until(lambda _: other in second.state.messages)
    assert second.state.messages[other]["siblings"] == [first, other]
    assert second.state.messages[other]["parent"] == sent["message"]
    edited = client.do("edit", message=sent["message"], client_id="b", text="two")
    repeated = client.do("edit", message=sent["message"], client_id="b", text="two")
    assert (repeated["message"], repeated["repeated"]) == (edited["message"], True)
    third = second.until_over(edited["turn"]).state["reply"]
    client.until_over(edited["turn"])
    shown = client.do("show", message=sent["message"])
    assert shown["head"] == other
    line = second.until(lambda frame: frame.get("type") == "conversation" and frame.get("head") == other)
    assert line["revision"] == shown["revision"]
    assert third != other


def test_a_reply_that_is_written_is_stopped(embedded: Place, ada: Person) -> None:
    embedded.speed(10)
    conversation = ada.conversation()
    client = ada.client()
    client.subscribe(conversation)
    sent = client.do("send", conversation=conversation, client_id="a", text="word " * 100)
    client.until(lambda frame: frame.get("type") == "delta")
    client.do("stop", turn=sent["turn"])
    turn = client.until_over(sent["turn"])
    assert turn.state["state"] == "cancelled"
    assert turn.text == embedded.answer(sent["turn"])
    # Again is nothing.
    assert client.do("stop", turn=sent["turn"])["state"] == "cancelled"


def test_one_that_waits_its_turn_is_told_and_changed_in_place(embedded: Place, ada: Person) -> None:
    embedded.speed(20)
    conversation = ada.conversation()
    client = ada.client()
    client.subscribe(conversation)
    first = client.do("send", conversation=conversation, client_id="a", text="slow " * 60)
    client.until(lambda frame: frame.get("type") == "delta")
    waiting = client.do("send", conversation=conversation, client_id="b", text="next")
    client.until(lambda frame: frame.get("type") == "turn" and frame["turn"] == waiting["turn"])
    assert client.state.turns[waiting["turn"]].state["state"] == "queued"
    assert client.refused("regenerate", message=first["message"]) == "turn.open"
    client.do("edit", message=waiting["message"], client_id="c", text="next, said better")
    client.until(lambda _: client.state.messages[waiting["message"]]["text"] == "next, said better")
    client.do("stop", turn=first["turn"])
    answered = client.until_over(waiting["turn"])
    assert "next, said better" in answered.text


def test_tools_reasoning_and_text_come_in_order_and_as_html(embedded: Place, ada: Person) -> None:
    embedded.speed(30)
    conversation = ada.conversation("Tinker")
    client = ada.client()
    client.subscribe(conversation, render=True)
    sent = client.do("send", conversation=conversation, client_id="a", text="12 * (3 + 4)")
    turn = client.until_over(sent["turn"])
    client.until(lambda _: turn.state["reply"] in client.state.messages)
    stored = client.state.messages[turn.state["reply"]]
    order = [
        (part["type"], part.get("name") or stored["text"][part["start"] : part["end"]])
        if part["type"] != "reasoning"
        else ("reasoning", part["text"])
        for part in stored["parts"]
    ]
    assert turn.in_order() == [one for one in order if one[1]]
    assert {"tool_call", "tool_result", "text"} <= {kind for kind, _ in order}
    rendered = [frame for frame in client.frames if frame.get("type") == "rendered"]
    assert rendered
    assert all("<" in html for html in turn.blocks.values() if html)
    starts = {frame["start"] for frame in rendered}
    assert starts <= {part["start"] for part in turn.parts.values()} | {0}
    # Nobody who has not asked for HTML gets it.
    plain = ada.client()
    plain.subscribe(conversation)
    again = plain.do("regenerate", message=sent["message"])
    plain.until_over(again["turn"])
    assert not [frame for frame in plain.frames if frame.get("type") == "rendered"]


def test_whoever_comes_in_the_middle_sees_all_of_it(embedded: Place, ada: Person) -> None:
    embedded.speed(25)
    conversation = ada.conversation("Ada")
    client = ada.client()
    client.subscribe(conversation)
    sent = client.do("send", conversation=conversation, client_id="a", text="tell me about rooms")
    client.until(
        lambda _: (
            len(client.state.turns.get(sent["turn"], client).text) > 30 if sent["turn"] in client.state.turns else False
        )
    )
    late = ada.client()
    late.subscribe(conversation, render=True)
    turn = late.until_over(sent["turn"])
    assert turn.text == embedded.answer(sent["turn"])
    assert turn.reasoning
    text = late.do("text", turn=sent["turn"], **{"from": 10})
    assert text["text"] == turn.text[10:]
    assert text["final"] is True


def test_whoever_was_away_is_told_what_they_missed_and_no_more(embedded: Place, ada: Person) -> None:
    conversation = ada.conversation()
    client, other = ada.client(), ada.client()
    client.subscribe(conversation)
    other.subscribe(conversation)
    sent = client.do("send", conversation=conversation, client_id="a", text="one")
    turn = client.until_over(sent["turn"])
    client.until(lambda _: turn.state["reply"] in client.state.messages)
    state = client.state
    client.socket.close()
    before = dict(state.messages)
    later = other.do("send", conversation=conversation, client_id="b", text="two")
    reply = other.until_over(later["turn"]).state["reply"]
    back = ada.client(state=state)
    back.subscribe(conversation)
    back.until(lambda _: reply in state.messages)
    told = [frame["message"]["id"] for frame in back.frames if frame.get("type") == "message"]
    assert sorted(told) == sorted(set(state.messages) - set(before))
    assert not [frame for frame in back.quiet(1.5) if frame.get("type") == "message"]


def test_too_much_that_was_missed_is_a_gap(embedded: Place, ada: Person) -> None:
    conversation = ada.conversation()
    client = ada.client()
    client.subscribe(conversation)
    client.socket.close()
    embedded.ask(
        "from chat.services.conversations import participant, next_seq\n"
        "from django.db import transaction\n"
        "m = Membership.objects.get(conversation_id=c)\n"
        "who = participant(c, kind='person', external_id='x', name='X', person_id=m.person_id)\n"
        "with transaction.atomic():\n"
        "    Message.objects.bulk_create(Message(conversation_id=c, seq=next_seq(c), sender=who, role='user', text=str(n),"
        " transport='t', external_id=f'{c}-{n}', received_at=timezone.now(), stored_at=timezone.now()) for n in range(201))",
        c=conversation,
    )
    back = ada.client(state=client.state)
    told = back.subscribe(conversation)
    assert (told["gap"], told["cursor"], told["last_seq"]) == (True, "201.0", 201)
    assert not [frame for frame in back.quiet(1.5) if frame.get("type") == "message"]
    fresh = State()
    fresh.cursor[conversation] = "1.0"
    caught = ada.client(state=fresh)
    assert caught.subscribe(conversation)["gap"] is False
    caught.until(lambda _: len(fresh.messages) == 200)


def test_lists_and_drafts_and_reading_are_told_to_one_s_other_sockets(embedded: Place, ada: Person) -> None:
    conversation = ada.conversation()
    client, other = ada.client(), ada.client()
    stranger = embedded.person("stranger").client()
    client.do("draft", conversation=conversation, text="half a sen")
    sent = client.do("send", conversation=conversation, client_id="a", text="one")
    line = other.until(lambda frame: frame.get("type") == "conversation" and frame.get("unread") == 1)
    assert line["id"] == conversation
    client.do("read", conversation=conversation, seq=line["last_seq"])
    other.until(lambda frame: frame.get("type") == "conversation" and frame.get("unread") == 0)
    removed = httpx.delete(
        f"{embedded.url}/api/v1/chat/conversations/{conversation}",
        headers={"Authorization": f"Bearer {_token(embedded, ada)}"},
        timeout=30,
    )
    assert removed.status_code == 204
    other.until(lambda frame: frame.get("type") == "conversation" and frame["removed"])
    assert sent["seq"] == 1
    assert not [frame for frame in stranger.quiet(1) if frame["type"] == "conversation"]


def test_people_of_one_conversation_see_each_other_type(embedded: Place, ada: Person) -> None:
    conversation = ada.conversation()
    bob = embedded.person("bob")
    embedded.ask("Membership.objects.create(conversation_id=c, person_id=p)", c=conversation, p=bob.id)
    first, second = ada.client(), bob.client()
    first.subscribe(conversation)
    second.subscribe(conversation)
    first.until(lambda frame: frame.get("type") == "presence" and len(frame["people"]) == 2)
    first.do("typing", conversation=conversation)
    first.do("typing", conversation=conversation)
    typed = second.until("typing")
    assert typed["person"]["id"] == ada.id
    assert not [frame for frame in first.quiet(1) if frame["type"] == "typing"], "nobody sees themselves"
    assert len([frame for frame in second.quiet(0.5) if frame["type"] == "typing"]) == 0, "once in two seconds"
    sent = second.do("send", conversation=conversation, client_id="a", text="hello from bob")
    assert "hello from bob" in first.until_over(sent["turn"]).text
    second.do("unsubscribe", conversation=conversation)
    first.until(lambda frame: frame.get("type") == "presence" and len(frame["people"]) == 1)


def test_one_socket_follows_many_and_leaves_them(embedded: Place, ada: Person) -> None:
    mine = [ada.conversation() for _ in range(3)]
    client = ada.client()
    for conversation in mine:
        client.subscribe(conversation)
    client.do("unsubscribe", conversation=mine[0])
    other = ada.client()
    for number, conversation in enumerate(mine):
        other.do("send", conversation=conversation, client_id=f"m{number}", text="x")
    client.until(lambda _: len(client.state.messages) == 4)
    assert {
        frame["conversation"] for frame in client.quiet(1) + client.frames if frame.get("type") == "message"
    } == set(mine[1:])
