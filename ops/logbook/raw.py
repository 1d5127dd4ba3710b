"""Objects as an outside server sees them, word for word and without their secrets: apps register how to ask, a page shows it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

from ops.redaction import redact, redact_text

LONGEST = 400_000


class NothingRaw(Exception):
    """It cannot be asked for. The text says why to the operator."""


@dataclass(frozen=True, slots=True)
class RawKind:
    """``fetch(id)`` asks the server and returns JSON; it only reads. ``label`` says what is shown."""

    kind: str
    label: str
    fetch: Callable[[str], Any]


_kinds: dict[str, RawKind] = {}


def register_raw(kind: str, *, label: str, fetch: Callable[[str], Any]) -> None:
    """Make a kind of object readable as its server has it. ``fetch`` raises ``NothingRaw`` with a sentence."""
    _kinds[kind] = RawKind(kind, label, fetch)


def raw_kind(kind: str) -> RawKind | None:
    """The registered kind, or None."""
    return _kinds.get(kind)


def read(kind: RawKind, key: str) -> str:
    """What the server says, as redacted JSON for people. Raises ``NothingRaw``; whatever else goes wrong becomes one."""
    try:
        found = kind.fetch(key)
    except NothingRaw:
        raise
    except Exception as error:
        reason = getattr(error, "sentence", "") or getattr(error, "reason", "") or f"{type(error).__name__}: {error}"
        raise NothingRaw(redact_text(str(reason))) from None
    plain = json.loads(json.dumps(found, cls=DjangoJSONEncoder, default=str))
    text = json.dumps(redact(plain), indent=2, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}\n… ({len(text)} characters in all)"
