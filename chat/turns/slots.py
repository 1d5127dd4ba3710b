"""How many turns one process runs at once: fewer than its threads, so that slow answers never starve deliveries."""

from __future__ import annotations

import threading

from django.conf import settings

# Threads that turns may not take: deliveries, sync and checks go on however many answers are slow.
RESERVED = 8


class Slots:
    """A counting gate that remembers whether somebody was turned away."""

    def __init__(self, size: int) -> None:
        self._gate = threading.BoundedSemaphore(max(1, size))
        self.turned_away = threading.Event()

    def take(self) -> bool:
        if self._gate.acquire(blocking=False):
            return True
        self.turned_away.set()
        return False

    def give_back(self) -> None:
        self._gate.release()


SLOTS = Slots(settings.WORKER_CONCURRENCY - min(RESERVED, settings.WORKER_CONCURRENCY // 2))
