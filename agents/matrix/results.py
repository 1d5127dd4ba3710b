"""What the client's calls return when one string is not enough."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Profile:
    """A user's public profile; both are ``""`` when unset. ``avatar_url`` is an ``mxc://`` address."""

    display_name: str = ""
    avatar_url: str = ""


@dataclass(frozen=True, slots=True)
class MessagesPage:
    """One page of a room's history. ``end`` is the token of the next page, ``None`` when there is no more."""

    chunk: list[dict[str, Any]] = field(default_factory=list)
    start: str | None = None
    end: str | None = None


@dataclass(frozen=True, slots=True)
class PingResult:
    """Whether the homeserver reaches us. ``duration_ms`` is its own measurement, ``detail`` a sentence when it does not."""

    ok: bool
    duration_ms: int | None = None
    detail: str = ""
