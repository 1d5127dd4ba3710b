"""Lists by cursor: constant cost however deep, and rows that come and go do not shift the others."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.core.exceptions import ValidationError
from django.db import models
from django.http import HttpRequest, HttpResponse
from ninja import Field, Schema

from ops.api.answers import answer
from ops.api.problems import CURSOR_INVALID, FieldError, Problem

MOST = 200
_LARGEST = 2**63 - 1


class Paging(Schema):
    """How much, and from where."""

    limit: int = Field(100, ge=1, le=MOST, description=f"How many rows; at most {MOST}.")
    cursor: str = Field(
        "", max_length=1000, description="From `next` of the page before. Opaque: do not make one yourself."
    )


def tuples(
    model: type[models.Model], columns: Sequence[str | models.Expression], order: Sequence[str] = ("id",)
) -> models.QuerySet[Any]:
    """Rows of a long list as tuples of ``columns``, ordered: made once, at import, and filtered for each request."""
    names = [name.lstrip("-") for name in order]
    return model._default_manager.order_by(*order).values_list(*columns, *names)


def page(
    request: HttpRequest,
    rows: models.QuerySet[Any],
    paging: Paging,
    *,
    render: Callable[[Any], dict[str, Any]],
    order: Sequence[str] = ("id",),
) -> HttpResponse:
    """One page as ``{items, next}``; one query. ``next`` is the address of the next page, ``null`` on the last.

    ``order`` names columns that together are unique and never change (``-`` for descending); ``rows`` are objects, or those of
    ``tuples`` with the same order, which is much faster. Raises ``Problem`` for a cursor that is not one of ours.
    """
    names = [name.lstrip("-") for name in order]
    if paging.cursor:
        rows = rows.filter(_after(order, _decode(paging.cursor, rows.model, order)))
    if not rows.query.values_select:
        rows = rows.order_by(*order)
    found: list[Any] = list(rows[: paging.limit + 1])
    more = len(found) > paging.limit
    following = None
    if more:
        del found[paging.limit :]
        last = found[-1]
        values = last[-len(names) :] if isinstance(last, tuple) else [getattr(last, name) for name in names]
        following = _link(request, _encode(order, values))
    return answer({"items": [render(row) for row in found], "next": following})


def _after(order: Sequence[str], values: Sequence[Any]) -> models.Q:
    """Rows behind these values: greater in the first column, or equal there and greater in the next."""
    condition, equal = models.Q(), models.Q()
    for name, value in zip(order, values, strict=True):
        column = name.lstrip("-")
        condition |= equal & models.Q(**{f"{column}__{'lt' if name.startswith('-') else 'gt'}": value})
        equal &= models.Q(**{column: value})
    return condition


def _link(request: HttpRequest, cursor: str) -> str:
    query = [(key, value) for key, values in request.GET.lists() if key != "cursor" for value in values]
    return f"{request.path}?{urlencode([*query, ('cursor', cursor)])}"


def _encode(order: Sequence[str], values: Sequence[Any]) -> str:
    plain = [value.isoformat() if isinstance(value, datetime) else value for value in values]
    text = json.dumps([",".join(order), *plain], separators=(",", ":"), default=str)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decode(cursor: str, model: type[models.Model], order: Sequence[str]) -> list[Any]:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        signature, *plain = json.loads(text)
        if signature != ",".join(order) or len(plain) != len(order):
            raise ValueError("another list's cursor")
        values = []
        for name, value in zip(order, plain, strict=True):
            field = model._meta.get_field(name.lstrip("-"))
            clean = field.to_python(value)  # type: ignore[union-attr]
            if clean is None or (isinstance(clean, int) and not 0 <= clean <= _LARGEST):
                raise ValueError("out of range")
            values.append(clean)
        return values
    except (ValueError, TypeError, binascii.Error, ValidationError, RecursionError) as error:
        sentence = "This is not a cursor of this list. Begin without one, and follow `next`."
        raise Problem(CURSOR_INVALID, sentence, errors=[FieldError("cursor", sentence, "query")]) from error
