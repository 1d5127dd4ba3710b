"""Deterministic transaction ids: the same piece of the same delivery is the same event, however often it is sent.

Client-server API, "Sending events to a room": the homeserver answers a repeated transaction id of one device with the event that it
made before.
"""

from __future__ import annotations

import hashlib
from typing import Any

from agents.matrix.keys import MARKER
from chat.models import Delivery


def txn_id(delivery: Delivery, piece: str) -> str:
    """``sb.<row>.<time of creation>.<piece>``: the time keeps a restored database from meeting its own future ids."""
    return f"sb.{delivery.pk}.{int(delivery.created_at.timestamp() * 1e6):x}.{piece}"


def digest(text: str) -> str:
    """A short digest of what an event shows, to spare an edit that would change nothing."""
    return hashlib.blake2b(text.encode(errors="replace"), digest_size=8).hexdigest()


def marker(hop: int, **ids: Any) -> dict[str, Any]:
    """The key by which we know our own events, and how many agents answered each other before."""
    return {MARKER: {"hop": hop, **{key: value for key, value in ids.items() if value}}}
