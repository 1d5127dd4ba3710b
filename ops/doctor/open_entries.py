"""Entries of the catalogue that wait for a part which is not built yet. Each part takes its own out of here."""

from __future__ import annotations

from ops.doctor.catalogue import entries, register_open

_BY_GROUP = {"K": "voice", "L": "conversations between agents"}
_ONE_BY_ONE = {
    "mcp.websocket": "the MCP server",
    "ci.env_sensitive": "the examination of build servers",
}

for _entry in entries():
    _part = _ONE_BY_ONE.get(_entry.id) or _BY_GROUP.get(_entry.group)
    if _part:
        register_open(_entry.id, part=_part)
