"""Which account and alias belong to an agent. Pure: the same id gives the same name for ever, on every machine.

The names derive from the agent's id alone, so a lost database can be rebuilt from the homeserver. Matrix user ids: specification,
appendices, "User Identifiers" (``a-z0-9._=/+-`` in a localpart, 255 bytes for the whole id).
"""

from __future__ import annotations

import hashlib
import re

MAX_ID_BYTES = 255
# Room for ``@`` or ``#``, ``:`` and a server name: an account must not change its name because the server's is long.
_MAX_LOCALPART = 120
_HASH_LENGTH = 12
_LETTA_ID = re.compile(r"agent-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_OUTSIDE = re.compile(r"[^a-z0-9_]")
_LOCALPART = re.compile(r"[a-z0-9._=/+\-]+")
# Ids from before the specification narrowed them may hold any printable ASCII character except the colon.
_HISTORICAL_LOCALPART = re.compile(r"[\x21-\x39\x3b-\x7e]+")
_SERVER = re.compile(r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.\-]{1,255})(?::[0-9]{1,5})?")


def localpart_for(external_id: str, *, prefix: str = "agent_", scope: str = "") -> str:
    """The localpart of the account (and of the room's alias) of an agent.

    ``agent-<uuid>`` becomes ``<prefix><uuid with underscores>``, the rule of the bridge that Switchboard replaces, so that its
    accounts are found again. Any other id is lower-cased and cleaned, ``scope`` (the service's slug) is put before it, and a hash
    of scope and id is appended whenever cleaning lost something or the result is long: two ids never share an account.
    """
    if not external_id:
        raise ValueError("An agent without an id cannot have an account")
    if not scope and _LETTA_ID.fullmatch(external_id):
        return prefix + external_id.removeprefix("agent-").replace("-", "_")
    bare = external_id.removeprefix("agent-")
    name = _OUTSIDE.sub("", bare.replace("-", "_").lower())
    slug = _OUTSIDE.sub("", scope.replace("-", "_").lower())
    stem = f"{slug}_{name}" if slug else name
    room = _MAX_LOCALPART - len(prefix)
    # Underscores are what "-" and the seam between slug and name become, so only ids without either are told apart by the stem.
    lossless = name == external_id and slug == scope and "_" not in name and "_" not in slug
    if lossless and len(stem) <= room and not _looks_hashed(stem):
        return prefix + stem
    digest = hashlib.sha256(f"{scope}\0{external_id}".encode(errors="surrogatepass")).hexdigest()[:_HASH_LENGTH]
    stem = stem[: room - _HASH_LENGTH - 1].strip("_")
    return f"{prefix}{stem}_{digest}" if stem else prefix + digest
