"""Bringing an account into a private room in which the administrator is not: he goes in, invites, and leaves as he came."""

from __future__ import annotations

import contextlib
from typing import Any

from agents.matrix.admin.synapse import SynapseAdmin
from agents.matrix.calls import V3, dumps, room_path
from agents.matrix.errors import Forbidden, MatrixError
from agents.matrix.transport import Transport, quote_part
from agents.services.backends import Homeserver
from agents.services.homeserver_access import Administrator

_LEVELS = "m.room.power_levels"


def join_through_administrator(
    homeserver: Homeserver,
    api: SynapseAdmin,
    administrator: Administrator,
    room_id: str,
    user_id: str,
    refusal: Forbidden,
) -> None:
    """``POST /v1/join`` invites as the administrator, who must be in the room for that.

    Where he is not, he is given the power of the room's strongest local member, joins, and afterwards takes his power back and
    leaves. Raises ``MatrixError``: the first refusal when he was in the room already, or nobody local has power there.
    """
    http = Transport(homeserver.service.base_url, administrator.token, pool_size=1)
    try:
        if _is_in(http, room_id):
            raise refusal
        api.make_room_admin(room_id, administrator.user_id)
        try:
            http.call("POST", f"{V3}/join/{quote_part(room_id)}", "{}", action="join the room", timeout=60.0)
            api.join_user(room_id, user_id)
        finally:
            _step_out(http, room_id, administrator.user_id)
    finally:
        http.close()


def _is_in(http: Transport, room_id: str) -> bool:
    found: Any = http.call("GET", f"{V3}/joined_rooms", action="list its rooms").get("joined_rooms")
    return isinstance(found, list) and room_id in found


def _step_out(http: Transport, room_id: str, user_id: str) -> None:
    """Take our own entry out of the power levels and leave; what fails of it keeps nobody from being in the room."""
    with contextlib.suppress(MatrixError):
        levels = http.call("GET", room_path(room_id, "state", _LEVELS, ""), action="read the power levels")
        users = levels.get("users")
        if isinstance(users, dict) and user_id in users:
            levels["users"] = {one: level for one, level in users.items() if one != user_id}
            path = room_path(room_id, "state", _LEVELS, "")
            http.call("PUT", path, dumps(levels), action="take our power back")
    with contextlib.suppress(MatrixError):
        http.call("POST", room_path(room_id, "leave"), "{}", action="leave the room")
