"""What a rebuild concludes from what the homeserver has: marks, addresses, creators; and what it leaves to an operator."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command

from agents.models import Account, Agent, Invitation, Mapping, Room
from agents.services.backends import open_homeserver
from agents.services.moving import agent_move
from agents.services.rebuild import rebuild_apply, rebuild_plan
from agents.sync.seen import look_at, look_through
from chat.models import Participant, Turn
from chat.turns.run import idempotency_id
from tests.support.fake_homeserver import SERVER_NAME
from tests.support.stage import ALICE, Stage

pytestmark = pytest.mark.django_db
NAMES = ("Ada", "Bea", "Cy", "Dan", "Eve")


@pytest.fixture
def house(stage: Stage, settings: Any) -> Stage:
    settings.MATRIX_INVITE = [ALICE]
    stage.homeserver()
    stage.service()
    stage.lists("scripts", *NAMES)
    stage.sync()
    return stage


def found() -> dict[str, tuple[str, str | None]]:
    return {
        mapping.agent.external_id: (mapping.account.user_id, mapping.room.room_id if mapping.room else None)
        for mapping in Mapping.objects.select_related("agent", "account", "room")
    }


def lose_rows() -> None:
    for model in (Participant, Invitation, Mapping, Account, Room, Agent):
        model.objects.all().delete()


def rebuild() -> Any:
    plan = rebuild_plan(homeserver=open_homeserver())
    return plan, rebuild_apply(plan=plan, actor="test")


def test_everything_is_found_and_the_next_pass_has_nothing_to_do(house: Stage) -> None:
    before, made = found(), len(house.fake.calls("createRoom"))
    house.fake.person_joins(str(house.room("Ada").room_id), ALICE)
    lose_rows()
    plan, report = rebuild()
    assert found() == before
    assert {claim.how for claim in plan.search.claims} == {"alias"}
    assert report.counts == {"space": 1, "mapping": 5, "account": 5, "room": 5, "invitation": 5}
    assert Invitation.objects.get(room=house.room("Ada"), user_id=ALICE).state == "joined"
    assert house.sync().plan.steps == []
    assert len(house.fake.calls("createRoom")) == made
    assert rebuild_plan(homeserver=open_homeserver()).writes is False


def test_an_agent_that_had_moved_is_found_by_its_mark(house: Stage) -> None:
    other = house.service("elsewhere")
    house.lists(other, "New")
    agent_move(agent=house.fresh("Ada"), service=other, external_id="id-new", actor="test")
    before = found()
    lose_rows()
    plan, _ = rebuild()
    assert found()["id-new"] == before["id-new"]
    assert next(claim for claim in plan.search.claims if claim.wanted.info.external_id == "id-new").how == "mark"
    assert [one.info.external_id for one in plan.search.absent] == ["id-ada"], "the name was taken along"


def test_two_rooms_without_a_sign_are_a_doubt(house: Stage, capsys: Any) -> None:
    mapping = house.mapping("Bea")
    assert mapping.room is not None
    client, account, first = open_homeserver().client, mapping.account.user_id, str(mapping.room.room_id)
    second = client.create_room(user_id=account, name="Bea", preset="private_chat")
    space = str(Room.objects.get(kind="space").room_id)
    client.delete_alias(mapping.room.alias, account)
    client.remove_from_space(space, first, user_id=None)
    lose_rows()
    with pytest.raises(SystemExit) as ended:
        call_command("rebuild_mappings", as_json=True)
    assert ended.value.code == 2
    said = json.loads(capsys.readouterr().out)
    assert [sorted(one["rooms"]) for one in said["doubts"]] == [sorted([first, second])]
    assert set(found()) == {"id-ada", "id-cy", "id-dan", "id-eve"}
    # The space lists one of them: that is a sign.
    client.add_to_space(space, first, user_id=None)
    call_command("rebuild_mappings")
    assert found()["id-bea"] == (account, first)


def test_an_agent_that_was_put_out_of_its_room_keeps_it(house: Stage) -> None:
    mapping = house.mapping("Cy")
    assert mapping.room is not None
    room = house.fake.rooms[str(mapping.room.room_id)]
    room.state.pop(("m.room.member", mapping.account.user_id))
    before = found()
    lose_rows()
    rebuild()
    assert found() == before


def test_another_agents_account_is_nobodys_while_that_agent_is_in_no_list(house: Stage) -> None:
    gone = house.mapping("Eve").account.user_id
    lose_rows()
    house.lists("scripts", *NAMES[:4])
    plan, _ = rebuild()
    assert plan.search.unclaimed == []
    assert gone not in {account for account, _ in found().values()}
    house.fake.person_joins(str(Room.objects.get(kind="space").room_id), gone)
    assert rebuild_plan(homeserver=open_homeserver()).search.unclaimed == [gone]


def test_without_their_sessions_agents_are_seen_through_switchboards_own_account(house: Stage) -> None:
    homeserver = open_homeserver()
    for name in NAMES:
        house.fake.person_joins(str(house.room(name).room_id), homeserver.sender_id)
    accounts = [house.mapping(name).account.user_id for name in NAMES]
    seen = look_through(homeserver, accounts)
    for account in accounts:
        alone = look_at(homeserver, account)
        assert alone is not None
        assert seen[account] == alone
    assert f"@switchboard:{SERVER_NAME}" not in seen


def test_rows_begun_anew_have_other_ids_for_the_servers(house: Stage) -> None:
    """The same numbers in a new database: a server that recognises repeats would give the answer of the former life."""
    agent = house.fresh("Ada")
    house.enters(agent)
    house.says(agent, "Hello")
    turn = Turn.objects.select_related("message").get()
    first = idempotency_id(turn)
    assert idempotency_id(Turn.objects.select_related("message").get()) == first
    turn.message.stored_at += timedelta(days=1)
    assert idempotency_id(turn) != first
