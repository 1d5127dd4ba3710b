"""Hides secrets in text and in nested values: known values, fields named like secrets, and text shaped like a credential."""

from __future__ import annotations

import re
import threading
import uuid
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
_secrets: tuple[str, ...] = ()

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
    """Make one more value unreadable in every log line from now on. Cheap when it is known already."""
    global _secrets
    if not isinstance(value, str) or len(value) < SHORTEST_SECRET or value in _secrets:
        return
    with _lock:
        _secrets = _ordered((*_secrets, value))


def forget_secret(value: str) -> None:
    """A value that is no secret any longer: one that was made up for a test of the redaction."""
    global _secrets
    with _lock:
        _secrets = tuple(known for known in _secrets if known != value)


def hide_known(text: str) -> str:
    """Only known values: for text with a form of its own (JSON), which guesses at shapes would break."""
    for secret in _secrets:
        if secret in text:
            text = text.replace(secret, HIDDEN)
    return text


def holds_secret(text: str) -> bool:
    """Whether a known secret value stands in the text, readable."""
    return any(secret in text for secret in _secrets)


def _ordered(values: Iterable[str]) -> tuple[str, ...]:
    """Longest first, so that a secret that contains another goes whole."""
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
