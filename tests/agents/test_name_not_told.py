"""Client mode and a homeserver that says its name only to accounts of its own: how a move and a new server name know which one it is."""

from __future__ import annotations

import pytest

from agents.doctor.recovery.moved import MOVED
from agents.services.renaming import CannotRename, NameNotTold, renaming_plan
from ops.doctor.repairs import RepairRefused
from ops.models import Service
from ops.services.repairs import repair_plan
from tests.agents.test_sessions import Door, account, door, homeserver
from tests.peers.ports import free_port

__all__ = ["door"]

pytestmark = pytest.mark.django_db


@pytest.fixture
def service(door: Door) -> Service:
    """Ours, at an address where nobody is any more; Switchboard's own account has a session, the agent's too."""
    made = homeserver(door)
    for name in ("switchboard", "agent_ada"):
        account(made, name, access_token=f"token-of-{name}")
    Service.objects.update(base_url=f"http://127.0.0.1:{free_port()}")
    return Service.objects.get()


def move_to(url: str) -> set[tuple[str, object, object]]:
    planned = repair_plan(repair_id=MOVED, params={"homeserver_url": url}, actor="test").plan
    return {(one.target, one.before, one.after) for one in planned.changes}


def test_a_move_asks_with_the_session_of_our_own_account(door: Door, service: Service) -> None:
    door.tokens["token-of-switchboard"] = "@switchboard:h.test"
    assert move_to(door.url) == {("service:homeserver", service.base_url, door.url)}
    assert {token for _, _, token in door.asked} == {"", "token-of-switchboard"}


def test_a_move_to_where_our_own_account_is_not_known_is_refused(door: Door, service: Service, settings) -> None:
    settings.MATRIX_SERVER_NAME = "h.test"
    with pytest.raises(RepairRefused, match=f"own account has no session there.*rename-server NAME --url {door.url}"):
        move_to(door.url)
    door.tokens["token-of-switchboard"] = "@switchboard:other.test"
    with pytest.raises(RepairRefused, match=r"calls itself other.test; ours is h.test"):
        move_to(door.url)


def test_another_server_is_called_what_the_settings_say(door: Door, service: Service, settings) -> None:
    settings.MATRIX_SERVER_NAME = "h.test"
    with pytest.raises(NameNotTold, match=r"Set MATRIX_SERVER_NAME=new.test if that is its name"):
        renaming_plan(service=service, new_name="new.test", url=door.url)
    settings.MATRIX_SERVER_NAME = "new.test"
    planned = renaming_plan(service=service, new_name="new.test", url=door.url)
    assert (planned.new_name, planned.accounts) == ("new.test", 2)
    with pytest.raises(CannotRename, match="cannot be asked for its name"):
        renaming_plan(service=service, new_name="new.test", url=service.base_url)
