"""Recognises values that somebody copied from an example and never replaced."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

_WHOLE = re.compile(
    r"""^(?:
        change[-_ ]?(?:me|it|this).* | your[-_ ].* | <.*> | \.\.\. | … | x{3,} | todo | tbd | replace[-_ ].* | placeholder.*
        | .*[-_]goes[-_]here | insert[-_ ].* | secret | password | passw0rd | sk-(?:\.\.\.|x{3,}.*|your.*) | devkey | example
        | s3cr3t | letmein | 12345678? | \*{3,}
    )$""",
    re.VERBOSE | re.IGNORECASE,
)
# User and password as in examples and as servers ship them.
_PAIRS = frozenset(
    {
        *(("user", word) for word in ("pass", "password", "passwd")),
        *((word, "password") for word in ("username", "postgres", "root", "admin")),
        *((word, word) for word in ("letta", "postgres", "admin", "root", "user", "guest")),
        *(("username", word) for word in ("pass",)),
    }
)
_HOSTS = frozenset({"host", "hostname", "your-host", "yourhost", "your-domain", "yourdomain", "server", "your-server"})
_EXAMPLE = re.compile(
    r"(?:^|\.)example(?:\.(?:com|org|net))?\Z|(?:^|\.)your-?(?:domain|server|host|company)\.", re.IGNORECASE
)


def why_placeholder(value: Any) -> str:
    """What gives the value away, in a few words without the value itself; "" for a real one.

    An empty value is none: it says that nothing is set.
    """
    if isinstance(value, (list, tuple)):
        return next((why for one in value if (why := why_placeholder(one))), "")
    text = str.__str__(value).strip() if isinstance(value, str) else ""
    if not text:
        return ""
    if _WHOLE.match(text):
        return "it is the word of an example"
    if "://" in text:
        return _address(text)
    if text.startswith(("@", "#", "!")) and ":" in text:
        text = text.partition(":")[2]
    if _EXAMPLE.search(text) and " " not in text:
        return "it names an example's domain"
    return ""


def _address(text: str) -> str:
    try:
        parts = urlsplit(text)
        host, user, password = (parts.hostname or "").lower(), parts.username or "", parts.password or ""
        port = parts.netloc.rpartition(":")[2] if ":" in parts.netloc.rpartition("@")[2] else ""
    except ValueError:
        return ""
    if (user.lower(), password.lower()) in _PAIRS:
        return f"user and password are those of an example ({user.lower()})"
    if password and _WHOLE.match(password):
        return "the password is the word of an example"
    if host in _HOSTS or _EXAMPLE.search(host):
        return f"{host} is the host of an example"
    if port.lower() in {"port", "your-port"}:
        return "the port is the word of an example"
    if parts.path.strip("/").lower() in {"dbname", "database_name", "your-database"}:
        return f"{parts.path.strip('/')} is the database of an example"
    return ""
