"""One question to an address without any credentials: whether a homeserver stands there, and what it offers to anybody."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import httpx

from agents.matrix.transport import ssl_context

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 6.0
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def ask(url: str, path: str, *, body: Any = None) -> httpx.Response:
    """One GET (or a POST of ``body`` as JSON) without credentials that follows no redirect.

    Raises what httpx raises, and ``ValueError`` for no address.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("no address")
    with httpx.Client(
        verify=ssl_context(),
        timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
        trust_env=parts.hostname not in _LOOPBACK,
        follow_redirects=False,
        headers={"User-Agent": "Switchboard", "Accept": "application/json"},
    ) as client:
        address = url.rstrip("/") + path
        return client.get(address) if body is None else client.post(address, json=body)


def json_of(answer: httpx.Response) -> Any:
    """The answer's JSON value, None when it is none."""
    try:
        return json.loads(answer.content[:1_000_000])
    except (ValueError, RecursionError):
        return None


def json_at(url: str, path: str) -> Any:
    """The JSON value that a GET there answers with, whatever its status; None when there is none. Never raises."""
    try:
        return json_of(ask(url, path))
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError):
        return None


def is_served(url: str, path: str) -> bool:
    """Whether an endpoint exists: one that does refuses those who are no administrator; one that does not is 404."""
    try:
        answer = ask(url, path)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError):
        return False
    return answer.status_code in (200, 401, 403) and isinstance(json_of(answer), dict)
