"""Nothing of another person's ever arrives, and whatever ends access ends the sockets within two seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.chat.socket.client import Client
from tests.chat.socket.place import Person, Place
from tests.chat.socket.test_doors import _program, _token

pytestmark = pytest.mark.e2e


def _strange(place: Place) -> tuple[Person, Person, dict[str, int]]:
    """Two people, and the ids of something that is the first one's."""
    owner, stranger = place.person("owner"), place.person("stranger")
    conversation = owner.conversation()
    client = owner.client()
    client.subscribe(conversation)
    sent = client.do("send", conversation=conversation, client_id="a", text="my secret")
    turn = client.until_over(sent["turn"])
    return (
        owner,
        stranger,
        {
            "conversation": conversation,
            "message": sent["message"],
            "turn": sent["turn"],
            "reply": turn.state["reply"],
        },
    )


def _frames(ids: dict[str, int]) -> list[dict[str, Any]]:
    """Every frame that names something, about something of another person."""
    conversation, message, turn = ids["conversation"], ids["message"], ids["turn"]
    return [
        {"kind": "subscribe", "conversation": conversation},
        {"kind": "subscribe", "conversation": conversation, "cursor": "0.0", "turns": {str(turn): "0:0"}},
        {"kind": "send", "conversation": conversation, "client_id": "s", "text": "hello"},
        {"kind": "edit", "message": message, "client_id": "s", "text": "hello"},
        {"kind": "edit", "message": ids["reply"], "client_id": "s", "text": "hello"},
        {"kind": "regenerate", "message": message},
        {"kind": "show", "message": message},
        {"kind": "stop", "turn": turn},
        {"kind": "approve", "turn": turn, "call": "c", "approve": True},
        {"kind": "read", "conversation": conversation, "seq": 1},
        {"kind": "draft", "conversation": conversation, "text": "x"},
        {"kind": "text", "turn": turn},
        {"kind": "text", "turn": turn, "from": 0},
    ]


def test_a_stranger_gets_nothing_by_any_frame(embedded: Place) -> None:
    owner, stranger, ids = _strange(embedded)
    client = stranger.client()
    before = embedded.ask("result = Message.objects.filter(conversation_id=c).count()", c=ids["conversation"])
    own = stranger.conversation()
    for number, frame in enumerate(_frames(ids)):
        kind = frame.pop("kind")
        assert client.refused(kind, **frame) == "resource.not_found", kind
        missing = {key: 10**9 if key in {"conversation", "message", "turn"} else value for key, value in frame.items()}
        theirs, nothing = client.frames[-1], client.ask(kind, **missing)
        # Nobody learns which of the two it is.
        assert nothing["code"] == theirs["code"], kind
        if number % 6 == 5:
            time.sleep(1)
    # A message of another conversation as the parent of one's own; typing without following.
    assert (
        client.refused("send", conversation=own, client_id="p", text="x", parent=ids["message"]) == "resource.not_found"
    )
    assert client.refused("typing", conversation=ids["conversation"]) == "frame.invalid"
    # While the owner goes on, the stranger hears nothing of it.
    talking = owner.client()
    talking.subscribe(ids["conversation"])
    client.subscribe(own, turns={str(ids["turn"]): "0:0"})
    sent = talking.do("send", conversation=ids["conversation"], client_id="b", text="another secret")
    talking.until_over(sent["turn"])
    heard = client.quiet(2.5)
    assert "secret" not in str(client.frames) + str(heard)
    assert {frame["conversation"] for frame in client.frames if frame["type"] in {"message", "turn"}} <= {own}
    after = embedded.ask("result = Message.objects.filter(conversation_id=c).count()", c=ids["conversation"])
    assert after == before + 2


def _ends_soon(client: Client, end: Callable[[], object]) -> None:
    client.do("ping")
    end()
    began = time.monotonic()
    closed = client.until_closed(10)
    assert time.monotonic() - began < 2
    assert closed.code == 4409
    assert client.frames[-1]["type"] == "bye"


def test_the_end_of_a_session_ends_its_sockets_and_no_others(embedded: Place, ada: Person) -> None:
    by_ticket, by_cookie = ada.client(), embedded.client(cookie=ada.cookie, origin=embedded.url)
    by_cookie.welcome()
    by_token = embedded.client(query=f"token={_token(embedded, ada)}")
    by_token.welcome()
    end = "from django.contrib.sessions.models import Session\nSession.objects.filter(pk=key).delete()"
    _ends_soon(by_ticket, lambda: embedded.ask(end, key=ada.session))
    assert by_cookie.until_closed(5).code == 4409
    by_token.do("ping")


def test_a_revoked_token_ends_its_sockets(embedded: Place, ada: Person) -> None:
    client = embedded.client(query=f"token={_token(embedded, ada)}")
    client.welcome()
    _ends_soon(client, lambda: embedded.ask("ApiToken.objects.update(revoked_at=timezone.now())"))


def test_a_program_s_sign_out_ends_its_sockets(embedded: Place, ada: Person) -> None:
    client = embedded.client(query=f"token={_program(embedded, ada)}")
    client.welcome()
    _ends_soon(client, lambda: embedded.ask("ProgramLogin.objects.update(revoked_at=timezone.now())"))


@pytest.mark.parametrize(
    "end",
    [
        "Person.objects.filter(pk=pk).update(is_active=False)",
        "Person.objects.filter(pk=pk).update(access_epoch=7)",
        "Person.objects.get(pk=pk).delete()",
    ],
)
def test_the_end_of_a_person_s_access_ends_their_sockets(embedded: Place, ada: Person, end: str) -> None:
    other = embedded.person("other").client()
    client = ada.client()
    _ends_soon(client, lambda: embedded.ask(end, pk=ada.id))
    other.do("ping")


def test_a_conversation_that_was_removed_is_no_longer_followed(embedded: Place, ada: Person) -> None:
    conversation = ada.conversation()
    client = ada.client()
    client.subscribe(conversation)
    embedded.ask("Membership.objects.filter(conversation_id=c).update(removed_at=timezone.now())", c=conversation)
    assert client.until("unsubscribed", 5)["conversation"] == conversation
    embedded.ask(
        "m = Membership.objects.get(conversation_id=c); m.removed_at = None\n"
        "messages.message_send(agent=m.conversation.agent, text='unheard', person=m.person, conversation=m.conversation)",
        c=conversation,
    )
    assert not [frame for frame in client.quiet(2) if frame["type"] in {"message", "delta", "turn"}]


def test_an_operator_who_looks_through_somebody_s_eyes_changes_nothing(embedded: Place, ada: Person) -> None:
    conversation = ada.conversation()
    operator = embedded.person("operator")
    embedded.ask("Person.objects.filter(pk=pk).update(is_staff=True)", pk=operator.id)
    embedded.ask(
        "from importlib import import_module\nfrom django.conf import settings\n"
        "row = Impersonation.objects.create(operator_id=operator, person_id=person, session_key=key, reason='test',"
        " expires_at=timezone.now() + timedelta(hours=1))\n"
        "store = import_module(settings.SESSION_ENGINE).SessionStore(key)\nstore['looks_as'] = row.pk\nstore.save()",
        operator=operator.id,
        person=ada.id,
        key=operator.session,
    )
    client = operator.client()
    assert client.frames[-1]["person"]["id"] == ada.id
    assert client.frames[-1]["reading_only"] is True
    client.subscribe(conversation)
    for kind, fields in (
        ("send", {"conversation": conversation, "client_id": "x", "text": "x"}),
        ("read", {"conversation": conversation, "seq": 1}),
        ("draft", {"conversation": conversation, "text": "x"}),
    ):
        assert client.refused(kind, **fields) == "impersonation.read_only"


def test_sockets_begin_anew_when_rows_were_put_back(embedded: Place) -> None:
    """What anybody was told of later rows is true no more: sockets are closed, and ``welcome`` says that it is another life."""
    person = embedded.person("ada")
    client = person.client()
    before = next(frame for frame in client.frames if frame["type"] == "welcome")["life"]
    client.do("ping")
    embedded.ask(
        "from ops.models import RestoreEpoch\nfrom django.utils import timezone\n"
        "row = RestoreEpoch.objects.order_by('pk').first() or RestoreEpoch()\n"
        "row.number, row.at = row.number + 1, timezone.now()\nrow.save()"
    )
    closed = client.until_closed(20)
    assert closed.code == 4503
    assert client.frames[-1]["type"] == "bye"
    again = person.client()
    after = next(frame for frame in again.frames if frame["type"] == "welcome")["life"]
    assert after
    assert after != before
    again.do("ping")
