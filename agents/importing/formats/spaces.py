"""``letta_space_config.json``: the space that lists the agents' rooms. ``created_at`` is seconds, whole or not."""

from __future__ import annotations

from typing import Any

from agents.importing.formats.values import moment, text, unknown_fields, valid_room_id
from agents.importing.mend_json import Mended, mend
from agents.importing.records import Raw, Record

KIND = "space"
_KNOWN = frozenset({"space_id", "created_at", "name"})


def read(raw: Raw) -> Record | None:
    """The space; ``None`` for anything else."""
    value = raw.value
    if not isinstance(value, dict) or "space_id" not in value:
        return None
    space_id, name = text(value["space_id"]), text(value.get("name"))[:255]
    made = moment(value.get("created_at"))
    record = Record(
        KIND,
        space_id[:255] or "space",
        raw,
        {"room_id": space_id, "name": name, "created_at": made.isoformat() if made else ""},
        label=name or space_id,
        notes=unknown_fields(value, _KNOWN),
    )
    if not valid_room_id(space_id):
        return record.refused(
            "space.id_invalid",
            f"{space_id[:80]!r} is no room id: those begin with an exclamation mark. Correct space_id.",
        )
    return record


def mended(document: str) -> Mended | None:
    """A configuration of the space that hands have broken, put right; ``None`` when that cannot be done without guessing."""
    return mend(document, _is_space) if "space_id" in document else None


def _is_space(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) <= {*_KNOWN, "updated_at", "version"}
        and valid_room_id(text(value.get("space_id")))
        and isinstance(value.get("name", ""), str)
        and not (set(text(value.get("name"))) & set('{}":'))
        and (value.get("created_at") is None or moment(value["created_at"]) is not None)
    )
