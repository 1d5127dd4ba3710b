"""Cursors of lists that are sorted by more than columns: opaque text made from a few plain values."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest

from ops.api.problems import CURSOR_INVALID, FieldError, Problem


def cursor_link(request: HttpRequest, kind: str, values: Sequence[Any]) -> str:
    """The address of the page behind ``values`` of the list ``kind``."""
    text = json.dumps([kind, *values], separators=(",", ":"), default=str)
    cursor = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    query = [(key, value) for key, given in request.GET.lists() if key != "cursor" for value in given]
    return f"{request.path}?{urlencode([*query, ('cursor', cursor)])}"


def cursor_values(cursor: str, kind: str, types: Sequence[type]) -> list[Any] | None:
    """What ``cursor_link`` was given; ``None`` without a cursor. Raises ``Problem`` for one that is not of this list."""
    if not cursor:
        return None
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        found = json.loads(text)
        if not isinstance(found, list) or found[:1] != [kind] or [type(one) for one in found[1:]] != list(types):
            raise ValueError("another list's cursor")
        if any(isinstance(one, int) and not 0 <= one < 2**63 for one in found[1:]):
            raise ValueError("out of range")
        return found[1:]
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise invalid() from None


def invalid() -> Problem:
    """The answer to a cursor that is not one of ours."""
    sentence = "This is not a cursor of this list. Begin without one, and follow `next`."
    return Problem(CURSOR_INVALID, sentence, errors=[FieldError("cursor", sentence, "query")])
