"""What a homeserver calls: only it may, and what it brings is committed, once, before it is acknowledged."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from django.db import DatabaseError

from agents.models import Agent, Room
from chat.intake import store as store_module
from chat.matrix import views
from chat.models import Conversation, Message, Turn
from ops.models import Service
from tests.chat.intake.helpers import event
from tests.support.fake_homeserver import HS_TOKEN, SERVER_NAME
from tests.support.stage import ALICE, Stage, in_threads

pytestmark = pytest.mark.django_db


def test_a_transaction_becomes_messages_and_turns(house: Stage, client: Any) -> None:
    answer = house.push(client, event(house, "One"), event(house, "Two"))
    assert (answer.status_code, answer.json()) == (200, {})
    one, two = Message.objects.order_by("seq")
    assert (one.text, two.text, two.seq - one.seq) == ("One", "Two", 1)
    assert one.transport == "matrix"
    assert one.sender.external_id == ALICE
    assert one.said_at is not None
    assert list(Turn.objects.order_by("id").values_list("message_id", "state")) == [
        (one.pk, "queued"),
        (two.pk, "queued"),
    ]


@pytest.mark.parametrize(
    ("headers", "query", "status", "errcode"),
    [
        ({}, "", 401, "M_MISSING_TOKEN"),
        ({"Authorization": "Bearer wrong"}, "", 403, "M_FORBIDDEN"),
        ({"Authorization": "Bearer "}, "", 401, "M_MISSING_TOKEN"),
        ({"Authorization": f"Basic {HS_TOKEN}"}, "", 401, "M_MISSING_TOKEN"),
        ({}, "?access_token=wrong", 403, "M_FORBIDDEN"),
        ({}, f"?access_token={HS_TOKEN}", 200, None),
        ({"Authorization": f"bearer {HS_TOKEN}"}, "", 200, None),
        ({"Authorization": "Bearer wröng"}, "", 403, "M_FORBIDDEN"),
    ],
    ids=range(8),
)
def test_only_the_homeserver_may_call(
    house: Stage, client: Any, headers: dict[str, str], query: str, status: int, errcode: str | None
) -> None:
    body = json.dumps({"events": [event(house)]})
    answer = client.put(
        f"/_matrix/app/v1/transactions/1{query}", body, content_type="application/json", headers=headers
    )
    assert (answer.status_code, answer.json().get("errcode")) == (status, errcode)
    assert Message.objects.count() == (1 if status == 200 else 0)


def test_the_old_address_works_too(house: Stage, client: Any) -> None:
    body = json.dumps({"events": [event(house)]})
    assert (
        client.put(f"/transactions/1?access_token={HS_TOKEN}", body, content_type="application/json").status_code == 200
    )
    assert Message.objects.count() == 1


@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        ("{", "M_NOT_JSON"),
        ("", "M_NOT_JSON"),
        (b"\xff\xfe", "M_NOT_JSON"),
        ("[" * 100_000, "M_NOT_JSON"),
        ("[]", "M_BAD_JSON"),
        ("{}", "M_BAD_JSON"),
        ('{"events": {}}', "M_BAD_JSON"),
        ('{"events": null}', "M_BAD_JSON"),
        ("null", "M_BAD_JSON"),
    ],
    ids=range(9),
)
def test_a_body_that_is_no_transaction(house: Stage, client: Any, body: Any, errcode: str) -> None:
    answer = house.push(client, body=body)
    assert (answer.status_code, answer.json()["errcode"]) == (400, errcode)
    assert Message.objects.count() == 0


def test_an_empty_transaction_is_fine(house: Stage, client: Any) -> None:
    assert (
        house.push(client, body='{"events": [], "ephemeral": [1], "de.sorunome.msc2409.to_device": null}').status_code
        == 200
    )


def test_a_transaction_that_is_too_large_is_not_even_parsed(
    house: Stage, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "MAX_BODY", 1000)
    assert house.push(client, event(house, "x" * 2000)).status_code == 413
    assert Message.objects.count() == 0


def test_a_large_transaction_is_taken(house: Stage, client: Any) -> None:
    assert house.push(client, *(event(house, f"{number} " + "y" * 20_000) for number in range(100))).status_code == 200
    assert list(Message.objects.order_by("seq").values_list("text", flat=True)[:2]) == [
        "0 " + "y" * 20_000,
        "1 " + "y" * 20_000,
    ]
    assert Message.objects.count() == 100


def test_other_methods_and_parts_of_the_interface(house: Stage, client: Any) -> None:
    headers = {"Authorization": f"Bearer {HS_TOKEN}"}
    assert client.get("/_matrix/app/v1/transactions/1", headers=headers).status_code == 405
    assert client.get("/_matrix/app/v1/thirdparty/protocol/irc", headers=headers).json()["errcode"] == "M_UNRECOGNIZED"
    assert client.get("/_matrix/app/v1/ping", headers=headers).status_code == 405
    assert (
        client.post("/_matrix/app/v1/ping", "{}", content_type="application/json", headers=headers).status_code == 200
    )
    assert client.post("/_matrix/app/v1/ping", "{}", content_type="application/json").status_code == 401


def test_without_a_homeserver_nobody_may_call(house: Stage, client: Any) -> None:
    body = event(house)
    Service.objects.filter(kind="homeserver").update(enabled=False)
    assert house.push(client, body).status_code == 403


def test_user_queries_make_agents_accounts(house: Stage, client: Any) -> None:
    headers = {"Authorization": f"Bearer {HS_TOKEN}"}
    user = house.mapping().account.user_id

    def ask(name: str) -> int:
        return int(client.get(f"/_matrix/app/v1/users/{name}", headers=headers).status_code)

    house.fake.lose_account(user)
    assert ask(user.replace("@", "%40").replace(":", "%3A")) == 200
    assert user in house.fake.users
    assert ask(f"@switchboard:{SERVER_NAME}") == 200
    assert ask(f"@agent_nobody:{SERVER_NAME}") == 404
    assert ask("%00") == 404
    Agent.objects.update(state="archived")
    assert ask(user) == 404
    assert client.get(f"/_matrix/app/v1/users/{user}").status_code == 401


def test_room_queries_make_agents_rooms(house: Stage, client: Any) -> None:
    headers = {"Authorization": f"Bearer {HS_TOKEN}"}
    alias = house.room().alias
    Room.objects.filter(kind="agent").update(room_id=None)
    house.fake.aliases.pop(alias)
    path = "/_matrix/app/v1/rooms/" + alias.replace("#", "%23")
    assert client.get(path, headers=headers).status_code == 200
    assert house.fake.aliases[alias] == house.room().room_id
    made = len(house.fake.rooms)
    assert client.get(path, headers=headers).status_code == 200
    assert len(house.fake.rooms) == made
    assert client.get("/_matrix/app/v1/rooms/%23nobody:x", headers=headers).status_code == 404


def test_a_homeserver_that_does_not_answer_a_query_back(house: Stage, client: Any) -> None:
    house.fake.fail("register", times=5, status=502)
    answer = client.get(
        f"/_matrix/app/v1/users/{house.mapping().account.user_id}", headers={"Authorization": f"Bearer {HS_TOKEN}"}
    )
    assert answer.status_code == 503


def test_a_database_failure_is_not_acknowledged(house: Stage, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said = [event(house, "One"), event(house, "Two")]

    def broken(*arguments: Any, **named: Any) -> None:
        raise DatabaseError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "lane_of", broken)
        assert house.push(client, *said).status_code == 503
    assert (Message.objects.count(), Turn.objects.count()) == (0, 0), "all or nothing"
    assert house.push(client, *said).status_code == 200
    assert Message.objects.count() == 2


def test_what_could_not_be_stored_does_not_count_as_seen(
    house: Stage, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = event(house)

    def broken(*arguments: Any, **named: Any) -> None:
        raise DatabaseError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "lane_of", broken)
        house.push(client, said)
    assert house.room().last_event_id != said["event_id"]
    house.push(client, said)
    assert house.room().last_event_id == said["event_id"]


def test_the_same_event_again_is_one_message(house: Stage, client: Any) -> None:
    said = event(house)
    for txn in ("1", "1", "2"):
        assert house.push(client, said, said, txn=txn).status_code == 200
    assert (Message.objects.count(), Turn.objects.count()) == (1, 1)


def test_transactions_out_of_order_lose_nothing(house: Stage, client: Any) -> None:
    one, two, three = (event(house, text) for text in ("One", "Two", "Three"))
    for txn, said in (("3", three), ("1", one), ("2", two), ("1", one)):
        house.push(client, said, txn=txn)
    assert sorted(Message.objects.values_list("text", flat=True)) == ["One", "Three", "Two"]
    assert sorted(Message.objects.values_list("seq", flat=True)) == [1, 2, 3]


@pytest.mark.django_db(transaction=True)
def test_the_same_event_in_many_threads_at_once_is_one_message(house: Stage) -> None:
    said = [event(house, f"Number {number}") for number in range(5)]
    for _ in range(3):
        results = in_threads(6, lambda number: house.receive(*said))
        assert [result for result in results if isinstance(result, BaseException)] == []
    assert (Message.objects.count(), Turn.objects.count(), Conversation.objects.count()) == (5, 5, 1)
    assert list(Message.objects.order_by("seq").values_list("seq", flat=True)) == [1, 2, 3, 4, 5]


@pytest.mark.django_db(transaction=True)
def test_the_real_path_through_the_pool_of_threads(stage: Stage, client: Any) -> None:
    stage.enters(stage.agent())
    said = event(stage)
    results = in_threads(2, lambda number: stage.push(type(client)(), said, txn=str(number)).status_code)
    assert results == [200, 200]
    assert Message.objects.count() == 1
    close = views._pool.submit
    for future in [
        close(lambda: (time.sleep(0.05), __import__("django.db").db.connections.close_all())) for _ in range(4)
    ]:
        future.result()
