"""What a homeserver calls: transactions, user and room queries, ping (application service API, v1).

A transaction gets its 200 only when every event of it is a row; any other answer makes the homeserver send it again.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from urllib.parse import unquote

from django.db import DatabaseError, close_old_connections
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from agents.matrix.errors import MatrixError
from agents.matrix.markdown import clean_text
from agents.services.backends import homeserver_service
from chat.matrix import queries
from chat.matrix.events import receive
from ops import quiet
from ops.logs import bind, get_logger, unlogged
from ops.models import Service

log = get_logger(__name__)

# A homeserver sends at most 100 events of 64 KB each in one transaction; ephemeral data is not asked for.
MAX_BODY = 32 * 1024 * 1024
# Transactions come one after the other, so few threads are enough; they live on and keep their database connections.
_pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="intake")


def _answer(status: int, errcode: str = "", error: str = "") -> JsonResponse:
    return JsonResponse({"errcode": errcode, "error": error} if errcode else {}, status=status)


def _refusal(token: str, homeserver: Service | None) -> JsonResponse | None:
    """401 without a token, 403 with a wrong one."""
    from django.conf import settings

    if homeserver is None:
        return _answer(403, "M_FORBIDDEN", "No homeserver is set up here.")
    if not token:
        return _answer(401, "M_MISSING_TOKEN", "The homeserver must send its hs_token.")
    expected = (homeserver.credentials or {}).get("hs_token") or settings.MATRIX_HS_TOKEN
    if not hmac.compare_digest(token.encode(), str(expected).encode()):
        log.warning("appservice.wrong_token")
        return _answer(403, "M_FORBIDDEN", "This is not the hs_token of the registration.")
    return None


def _token(request: HttpRequest) -> str:
    """Old homeservers put the token into the query."""
    return bearer(request.headers.get("Authorization", "")) or request.GET.get("access_token", "")


def bearer(header: str) -> str:
    """The token of an ``Authorization`` header, "" when there is none."""
    scheme, _, token = header.partition(" ")
    return token if scheme.lower() == "bearer" else ""


async def _in_pool(work: Callable[[], JsonResponse]) -> JsonResponse:
    return await asyncio.get_running_loop().run_in_executor(_pool, _guarded, work)


def _guarded(work: Callable[[], JsonResponse]) -> JsonResponse:
    close_old_connections()
    try:
        return work()
    except MatrixError as error:
        # Something had to be asked of the homeserver first, and it did not answer: it shall send the transaction again.
        log.warning("appservice.asked_back_in_vain", error=error.sentence[:300])
        return _answer(503, "M_UNKNOWN", "Earlier events have to be read first; please send this again.")
    except quiet.Quiet as error:
        return unlogged(_answer(503, "M_UNKNOWN", error.sentence))
    except DatabaseError as error:
        log.exception("appservice.database", error=str(error)[:200])
        return _answer(503, "M_UNKNOWN", "The events could not be stored; please send them again.")
    finally:
        close_old_connections()


@csrf_exempt
async def transactions(request: HttpRequest, txn_id: str) -> HttpResponseBase:
    """``PUT /_matrix/app/v1/transactions/{txnId}``."""
    if request.method != "PUT":
        return _answer(405, "M_UNRECOGNIZED", "Use PUT.")
    length = request.headers.get("Content-Length") or "0"
    if not length.isdecimal() or int(length) > MAX_BODY:
        return _answer(413, "M_TOO_LARGE", f"A transaction may have at most {MAX_BODY} bytes.")
    return await take_transaction(_token(request), request.body, txn_id)


async def take_transaction(token: str, body: bytes, txn_id: str) -> JsonResponse:
    """One transaction, however it came in (see ``chat.matrix.door``)."""
    return await _in_pool(partial(_take_transaction, token, body, txn_id))


def _take_transaction(token: str, body: bytes, txn_id: str) -> JsonResponse:
    homeserver = homeserver_service()
    refusal = _refusal(token, homeserver)
    if refusal is not None:
        return refusal
    assert homeserver is not None
    try:
        data: Any = json.loads(body)
    except (ValueError, UnicodeDecodeError, RecursionError):
        return _answer(400, "M_NOT_JSON", "The body is not JSON.")
    events = data.get("events") if isinstance(data, dict) else None
    if not isinstance(events, list):
        return _answer(400, "M_BAD_JSON", "The body must be an object with a list named events.")
    with bind(txn_id=txn_id):
        quiet.refuse_when_quiet()
        report = receive(events, homeserver)
        if report.stored or report.repeated or report.refused:
            log.debug("appservice.transaction", stored=report.stored, repeated=report.repeated, refused=report.refused)
    return _answer(200)


@csrf_exempt
async def users(request: HttpRequest, user_id: str) -> HttpResponseBase:
    """``GET /_matrix/app/v1/users/{userId}``: is this one of ours? It is made on the spot if it is an agent's."""
    return await _in_pool(partial(_query, request, queries.user_exists, unquote(user_id)))


@csrf_exempt
async def rooms(request: HttpRequest, alias: str) -> HttpResponseBase:
    """``GET /_matrix/app/v1/rooms/{roomAlias}``: is there such a room? It is made on the spot if it is an agent's."""
    return await _in_pool(partial(_query, request, queries.room_exists, unquote(alias)))


def _query(request: HttpRequest, exists: Callable[[Service, str], bool], name: str) -> JsonResponse:
    homeserver = homeserver_service()
    refusal = _refusal(_token(request), homeserver)
    if refusal is not None:
        return refusal
    assert homeserver is not None
    if request.method != "GET":
        return _answer(405, "M_UNRECOGNIZED", "Use GET.")
    # What is asked for may be made on the spot.
    quiet.refuse_when_quiet()
    # A name that no row can hold is nobody's.
    known = clean_text(name) == name and exists(homeserver, name)
    return _answer(200) if known else _answer(404, "M_NOT_FOUND", "There is no such agent.")


@csrf_exempt
async def ping(request: HttpRequest) -> HttpResponseBase:
    """``POST /_matrix/app/v1/ping``: the homeserver tests whether it reaches us."""
    return await _in_pool(partial(_ping, request))


def _ping(request: HttpRequest) -> JsonResponse:
    refusal = _refusal(_token(request), homeserver_service())
    if refusal is not None:
        return refusal
    return _answer(200) if request.method == "POST" else _answer(405, "M_UNRECOGNIZED", "Use POST.")


@csrf_exempt
async def unrecognised(request: HttpRequest, rest: str = "") -> HttpResponseBase:
    """Third-party networks and whatever else the interface has: we offer none of it."""
    return _answer(404, "M_UNRECOGNIZED", "Switchboard does not offer this part of the interface.")
