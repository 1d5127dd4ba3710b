"""An installation that was an appservice goes on in client mode (embedded, ``up``): the same rooms, and nothing that was said is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.matrix_client import Person, run
from tests.peers.synapse import MatrixUser, Synapse
from tests.up.running import Up

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

ROOMS = "from agents.models import Room\nresult=sorted(Room.objects.values_list('room_id', flat=True))"
ECHO = (
    "from agents.models import Mapping\n"
    "result=list(Mapping.objects.values_list('account__user_id','room__room_id').get(agent__name='Echo'))"
)
SESSIONS = (
    "from agents.services.sessions import sessions_check, sessions_wanted\n"
    "from agents.services.backends import open_homeserver\n"
    "found=sessions_check()\n"
    "rows=sessions_wanted(open_homeserver())\n"
    "result=[sorted(set(rows.values_list('session', flat=True))), rows.count(), found.refused]"
)


class Moved:
    """The installation after the move, and what it had before."""

    def __init__(self, up: Up, synapse: Synapse, ann: MatrixUser, admin: MatrixUser) -> None:
        self.up, self.synapse, self.ann, self.admin = up, synapse, ann, admin
        self.rooms: list[str] = up.ask(ROOMS)
        self.agent, self.room = up.ask(ECHO)

    def person(self) -> Person:
        return Person(self.synapse.url, self.ann.user_id, self.ann.password)

    def rooms_there(self) -> int:
        headers = {"Authorization": f"Bearer {self.admin.access_token}"}
        answer = httpx.get(f"{self.synapse.url}/_synapse/admin/v1/rooms?limit=1", headers=headers, timeout=20)
        return int(answer.raise_for_status().json()["total_rooms"])


@pytest.fixture(scope="module")
def moved(tmp_path_factory: Any) -> Iterator[Moved]:
    folder: Path = tmp_path_factory.mktemp("moved")
    synapse = Synapse(server_name="moved.test")
    up = Up(
        folder,
        "--no-homeserver",
        MATRIX_HOMESERVER_URL=synapse.url,
        MATRIX_SERVER_NAME="moved.test",
        MATRIX_INVITE="@ann:moved.test",
        DEMO_AGENTS="true",
    )
    registration = folder / "registration.yaml"
    up.manage("registration", "--output", str(registration), "--url", up.url)
    synapse.registration = registration
    with synapse:
        ann = synapse.register_user("ann", "ann-has-a-password")
        admin = synapse.register_user("root", "root-has-a-password", admin=True)
        up.start(180)
        made = Moved(up, synapse, ann, admin)

        async def ask() -> None:
            async with made.person() as person:
                await person.join(made.room)
                await person.say(made.room, "said before the move")
                await person.until(
                    lambda: any("before the move" in text for text in person.said_in(made.room)), 60, up.output()
                )
                up.stop()
                await person.say(made.room, "said in between")

        run(ask)
        synapse.use_registration(None)
        synapse.restart()
        up.environment |= {"MATRIX_MODE": "client", "MATRIX_ADMIN_TOKEN": admin.access_token}
        up.start(180)
        yield made
        up.stop()


def test_rooms_and_accounts_are_kept_and_what_was_said_in_between_is_answered(moved: Moved) -> None:
    async def as_ann() -> None:
        async with moved.person() as ann:

            def answers(words: str) -> int:
                return sum(words in text for text in ann.said_in(moved.room, moved.agent))

            await ann.until(lambda: answers("in between") > 0, 90, moved.up.output())
            await ann.say(moved.room, "and after it")
            await ann.until(lambda: answers("after it") > 0, 60, moved.up.output())
            assert (answers("in between"), answers("after it")) == (1, 1)
            written = await ann.all_messages(moved.room)
            again = [
                event for event in written if event["sender"] == moved.agent and "m.relates_to" not in event["content"]
            ]
            assert sum("before the move" in event["content"].get("body", "") for event in again) == 1

    run(as_ann)
    moved.up.manage("sync_agents")
    assert moved.up.ask(ROOMS) == moved.rooms
    assert moved.rooms_there() == len(moved.rooms)
    states, count, refused = moved.up.ask(SESSIONS)
    assert (states, refused) == (["good"], {})
    assert count == len(moved.rooms)


def test_what_needs_an_appservice_says_why_it_has_nothing_to_do(moved: Moved) -> None:
    assert "client mode" in moved.up.manage("registration", expect=1)
    assert "as_token" in moved.up.manage("registration", "--anyway")
    said = moved.up.manage("doctor", "matrix.login_failed", "homeserver.reachable")
    assert "by a session of its own" in said
    assert "Client mode" in said
