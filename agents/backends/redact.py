"""Keeps secrets out of what a server's words become: reasons, logs, health details."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlsplit, urlunsplit

HIDDEN = "[hidden]"
SHORTEST_SECRET = 4
REASON_LENGTH = 300

# What keys and tokens look like when a server repeats them in its error, whichever key it was ("Incorrect API key: sk-…").
_KEY_SHAPES = re.compile(
    r"""
      (?:sk|pk|rk|key)-[A-Za-z0-9_\-*]{6,}            # OpenAI, Anthropic and look-alikes
    | syt_[A-Za-z0-9_]{8,} | mct_[A-Za-z0-9_]{8,}      # Matrix access tokens
    | eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*
    | (?<=[Bb]earer\s)[^\s"',;]+
    | (?<=[?&]key=)[^\s&"']+ | (?<=[?&]token=)[^\s&"']+ | (?<=[?&]access_token=)[^\s&"']+ | (?<=[?&]api_key=)[^\s&"']+
    | (?<=://)[^\s/@]+:[^\s/@]+(?=@)
    """,
    re.VERBOSE,
)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """``text`` without the given secrets and without anything shaped like a key."""
    for secret in sorted({s for s in secrets if len(s) >= SHORTEST_SECRET}, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _KEY_SHAPES.sub(HIDDEN, text)


def short(text: str, secrets: Iterable[str] = (), limit: int = REASON_LENGTH) -> str:
    """One redacted line of at most ``limit`` characters. Redacts before it cuts, so that no half of a secret is left."""
    line = " ".join(redact(text, secrets).split())
    line = "".join(c for c in line if c.isprintable())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def plain_url(url: str) -> str:
    """An address without user name, password, query and fragment, fit for an error message."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
