"""Who gets in: tickets, tokens, sessions with their origin, a first frame; and what of it reaches a log."""

from __future__ import annotations

import json

import pytest
from websockets.exceptions import InvalidStatus

from tests.chat.socket.client import Client, Closed
from tests.chat.socket.place import Person, Place
from tests.up.running import Up

pytestmark = pytest.mark.e2e


def _token(place: Place, person: Person) -> str:
    made: str = place.ask(
        "from chat.services.personal_tokens import personal_token_create\n"
        "made = personal_token_create(person=Person.objects.get(pk=person), name='test', actor='test')\n"
        "result = made[1] if isinstance(made[1], str) else made[0]",
        person=person.id,
    )
    return made


def _program(place: Place, person: Person) -> str:
    """An access token of ``POST /api/auth/login``."""
    import httpx

    place.ask(
        "Person.objects.filter(pk=person).update(email=mail)", person=person.id, mail=f"{person.name}@example.org"
    )
    answer = httpx.post(
        f"{place.url}/api/auth/login", json={"username": person.name, "password": "xk-29-dune"}, timeout=30
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["token"])


def _refused(client: Client) -> Closed:
    closed = client.until_closed()
    assert client.frames[-1] == {"type": "bye", "code": closed.code, "reason": client.frames[-1]["reason"]}
    assert not [frame for frame in client.frames if frame["type"] != "bye"]
    return closed


def test_a_ticket_opens_once(embedded: Place, ada: Person) -> None:
    ticket = ada.ticket()
    client = embedded.client(query=f"ticket={ticket}")
    welcome = client.welcome()
    assert welcome["person"] == {"id": ada.id, "name": ada.name.title()}
    assert client.socket.subprotocol == "switchboard.v1"
    assert _refused(embedded.client(query=f"ticket={ticket}")).code == 4401
    client.do("ping")


def test_an_old_ticket_opens_nothing(embedded: Place, ada: Person) -> None:
    ticket = ada.ticket()
    embedded.ask("SocketTicket.objects.update(expires_at=timezone.now())")
    assert _refused(embedded.client(query=f"ticket={ticket}")).code == 4401


@pytest.mark.parametrize("origin", [None, "https://evil.example", "null"])
def test_a_ticket_or_token_needs_no_origin(embedded: Place, ada: Person, origin: str | None) -> None:
    embedded.client(query=f"ticket={ada.ticket()}", origin=origin).welcome()
    embedded.client(query=f"token={_token(embedded, ada)}", origin=origin).welcome()


def test_an_old_program_opens_it_with_its_access_token(embedded: Place, ada: Person) -> None:
    client = embedded.client(query=f"token={_program(embedded, ada)}")
    assert client.welcome()["person"]["id"] == ada.id


@pytest.mark.parametrize(
    "query", ["ticket=guess", "token=guess", "token=a.b.c", "token=swb_x.y", "ticket=", "token=%00"]
)
def test_a_guess_opens_nothing(embedded: Place, query: str) -> None:
    client = embedded.client(query=query)
    if query.endswith("="):
        # Nothing at all was given: a first frame may still say it.
        client.send("hello", version=1)
    assert _refused(client).code == 4401


def test_the_browser_s_session_opens_it_from_our_own_pages_only(embedded: Place, ada: Person) -> None:
    assert embedded.client(cookie=ada.cookie, origin=embedded.url).welcome()["person"]["id"] == ada.id
    for origin in (
        "https://evil.example",
        embedded.url.rpartition(":")[0] + ":1",
        "null",
        None,
        embedded.url.replace("127.0.0.1", "localhost.evil"),
    ):
        client = embedded.client(cookie=ada.cookie, origin=origin)
        assert _refused(client).code == 4403, origin


def test_a_host_that_is_not_ours_does_not_make_its_origin_ours(embedded: Place, ada: Person) -> None:
    """DNS rebinding: the page, its origin and the Host header all name the attacker's host, which leads to us."""
    port = embedded.url.rpartition(":")[2]
    import socket

    with socket.create_connection(("127.0.0.1", int(port))) as raw:
        client = Client(
            f"http://evil.example:{port}", cookie=ada.cookie, origin=f"http://evil.example:{port}", sock=raw
        )
        assert client.until_closed().code in {4403}


def test_an_origin_that_was_allowed_live_gets_in(embedded: Place, ada: Person) -> None:
    embedded.ask(
        "from ops.live import live_set\nlive_set(key='ALLOWED_ORIGINS', value=['https://chat.example.org'], actor='test')"
    )
    import time

    time.sleep(2.1)
    embedded.client(cookie=ada.cookie, origin="https://chat.example.org").welcome()
    embedded.ask("from ops.live import live_clear\nlive_clear(key='ALLOWED_ORIGINS', actor='test')")


def test_a_session_that_has_ended_opens_nothing(embedded: Place, ada: Person) -> None:
    embedded.ask(
        "from django.contrib.sessions.models import Session\nSession.objects.filter(pk=key).delete()", key=ada.session
    )
    assert _refused(embedded.client(cookie=ada.cookie, origin=embedded.url)).code == 4401


def test_a_first_frame_says_who_it_is(embedded: Place, ada: Person) -> None:
    client = embedded.client()
    client.send("hello", version=1, token=_token(embedded, ada))
    client.welcome()
    client = embedded.client()
    client.send("hello", ticket=ada.ticket())
    client.welcome()


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ({"type": "hello", "token": "guess"}, 4401),
        ({"type": "hello"}, 4401),
        ({"type": "ping"}, 4401),
        ({"type": "hello", "version": 9}, 4400),
    ],
)
def test_a_wrong_first_frame_ends_it(embedded: Place, frame: dict[str, object], code: int) -> None:
    client = embedded.client()
    client.socket.send(json.dumps(frame))
    assert _refused(client).code == code


def test_whoever_says_nothing_is_sent_away(embedded: Place) -> None:
    assert _refused(embedded.client()).code == 4408


def test_there_is_no_socket_elsewhere(embedded: Place) -> None:
    for path in ("/wsx", "/ws/other", "/chat/"):
        with pytest.raises(InvalidStatus) as refused:
            Client(embedded.url + path)
        assert refused.value.response.status_code == 403


def test_nothing_secret_reaches_a_log(running: tuple[Up, Place], embedded: Place, ada: Person) -> None:
    """The process logs at DEBUG; its output is all that there is."""
    ticket, token, program = ada.ticket(), _token(embedded, ada), _program(embedded, ada)
    for query in (f"ticket={ticket}", f"token={token}", f"token={program}"):
        embedded.client(query=query).welcome()
    embedded.client(query=f"ticket={ticket}").until_closed()
    embedded.client(cookie=ada.cookie, origin=embedded.url).welcome()
    embedded.client(cookie=ada.cookie, origin="https://evil.example").until_closed()
    client = embedded.client()
    client.send("hello", version=1, token=token)
    client.welcome()
    client = embedded.client()
    client.socket.send('{"type": "hello", "token": "' + token + '"')
    client.until_closed()
    output = running[0].output()
    assert "WebSocket" in output, "it does log"
    for secret in (ticket, token, token.rpartition(".")[2], program, ada.session):
        assert secret not in output
    rows = embedded.ask("from ops.models import LogLine\nresult = [str(vars(row)) for row in LogLine.objects.all()]")
    for secret in (ticket, token, program, ada.session):
        assert not [row for row in rows if secret in row]
