"""Profiles that one process asks of another: the wish and the answer are rows, so they reach any process on any host."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any

from django.db import connections
from django.utils import timezone

from ops.logbook.keeper import unkept
from ops.logbook.profile import sample
from ops.models import LiveSetting

ASK, ANSWER = "profile.ask.", "profile.answer."
# What nobody fetched, or nobody answered, goes away by itself.
KEPT = timedelta(minutes=15)
# An answer that is not there so many seconds after its time does not come any more.
PATIENCE = 20.0


class NoAnswer(Exception):
    """The process did not do what was asked of it. The text says so to the operator."""


def ask(*, errand: str, process: str, seconds: float, actor: str) -> None:
    """Put the wish where the process looks for it every two seconds."""
    LiveSetting.objects.update_or_create(
        key=f"{ASK}{errand}",
        defaults={
            "value": {"process": process, "seconds": seconds, "asked_at": timezone.now().isoformat()},
            "expires_at": timezone.now() + KEPT,
            "changed_by": actor[:255],
        },
    )


def fetch(errand: str) -> dict[str, Any] | None:
    """The answer, taken away with its wish; None while there is none."""
    row = LiveSetting.objects.filter(key=f"{ANSWER}{errand}").first()
    if row is None:
        return None
    LiveSetting.objects.filter(key__in=(f"{ANSWER}{errand}", f"{ASK}{errand}")).delete()
    return dict(row.value)


def withdraw(errand: str) -> None:
    """Nobody waits for it any longer."""
    LiveSetting.objects.filter(key__in=(f"{ANSWER}{errand}", f"{ASK}{errand}")).delete()


def unanswered(older_than: float = 0.0) -> list[tuple[str, dict[str, Any]]]:
    """Wishes whose time, and ``PATIENCE``, is over by ``older_than`` seconds: (errand, value)."""
    now = timezone.now()
    found = []
    for row in LiveSetting.objects.filter(key__startswith=ASK):
        asked = row.expires_at - KEPT if row.expires_at else row.changed_at
        if (now - asked).total_seconds() > float(row.value.get("seconds", 0)) + PATIENCE + older_than:
            found.append((row.key.removeprefix(ASK), dict(row.value)))
    return found


def wait_for(errand: str, *, process: str, seconds: float, should_stop: Any, progress: Any) -> dict[str, Any]:
    """Wait for the answer. Raises ``NoAnswer``."""
    until = time.monotonic() + seconds + PATIENCE
    started = time.monotonic()
    while time.monotonic() < until and not should_stop():
        found = fetch(errand)
        if found is not None:
            return found
        progress(min(1.0, (time.monotonic() - started) / seconds))
        time.sleep(0.5)
    withdraw(errand)
    if should_stop():
        raise NoAnswer("It was cancelled.")
    raise NoAnswer(
        f"The process {process} did not answer within {seconds + PATIENCE:.0f} s. It may have ended, or hang; look at its "
        "logbook on the page of the logs."
    )


class Errands:
    """What is asked of this process; ``look`` starts at most one profile at a time, in a thread of its own."""

    def __init__(self, process: str) -> None:
        self.process = process
        self._taken: set[str] = set()
        self._thread: threading.Thread | None = None

    def look(self) -> bool:
        """Returns whether a profile was started."""
        if self._thread is not None and self._thread.is_alive():
            return False
        for row in LiveSetting.objects.filter(key__startswith=ASK, expires_at__gt=timezone.now()):
            errand = row.key.removeprefix(ASK)
            if row.value.get("process") != self.process or errand in self._taken:
                continue
            self._taken.add(errand)
            seconds = float(row.value.get("seconds", 10))
            self._thread = threading.Thread(target=self._do, args=(errand, seconds), name="profile", daemon=True)
            self._thread.start()
            return True
        return False

    def _do(self, errand: str, seconds: float) -> None:
        try:
            result = sample(seconds)
            with unkept():
                # Whoever asked may have given up.
                if LiveSetting.objects.filter(key=f"{ASK}{errand}").exists():
                    LiveSetting.objects.update_or_create(
                        key=f"{ANSWER}{errand}",
                        defaults={
                            "value": result,
                            "expires_at": timezone.now() + KEPT,
                            "changed_by": f"process:{self.process}"[:255],
                        },
                    )
        finally:
            connections.close_all()
