"""Notices at once when the homeserver goes away and comes back, and then makes sure that nothing was lost.

One thread of one worker keeps a connection open (``chat.matrix.tripwire``). When it breaks, events that were on their way may have
been lost in the homeserver's memory: the epoch rises, the homeserver is pinged (it would wait up to 512 s before it sends the
next transaction), rooms are walked, and what waits in the outbox is sent.
"""

from __future__ import annotations

import threading
import time

from django.db import close_old_connections
from django.utils import timezone

from agents.matrix.errors import HomeserverUnreachable, MatrixError
from agents.services.backends import Homeserver, NoHomeserver, homeserver_of, homeserver_service, open_homeserver
from chat.matrix import gaps
from chat.matrix.events import catch_up
from chat.matrix.tripwire import Broken, Tripwire
from chat.models import Delivery, DeliveryState
from chat.wakeup import wake_catch_up, wake_deliveries
from ops import quiet
from ops.locks import LockHeld, named_lock
from ops.logs import get_logger
from ops.models import Service

log = get_logger(__name__)

LOCK = "chat.watch"
# How long a stretch of watching lasts before settings and database connections are looked at again.
STRETCH = 20.0


class Watch(threading.Thread):
    """Runs until ``stop`` is set; idle while another process watches."""

    def __init__(self) -> None:
        super().__init__(name="homeserver-watch", daemon=True)
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                with named_lock(LOCK, ttl=60):
                    self._watch()
            except LockHeld:
                self.stop.wait(5)
            except Exception:
                log.exception("watch.failed")
                self.stop.wait(5)
            finally:
                close_old_connections()

    def _watch(self) -> None:
        first = True
        while not self.stop.is_set():
            close_old_connections()
            wire: Tripwire | None = None
            try:
                homeserver = open_homeserver()
                if homeserver.client_mode:
                    # There the sync itself tells (``chat.matrix.sync_loop``).
                    self.stop.wait(5)
                    continue
                wire = Tripwire(homeserver.service.base_url)
                wire.watch(self.stop, 0)
                if first:
                    came_back(homeserver, "Switchboard started")
                    first = False
                while not self.stop.is_set() and homeserver_service() == homeserver.service:
                    wire.watch(self.stop, STRETCH)
                    close_old_connections()
            except NoHomeserver:
                self.stop.wait(5)
            except (Broken, HomeserverUnreachable) as error:
                log.warning("homeserver.gone", reason=str(error)[:200])
                # At once, not when it is back: the first that it brings then must not overtake what it lost.
                if (service := homeserver_service()) is not None:
                    gaps.raise_epoch(service, "the homeserver is gone")
                self._wait_for_return()
            except MatrixError as error:
                # Not an outage: the token is refused, say. The health check tells the operator; look again later.
                log.warning("watch.refused", error=error.sentence[:300])
                self.stop.wait(15)
            finally:
                if wire is not None:
                    wire.close()

    def _wait_for_return(self) -> None:
        pause = 0.25
        while not self.stop.is_set():
            self.stop.wait(pause)
            pause = min(pause * 1.5, 5.0)
            close_old_connections()
            try:
                homeserver = open_homeserver()
                homeserver.client.versions()
            except (MatrixError, NoHomeserver):
                continue
            came_back(homeserver, "the homeserver came back")
            return


def came_back(homeserver: Homeserver, reason: str) -> None:
    """The homeserver answers (again): find what was lost, fetch what waits there, send what waits here."""
    gaps.raise_epoch(homeserver.service, reason)
    ping(homeserver)
    send_what_waits(homeserver.service)
    wake_catch_up()


def send_what_waits(homeserver: Service) -> None:
    """Send at once what waits in the outbox for the homeserver's return."""
    waiting = list(
        Delivery.objects.filter(state=DeliveryState.QUEUED, room__homeserver=homeserver)
        .order_by("id")
        .values_list("pk", flat=True)[:5000]
    )
    if waiting:
        Delivery.objects.filter(pk__in=waiting, state=DeliveryState.QUEUED, attempts=0).update(
            not_before=timezone.now()
        )
        wake_deliveries(waiting)


def ping(homeserver: Homeserver) -> bool:
    """Have the homeserver call us: it then sends at once what it holds back. True when it reached us."""
    from django.conf import settings

    appservice_id = homeserver.service.options.get("appservice_id") or settings.MATRIX_APPSERVICE_ID
    try:
        result = homeserver.client.ping(appservice_id)
    except MatrixError as error:
        log.warning("homeserver.ping_failed", error=error.sentence[:300])
        return False
    if not result.ok:
        log.warning("homeserver.cannot_reach_us", detail=result.detail[:300])
    return result.ok


def catch_up_rooms(limit_seconds: float = 60.0) -> int:
    """Walk rooms that were not walked in this epoch, one process at a time. Returns how many were walked."""
    service = homeserver_service()
    if service is None or quiet.is_quiet():
        return 0
    epoch = gaps.current_epoch(service)
    walked = 0
    deadline = time.monotonic() + limit_seconds
    try:
        with named_lock("chat.catch_up", ttl=60):
            homeserver_of(service)
            while time.monotonic() < deadline:
                rooms = gaps.rooms_to_walk(service, epoch)
                if not rooms:
                    break
                for room in rooms:
                    catch_up(room, epoch)
                    walked += 1
                    if time.monotonic() > deadline:
                        break
    except (LockHeld, quiet.Quiet):
        return 0
    except MatrixError as error:
        log.info("catch_up.interrupted", error=error.sentence[:200], walked=walked)
    return walked
