"""The predecessor's files, made here: every variant that was seen in the wild, with names and ids of our own."""

from __future__ import annotations

import json
from typing import Any

SERVER = "sb.test"


def agent_id(number: int) -> str:
    return f"agent-{number:08x}-4723-4d61-98b5-737f874ee652"


def user_id(number: int, server: str = SERVER) -> str:
    return f"@agent_{agent_id(number).removeprefix('agent-').replace('-', '_')}:{server}"


def mapping(number: int, server: str = SERVER, **fields: Any) -> dict[str, Any]:
    """All eight fields."""
    return {
        "agent_id": agent_id(number),
        "agent_name": f"Agent {number}",
        "matrix_user_id": user_id(number, server),
        "matrix_password": f"word-of-agent-{number}",
        "created": True,
        "room_id": f"!room{number}:{server}",
        "room_created": True,
        "invitation_status": {f"@admin:{server}": "invited", f"@letta:{server}": "failed"},
    } | fields


def without(entry: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in names}


def file_of(*entries: dict[str, Any]) -> dict[str, Any]:
    return {agent_id_of(entry): entry for entry in entries}


def agent_id_of(entry: dict[str, Any]) -> str:
    bare = entry["matrix_user_id"].partition(":")[0].removeprefix("@agent_")
    return str(entry.get("agent_id") or f"agent-{bare.replace('_', '-')}")


def as_bytes(value: Any) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode()


def request(number: int, sender: str, to: str, **fields: Any) -> dict[str, Any]:
    """One record of ``async_requests.json``."""
    return {
        "tracking_id": f"0000000{number}-aaaa-4bbb-8ccc-dddddddddddd",
        "from_agent_id": sender,
        "to_agent_id": to,
        "message": f"Question {number}?",
        "status": "completed",
        "created_at": 1763160328.39 + number,
        "timeout_at": 1763160628.39 + number,
        "response": f"Answer {number}.",
        "error": None,
        "completed_at": 1763160400.1 + number,
    } | fields
