"""``identities.json`` of the identity bridge, and the table ``identities``: accounts with the tokens of their sessions."""

from __future__ import annotations

from agents.importing.formats.values import text, unknown_fields
from agents.importing.records import Raw, Record
from agents.matrix.names import valid_user_id

KIND = "identity"
TABLE = "identities"
_KNOWN = frozenset(
    {
        *("id", "mxid", "displayName", "avatarUrl", "accessToken", "password", "type", "createdAt", "lastUsedAt", "deviceId"),
        *("isActive", "identity_type", "display_name", "avatar_url", "access_token", "password_hash", "device_id"),
        *("created_at", "updated_at", "last_used_at", "is_active"),
    }
)  # fmt: skip


def read(raw: Raw) -> Record | None:
    """An account with its session; ``None`` for anything else."""
    value = raw.value
    if not isinstance(value, dict) or "mxid" not in value:
        return None
    mxid = text(value["mxid"])
    name = text(value.get("displayName")) or text(value.get("display_name"))
    record = Record(
        KIND,
        (mxid or text(value.get("id")) or raw.key)[:255],
        raw,
        {
            "id": text(value.get("id")) or raw.key,
            "user_id": mxid,
            "name": name[:255],
            "type": text(value.get("type")) or text(value.get("identity_type")),
            "access_token": text(value.get("accessToken")) or text(value.get("access_token")),
            # ``password_hash`` of the table is one: nobody can log in with it.
            "password": value["password"] if isinstance(value.get("password"), str) else "",
            "device_id": text(value.get("deviceId")) or text(value.get("device_id")),
            "active": value.get("isActive", value.get("is_active")) not in (False, 0),
        },
        label=name or mxid,
        notes=unknown_fields(value, _KNOWN),
    )
    if raw.twice is not None:
        return record.refused(
            "identity.repeated", f"It stands in the file again, at line {raw.twice}; that entry counts."
        )
    if not valid_user_id(mxid):
        return record.refused(
            "identity.mxid_invalid", f"{mxid[:80]!r} is no Matrix user id. It looks like @name:server."
        )
    return record
