"""Which account and alias belong to an agent. Pure: the same id gives the same name for ever, on every machine.

The names derive from the agent's id alone, so a lost database can be rebuilt from the homeserver. Matrix user ids: specification,
appendices, "User Identifiers" (``a-z0-9._=/+-`` in a localpart, 255 bytes for the whole id).
"""

from __future__ import annotations

import base64
import hashlib
import re

MAX_ID_BYTES = 255
# Leaves room for a sigil, a colon and a server name of 133 bytes.
_MAX_LOCALPART = 120
_HASH_LENGTH = 16
# Only these can be undone ("_" back to "-"), so only these need no hash.
_PLAIN = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_OUTSIDE = re.compile(r"[^a-z0-9_]+")
# Ids from before the specification narrowed them may hold any printable ASCII character except the colon.
_LOCALPART = re.compile(r"[\x21-\x39\x3b-\x7e]+")
_NEW_LOCALPART = re.compile(r"[a-z0-9._=/+\-]+")
_SERVER = re.compile(r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.\-]+)(?::[0-9]{1,5})?")


def localpart_for(external_id: str, *, prefix: str = "agent_", scope: str = "") -> str:
    """The localpart of the account (and of the room's alias) of an agent.

    A Letta id (no ``scope``) follows the rule of the bridge that Switchboard replaces, so that its accounts are found again:
    ``agent-7659b796-4723`` becomes ``<prefix>7659b796_4723``. With a ``scope`` (the service's slug) the name is
    ``<prefix><scope>__<id>``. Where that could not be undone (capitals, other characters, a long id) ``___`` and a hash of scope
    and id are appended. The three forms cannot be mistaken for one another: two ids never share an account.
    """
    if not external_id:
        raise ValueError("An agent without an id cannot have an account")
    if scope:
        parts, plain = [scope, external_id], bool(_PLAIN.fullmatch(scope) and _PLAIN.fullmatch(external_id))
    else:
        bare = external_id.removeprefix("agent-")
        parts, plain = [bare], bare != external_id and bool(_PLAIN.fullmatch(bare))
    stem = "__".join(filter(None, map(_clean, parts)))
    if plain and len(prefix) + len(stem) <= _MAX_LOCALPART:
        return prefix + stem
    digest = hashlib.sha256(f"{scope}\0{external_id}".encode(errors="surrogatepass")).digest()
    ending = "___" + base64.b32encode(digest).decode().lower()[:_HASH_LENGTH]
    stem = stem[: _MAX_LOCALPART - len(prefix) - len(ending)].strip("_") or "x"
    return prefix + stem + ending


def user_id(localpart: str, server: str) -> str:
    """``@localpart:server``; raises ``ValueError`` when that is no valid user id."""
    full = f"@{localpart}:{server}"
    if not valid_user_id(full):
        raise ValueError(f"{full[:80]!r} is not a Matrix user id (at most {MAX_ID_BYTES} bytes, @name:server)")
    return full


def alias(localpart: str, server: str) -> str:
    """``#localpart:server``; raises ``ValueError`` when it is too long or has no server."""
    full = f"#{localpart}:{server}"
    if (
        not localpart
        or ":" in localpart
        or "\0" in localpart
        or not _SERVER.fullmatch(server)
        or _size(full) > MAX_ID_BYTES
    ):
        raise ValueError(f"{full[:80]!r} is not a Matrix room alias (at most {MAX_ID_BYTES} bytes, #name:server)")
    return full


def valid_user_id(text: object, *, strict: bool = False) -> bool:
    """Whether ``text`` is a user id. ``strict`` refuses the characters that only old accounts may have (capitals, …)."""
    if not isinstance(text, str) or not text.startswith("@") or _size(text) > MAX_ID_BYTES:
        return False
    localpart, colon, server = text[1:].partition(":")
    pattern = _NEW_LOCALPART if strict else _LOCALPART
    return bool(colon and pattern.fullmatch(localpart) and _SERVER.fullmatch(server))


def server_of(user_id: str) -> str:
    """The server of a user id or an alias (with its port). Room ids have none that one may rely on: they raise ``ValueError``."""
    if user_id[:1] not in {"@", "#"}:
        raise ValueError(f"{user_id[:80]!r} is neither a user id nor an alias")
    _, colon, server = user_id.partition(":")
    if not colon or not _SERVER.fullmatch(server):
        raise ValueError(f"{user_id[:80]!r} names no server")
    return server


def localpart_of(user_id: str) -> str:
    """The part between the sigil and the first colon of a user id or an alias."""
    server_of(user_id)
    return user_id[1:].partition(":")[0]


def _clean(text: str) -> str:
    """Lower case, ``-`` to ``_``, nothing else but letters and digits, single underscores inside."""
    return re.sub("_{2,}", "_", _OUTSIDE.sub("", text.lower().replace("-", "_"))).strip("_")


def _size(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))
