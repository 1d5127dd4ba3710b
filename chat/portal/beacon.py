"""Errors that happened in somebody's browser, told by the page itself. They become lines of the log, where the doctor counts them."""

from __future__ import annotations

import json

from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from ops.logs import get_logger

log = get_logger(__name__)

EVENT = "page.error"
# script: it threw; promise: nobody caught it; missing: a file did not come; policy: the security policy stopped something.
KINDS = ("script", "promise", "missing", "policy")
_LARGEST = 4096
_MINUTE = 60
_FOR_ADDRESS = 20
_IN_ALL = 200


@csrf_exempt  # changes nothing but the log, and is sent while a page goes away, perhaps with a token that has expired
@require_POST
def beacon(request: HttpRequest) -> HttpResponse:
    """Take one report ``{kind, message, source, line, page}``. Always 204: a page with trouble has enough of it."""
    done = HttpResponse(status=204)
    origin = request.headers.get("origin", "")
    if origin and origin != f"{request.scheme}://{request.get_host()}":
        return done
    if int(request.headers.get("content-length") or 0) > _LARGEST or not _may_write(request):
        return done
    try:
        report = json.loads(request.body)
    except ValueError:
        return done
    if not isinstance(report, dict) or report.get("kind") not in KINDS:
        return done
    line = report.get("line")
    log.warning(
        EVENT,
        kind=report["kind"],
        message=_plain(report.get("message"), 300),
        source=_plain(report.get("source"), 200),
        line=line if isinstance(line, int) and not isinstance(line, bool) else 0,
        page=_plain(report.get("page"), 100),
        browser=_plain(request.headers.get("user-agent"), 150),
    )
    return done


def _plain(value: object, length: int) -> str:
    """One line of printable text."""
    return "".join(one if one.isprintable() else " " for one in str(value or ""))[:length]


def _may_write(request: HttpRequest) -> bool:
    """At most so many lines a minute, from one address and in all."""
    address = request.META.get("REMOTE_ADDR", "")
    return _below(f"beacon:{address}", _FOR_ADDRESS) and _below("beacon", _IN_ALL)


def _below(key: str, limit: int) -> bool:
    cache.add(key, 0, timeout=_MINUTE)
    try:
        return cache.incr(key) <= limit
    except ValueError:  # it ran out between the two
        return True
