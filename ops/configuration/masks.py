"""Shows that a secret is there, and which one, without showing it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

HIDDEN = "****"
# From this length on the ends give nothing away that would help to guess the rest.
_LONG = 20


def mask(value: Any) -> str:
    """``sk-a****cdef``; of an address only the password, of a short value nothing. "" for an empty one."""
    if isinstance(value, (list, tuple)):
        return ", ".join(mask(one) for one in value)
    text = str.__str__(value) if isinstance(value, str) else str(value or "")
    if not text:
        return ""
    if "://" in text:
        return mask_address(text)
    return f"{text[:4]}{HIDDEN}{text[-4:]}" if len(text) >= _LONG else HIDDEN


def mask_address(address: str) -> str:
    """An address without its password and without its query, which may hold one."""
    try:
        parts = urlsplit(address)
        user, host = parts.username or "", parts.netloc.rpartition("@")[2]
    except ValueError:
        return HIDDEN
    if parts.password is not None:
        host = f"{user}:{HIDDEN}@{host}"
    elif "@" in parts.netloc:
        host = f"{user}@{host}"
    return f"{parts.scheme}://{host}{parts.path}" + ("?…" if parts.query else "")


def shown(value: Any) -> str:
    """A value that is no secret, as text; addresses in it still lose their password."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ", ".join(shown(one) for one in value)
    text = str(value)
    return mask_address(text) if "://" in text and "@" in text.partition("://")[2].partition("/")[0] else text
