"""A homeserver of another name takes the place of ours in client mode: accounts, rooms and devices begin anew there, and the former ones are
found again when it comes back. With a real Synapse of each name, and a person with an encrypting client on both.
"""

from __future__ import annotations

import pytest

from tests.agents.matrix.crypto.people import Someone
from tests.e2e.client_house import ClientHouse, people
from tests.e2e.matrix_client import run
from tests.e2e.test_recovery_client_mode import SECRETS, house, undo
from tests.e2e.test_restore import ROOMS
from tests.peers.synapse import Synapse

__all__ = ["house"]

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]


def to_environment(house: ClientHouse, **settings: str) -> None:
    """As whoever edits the file of the service does."""
    house.up.environment |= settings
    house.ask_anew()


def history(house: ClientHouse, room: str) -> list[str]:
    """What a room was told of what had been said before it was made."""
    found: list[str] = []

    async def look() -> None:
        async with house.person() as ann:
            events = [one for one in await ann.all_messages(room) if one["type"] == "m.room.message"]
            found.extend(one["content"]["body"] for one in events if one["content"].get("m.letta_historical"))

    run(look)
    return found


def rename(house: ClientHouse, *arguments: str, expect: int = 0) -> str:
    return house.up.manage("homeserver", "rename-server", *arguments, expect=expect)


def test_a_homeserver_of_another_name_takes_its_place_and_the_former_comes_back(house: ClientHouse) -> None:
    """Accounts, rooms and devices begin anew there; agents and what was said stay, and nothing old is answered."""
    former, ann, cleo, sealed, rooms = house.synapse, house.ann, house.cleo, house.sealed, dict(house.rooms)
    before, secrets = (house.there(), house.accounts()), house.stack.ask(SECRETS)
    house.stop()
    with Synapse(server_name="new.test") as new:
        assert "Set MATRIX_SERVER_NAME=new.test" in rename(house, "new.test", "--url", new.url, "--yes", expect=2)
        to_environment(house, MATRIX_SERVER_NAME="new.test")
        assert "MATRIX_HOMESERVER_URL" in rename(house, "new.test", "--url", new.url, "--yes", expect=2)
        to_environment(house, MATRIX_HOMESERVER_URL=new.url, MATRIX_ADMIN_TOKEN="", MATRIX_INVITE="@ann:new.test")
        planned = rename(house, "new.test", "--url", new.url, "--dry-run")
        assert "Switchboard's own account is another one there" in planned
        rename(house, "new.test", "--url", new.url, "--yes")
        assert house.stack.ask(SECRETS) == {user.replace(":sb.test", ":new.test"): {} for user in secrets}
        undo(house, "homeserver.rename")
        assert (house.stack.ask(SECRETS), house.stack.ask(ROOMS)) == (secrets, rooms)

        rename(house, "new.test", "--url", new.url, "--yes")
        house.up.manage("provision")
        said = house.up.manage("sync_agents", expect=1)
        assert "Registration has been disabled" in said, said
        to_environment(house, MATRIX_REGISTRATION_SHARED_SECRET=new.shared_secret)
        house.up.manage("provision")
        house.up.manage("sync_agents")
        house.synapse, house.ann = new, new.register_user("ann", "ann-has-a-password")
        house.cleo = Someone(new, house.folder / "cleo-there", "cleo")
        house.start()
        house.rooms = house.stack.ask(ROOMS)
        assert {name: row[0] for name, row in house.rooms.items()} == {
            name: row[0].replace(":sb.test", ":new.test") for name, row in rooms.items()
        }
        assert not {row[1] for row in house.rooms.values()} & {row[1] for row in rooms.values()}
        account, room = house.agent(0)
        house.talk((room, "said on the other server"))
        house.sealed = house.open_sealed(account)
        house.say_sealed("sealed on the other server")
        assert any(one.endswith("said before") for one in history(house, room)), "what was said is told in the new room"
        house.settle()
        assert house.given() == dict.fromkeys(house.said, 1)
        assert [text for text, _ in people(house, room)][-1:] == ["said on the other server"]
        assert "said before" in [text for text, _ in people(house, room)]
        house.stop()
        assert "were made on new.test meanwhile" in undo(house, "homeserver.rename", expect=2)

    to_environment(
        house,
        MATRIX_SERVER_NAME="sb.test",
        MATRIX_HOMESERVER_URL=former.url,
        MATRIX_REGISTRATION_SHARED_SECRET=former.shared_secret,
        MATRIX_ADMIN_TOKEN=house.admin.access_token,
        MATRIX_INVITE="@ann:sb.test",
    )
    house.synapse, house.ann, house.cleo, house.sealed = former, ann, cleo, sealed
    rename(house, "sb.test", "--url", former.url, "--yes")
    house.up.manage("provision")
    house.up.manage("sync_agents")
    assert house.stack.ask(ROOMS) == rooms, "the former rooms are found by their addresses"
    house.rooms = rooms
    house.start()
    house.talk((rooms[sorted(rooms)[0]][1], "said on the former server again"))
    house.settle()
    assert house.given() == dict.fromkeys(house.said, 1)
    assert (house.there(), house.accounts()) == before, "no room and no account was made"
