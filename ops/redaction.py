"""Hides secrets in text and in nested values: known values, fields named like secrets, and text shaped like a credential."""

from __future__ import annotations

import re
import threading
import uuid
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

HIDDEN = "[hidden]"

# A shorter value would be found in the middle of ordinary words.
SHORTEST_SECRET = 6
_DEEPEST = 8
_PLAIN = (bool, int, float, type(None), datetime, date, time, timedelta, uuid.UUID, Decimal)

_lock = threading.Lock()
# Longest first, so that a secret that contains another goes whole.
_secrets: tuple[str, ...] = ()
# The same secrets by their first characters: ten thousand accounts have passwords, and every log line is looked through for all of them.
_indexed: tuple[tuple[str, ...], dict[str, tuple[str, ...]]] = ((), {})
_FEW = 32

_SECRET_WORDS = frozenset(
    {
        *("token", "tokens", "password", "passwd", "passphrase", "pwd", "secret", "secrets", "key", "keys", "apikey"),
        *("authorization", "credential", "credentials", "cookie", "cookies", "pepper"),
    }
)
# "token_id", "key_name" and the like say which secret, not what it is.
_ABOUT_WORDS = frozenset(
    {
        "id",
        "ids",
        "name",
        "names",
        "count",
        "prefix",
        "kind",
        "type",
        "file",
        "path",
        "present",
        "set",
        "scope",
        "changed",
    }
)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")

_HINTS = (
    "bearer",
    "basic ",
    "token",
    "key",
    "secret",
    "passw",
    "pwd",
    "authorization",
    "cookie",
    "://",
    "sk-",
    "syt_",
    "eyj",
    "swb_",
    "swr_",
    "age-",
    "/setup/",
    "/shared/",
    "/account/",
    "/join#",
)

_SHAPES = re.compile(
    r"""
      (?P<scheme>\b(?:bearer\s+|basic\s+(?=\S*(?-i:[A-Z0-9=]))))[^\s"',;]+   # "basic setup" is no credential
    | (?P<field>
        (?<![A-Za-z0-9])["']?(?:[A-Za-z0-9]{1,40}[_-]){0,4}
        (?:[A-Za-z0-9]{0,30}(?:token|password|passwd|passphrase|secret)|pwd|api[_-]?key|key|authorization|cookie)
        ["']?\s*[=:]\s*
      )
      (?!\s*(?:bearer|basic)\s)(?!\[hidden\])      # what is hidden already stays as it is
      (?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s"',;&}\])]+)
    | (?P<user>://)[^\s/@:"']*:[^\s/@"']+(?=@)
    | \b(?:sk|pk|rk)-[A-Za-z0-9_\-*]{6,}
    | (?P<link>/setup/)[0-9a-f]{20,}   # whoever has the path of a set-up link may become an operator
    | (?P<door>/account/(?:confirm-email|password/reset/key)/|/join\#)[A-Za-z0-9_:%-]{8,}   # links to people
    | (?P<share>/shared/)[A-Za-z0-9_-]{20,}   # whoever has it may read what was shared
    | \bsyt_[A-Za-z0-9_]{8,}
    | \bswb_[A-Za-z0-9]{4,}[._][A-Za-z0-9_-]{8,}
    | \bswr_[0-9a-f]{8,}[._][A-Za-z0-9_.-]{8,}
    | age-(?:secret-key|plugin-[a-z0-9-]+)-(?:pq-)?1[02-9ac-hj-np-z]{6,}   # what opens backups; the half that seals them (age1…) may be read
    | \beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*
    """,
    re.VERBOSE | re.IGNORECASE,
)


def set_secrets(values: Iterable[str]) -> None:
    """Replace the list of known secret values."""
    global _secrets
    with _lock:
        _secrets = _ordered(values)


def add_secret(value: str) -> None:
    """Make one more value unreadable in every log line from now on. Cheap when it is known already, and when there are many."""
    global _secrets, _indexed
    if not isinstance(value, str) or len(value) < SHORTEST_SECRET:
        return
    head = value[:SHORTEST_SECRET]
    with _lock:
        heads = _heads()
        alike = heads.get(head, ())
        if value in alike:
            return
        place = bisect_right(_secrets, -len(value), key=lambda known: -len(known))
        fresh = (*_secrets[:place], value, *_secrets[place:])
        heads[head] = tuple(sorted((*alike, value), key=len, reverse=True))
        _indexed, _secrets = (fresh, heads), fresh


def forget_secret(value: str) -> None:
    """A value that is no secret any longer: one that was made up for a test of the redaction."""
    global _secrets
    with _lock:
        _secrets = tuple(known for known in _secrets if known != value)


def _heads() -> dict[str, tuple[str, ...]]:
    """The index of the present secrets, made anew when they were replaced."""
    global _indexed
    secrets, (of, heads) = _secrets, _indexed
    if of is secrets:
        return heads
    heads = {}
    for value in secrets:
        head = value[:SHORTEST_SECRET]
        heads[head] = (*heads.get(head, ()), value)
    _indexed = (secrets, heads)
    return heads


def hide_known(text: str) -> str:
    """Only known values: for text with a form of its own (JSON), which guesses at shapes would break."""
    secrets = _secrets
    if len(secrets) > _FEW:
        return _hide_many(text)
    for secret in secrets:
        if secret in text:
            text = text.replace(secret, HIDDEN)
    return text


def _hide_many(text: str) -> str:
    """As the loop over all secrets does it, at a cost that depends on the text only. What overlaps is hidden as one."""
    places = _places(text)
    if not places:
        return text
    parts, at = [], 0
    for begin, end in places:
        parts += [text[at:begin], HIDDEN]
        at = end
    return "".join([*parts, text[at:]])


def _places(text: str) -> list[tuple[int, int]]:
    """Where known secrets stand: (begin, end) in order, overlapping ones put together."""
    heads = _heads()
    found: list[tuple[int, int]] = []
    for begin in range(len(text) - SHORTEST_SECRET + 1):
        alike = heads.get(text[begin : begin + SHORTEST_SECRET])
        if alike is None:
            continue
        secret = next((one for one in alike if text.startswith(one, begin)), None)
        if secret is None:
            continue
        end = begin + len(secret)
        if found and begin < found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


def holds_secret(text: str) -> bool:
    """Whether a known secret value stands in the text, readable."""
    secrets = _secrets
    return bool(_places(text)) if len(secrets) > _FEW else any(secret in text for secret in secrets)


def _ordered(values: Iterable[str]) -> tuple[str, ...]:
    """Longest first."""
    return tuple(sorted({v for v in values if isinstance(v, str) and len(v) >= SHORTEST_SECRET}, key=len, reverse=True))


def redact_text(text: str) -> str:
    """``text`` without known secrets and without anything shaped like a credential."""
    text = hide_known(text)
    lowered = text.lower()
    if any(hint in lowered for hint in _HINTS):
        text = _SHAPES.sub(_hide, text)
    return text


def _hide(match: re.Match[str]) -> str:
    if (
        kept := match.group("scheme")
        or match.group("field")
        or match.group("user")
        or match.group("link")
        or match.group("share")
        or match.group("door")
    ):
        return f"{kept}{HIDDEN}"
    return HIDDEN


@lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """True for ``password``, ``api_key``, ``hsToken``…; False for ``token_id``, ``keyboard``."""
    words = [word.lower() for word in _WORD.findall(name)]
    return bool(words) and not _SECRET_WORDS.isdisjoint(words) and words[-1] not in _ABOUT_WORDS


def redact(value: Any, depth: int = 0) -> Any:
    """A copy of ``value`` (text, numbers, nested mappings and lists) fit to be shown or stored.

    Fields named like a secret are hidden whole unless they hold a number, a truth value or nothing (``tokens=12`` is a count).
    Other objects become their redacted text.
    """
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, _PLAIN):
        return value
    if depth >= _DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        return {str(name): redact_field(str(name), inner, depth + 1) for name, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [redact(inner, depth + 1) for inner in value]
    if isinstance(value, (bytes, bytearray)):
        return f"<{len(value)} bytes>"
    return redact_text(_text(value))


def redact_field(name: str, value: Any, depth: int = 0) -> Any:
    """``redact`` for a value whose name is known."""
    if value not in ("", None) and not isinstance(value, _PLAIN) and is_secret_name(name):
        return HIDDEN
    return redact(value, depth)


def _text(value: object) -> str:
    try:
        return str(value) if isinstance(value, BaseException) else repr(value)
    except Exception:
        return f"<{type(value).__name__}>"


def redact_event(logger: Any, method: str, event: Any) -> Any:
    """The structlog processor; ``event`` is changed in place."""
    for name, value in event.items():
        if isinstance(value, str):
            # The commonest case first: most values are short text under a harmless name.
            event[name] = HIDDEN if value and name != "event" and is_secret_name(name) else redact_text(value)
        elif not isinstance(value, _PLAIN):
            event[name] = redact_field(name, value)
    return event
