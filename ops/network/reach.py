"""How each service is reached from where this process runs. Each long-running process asks this about once a minute."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from django.db import close_old_connections, connections
from django.utils import timezone

from ops.logs import get_logger
from ops.models import Process
from ops.network.places import PUBLIC, Place, places, stores
from ops.network.probe import probe

log = get_logger(__name__)

AT_ONCE = 8
EVERY_SECONDS = 60.0
AGAIN_SECONDS = 10.0


def report() -> dict[str, dict[str, Any]]:
    """``{name: {stage, ok, sentence, milliseconds, at, address, asked}}`` for every service, database and broker, as reached from here.

    Asks all of them side by side and takes some seconds at most. ``at`` is ISO 8601, from before the addresses were read, ``stage`` one
    of ``probe.Stage``, ``asked`` the digest of what was asked (``Place.asked``).
    """
    close_old_connections()
    at = timezone.now().isoformat()
    wanted = [one for name, one in places().items() if name != PUBLIC]
    wanted += [Place(name, url, role="store") for name, url in stores().items()]
    if not wanted:
        return {}
    with ThreadPoolExecutor(min(AT_ONCE, len(wanted)), thread_name_prefix="reach") as pool:
        return dict(zip((one.name for one in wanted), pool.map(partial(_cell, at), wanted), strict=True))


def _cell(at: str, place: Place) -> dict[str, Any]:
    # The name and the connection are what differs between processes; the answer is the same for all of them.
    found = probe(place.url, proxy=place.proxy, until="tcp")
    return {
        "stage": found.stage,
        "ok": found.ok,
        "kind": found.kind,
        "sentence": found.sentence,
        "milliseconds": found.milliseconds,
        "address": found.hop,
        "at": at,
        "asked": place.asked,
    }


def keep_reporting(process: str, *, every: float = EVERY_SECONDS) -> None:
    """Write into a process's row, again and again, how it reaches every server. Does not return: for a thread of its own."""
    before: dict[str, dict[str, Any]] = {}
    while True:
        wait = every
        try:
            found = with_failures(report(), before)
            # What fails is asked again soon, so that a moment's trouble is gone soon as well.
            if not write(process, found) or any(not cell["ok"] for cell in found.values()):
                wait = min(every, AGAIN_SECONDS)
            before = found
        except Exception as error:
            # The database is away: whoever looks sees that nothing new comes.
            log.debug("reach_not_reported", error=str(error), error_type=type(error).__name__)
        finally:
            connections.close_all()
        time.sleep(wait)


def with_failures(found: dict[str, dict[str, Any]], before: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The report with a count of failures in a row in each cell; those at another address are not counted."""
    return {name: {**cell, "failures": _failures(cell, before.get(name, {}))} for name, cell in found.items()}


def _failures(cell: dict[str, Any], before: dict[str, Any]) -> int:
    if cell["ok"]:
        return 0
    return 1 + (int(before.get("failures", 0)) if before.get("asked", "") == cell["asked"] else 0)


def write(process: str, found: dict[str, dict[str, Any]]) -> bool:
    """Write a report into the row of a process. False: there is no such row (yet)."""
    return bool(Process.objects.filter(pk=process).update(reach=found))
