"""``agent_user_mappings.json`` and the table ``agent_mappings``: which agent has which account and which room.

Variants that were seen: all eight fields; without ``invitation_status``; five fields; without ``agent_id`` (it is the key); without
``matrix_password``; ``matrix_room_id`` in place of ``room_id``; with ``removed_at``; one flat object in place of a map.
"""

from __future__ import annotations

import re
from typing import Any

from agents.importing.formats.values import moment, text, unknown_fields, valid_room_id
from agents.importing.records import Raw, Record
from agents.matrix.names import localpart_of, server_of, valid_user_id

KIND = "mapping"
TABLE = "agent_mappings"
_KNOWN = frozenset(
    {
        *("agent_id", "agent_name", "matrix_user_id", "matrix_password", "created", "room_id", "matrix_room_id", "room_created"),
        *("invitation_status", "removed_at", "created_at", "updated_at"),
    }
)  # fmt: skip
_UUID = re.compile(r"[0-9a-f]{8}_[0-9a-f]{4}_[0-9a-f]{4}_[0-9a-f]{4}_[0-9a-f]{12}")
# A number that a table's export may have put in place of the key.
_INDEX = re.compile(r"\d{0,6}")


def read(raw: Raw) -> Record | None:
    """An agent's account and room; ``None`` for anything else."""
    value = raw.value
    if not isinstance(value, dict) or not ("matrix_user_id" in value or {"agent_id", "agent_name"} <= set(value)):
        return None
    user_id, room_id, room_note = text(value.get("matrix_user_id")), *_room(value)
    agent_id, id_note = _agent_id(raw, user_id)
    name = text(value.get("agent_name"))[:255]
    record = Record(
        KIND,
        (agent_id or raw.key or user_id or f"entry {raw.line or 0}")[:255],
        raw,
        {
            "agent_id": agent_id,
            "name": name,
            "user_id": user_id,
            "password": value["matrix_password"] if isinstance(value.get("matrix_password"), str) else "",
            "room_id": room_id,
            "removed_at": _iso(value.get("removed_at")),
            "invitations": _invitations(value.get("invitation_status")),
        },
        label=name or agent_id or user_id,
        notes=(*id_note, *room_note, *unknown_fields(value, _KNOWN)),
    )
    return _examine(record)


def _examine(record: Record) -> Record:
    raw, fields = record.raw, record.fields
    if raw.twice is not None:
        return record.refused(
            "mapping.repeated", f"The agent stands in the file again, at line {raw.twice}; that entry counts."
        )
    if not fields["agent_id"]:
        return record.refused(
            "mapping.no_agent_id", "The entry does not say which agent it is about. Add its agent_id."
        )
    if len(fields["agent_id"]) > 255:
        return record.refused("mapping.agent_id_invalid", "The agent's id is longer than 255 characters.")
    own = text(raw.value.get("agent_id"))
    if own and _is_agent_key(raw.key) and own != raw.key:
        return record.refused(
            "mapping.id_differs", f"The entry stands under {raw.key[:80]}, but names {own[:80]}. Make both the same."
        )
    if not fields["user_id"]:
        return record.refused("mapping.no_account", "The entry names no account. Add its matrix_user_id.")
    if not valid_user_id(fields["user_id"]):
        return record.refused(
            "mapping.user_id_invalid", f"{fields['user_id'][:80]!r} is no Matrix user id. It looks like @name:server."
        )
    if fields["room_id"] and not valid_room_id(fields["room_id"]):
        return record.refused(
            "mapping.room_id_invalid",
            f"{fields['room_id'][:80]!r} is no room id: those begin with an exclamation mark. Correct it, or make it null.",
        )
    if raw.garbled and "\ufffd" in f"{fields['agent_id']}{fields['user_id']}{fields['room_id']}{fields['password']}":
        return record.refused("import.not_utf8", "An id or the password holds bytes that are no UTF-8.")
    return record


def _is_agent_key(key: str) -> bool:
    return not _INDEX.fullmatch(key)


def _agent_id(raw: Raw, user_id: str) -> tuple[str, tuple[str, ...]]:
    """The agent's id: its field, its key, or what the account's name was made from."""
    own = text(raw.value.get("agent_id"))
    if own:
        return own, ()
    if _is_agent_key(raw.key) and not raw.key.startswith("@"):
        return raw.key, ()
    if valid_user_id(user_id):
        bare = localpart_of(user_id).removeprefix("agent_")
        if _UUID.fullmatch(bare):
            return f"agent-{bare.replace('_', '-')}", ("The agent's id was taken from the name of its account.",)
    return "", ()


def _room(value: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    first, second = text(value.get("room_id")), text(value.get("matrix_room_id"))
    if first and second and first != second:
        return first, (f"room_id and matrix_room_id differ; {second[:80]} was left out.",)
    return first or second, ()


def _invitations(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {who: text(state) for who, state in value.items() if valid_user_id(who)}


def _iso(value: Any) -> str:
    found = moment(value) if value else None
    return found.isoformat() if found is not None else ""


def server(user_id: str) -> str:
    """The server part of an id that was examined."""
    return server_of(user_id)
