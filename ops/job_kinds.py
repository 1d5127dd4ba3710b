"""Kinds of jobs, and what a job's function gets in hand."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

from django.db import connections, models
from django.utils import timezone

from ops.logs import get_logger
from ops.models import Job, JobLine, JobState, LogLevel
from ops.redaction import redact_text

logger = get_logger(__name__)

HEARTBEAT_SECONDS = 5.0
# A worker that has said nothing for so long is taken for dead.
SILENCE_SECONDS = 30.0
_PROGRESS_SECONDS = 0.5

# The jobs that this thread is running: one may run another.
CURRENT: ContextVar[tuple[str, ...]] = ContextVar("jobs", default=())

JobFunction = Callable[..., "dict[str, Any] | None"]
F = TypeVar("F", bound=JobFunction)


class JobFailed(Exception):
    """Raised by a job's function to end it with this sentence for the operator, without a traceback."""


class JobStopped(Exception):
    """Raised by a job's function that obeys ``should_stop``; returning does as well."""


class JobLost(Exception):
    """The job was taken over: this worker was thought dead. The function must let it pass."""


@dataclass(frozen=True, slots=True)
class JobKind:
    """A registered kind. ``resumable``: the function may be started again after its worker died, up to ``attempts`` times. ``stopping``: what
    cancelling it means, where that is not what it is with others."""

    kind: str
    label: str
    function: JobFunction
    resumable: bool = False
    attempts: int = 3
    stopping: str = ""


_kinds: dict[str, JobKind] = {}


def job_kind(
    kind: str, *, label: str, resumable: bool = False, attempts: int = 3, stopping: str = ""
) -> Callable[[F], F]:
    """Decorator: ``def sync(job: JobHandle, *, service_id: int) -> dict | None`` runs jobs of this kind.

    The function gets the handle and the job's ``params`` as keyword arguments; it returns JSON for ``Job.result``, raises
    ``JobFailed`` with a sentence, and asks ``job.should_stop()`` between steps.
    """

    def register(function: F) -> F:
        known = _kinds.get(kind)
        if known is not None and (known.function.__module__, known.function.__qualname__) != (
            function.__module__,
            function.__qualname__,
        ):
            raise ValueError(f"The job kind {kind!r} is already registered by {known.function.__module__}.")
        _kinds[kind] = JobKind(kind, label, function, resumable, attempts, stopping)
        return function

    return register


def get_job_kind(kind: str) -> JobKind | None:
    """The registered kind, or None."""
    return _kinds.get(kind)


def job_kinds() -> list[JobKind]:
    """All registered kinds."""
    return list(_kinds.values())


class JobHandle:
    """What a job's function works with. Safe to use from threads that the function starts."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._fence = job.fence
        self._stop = threading.Event()
        self._lost = False
        self._last_progress = 0.0
        self._last_text = ""
        self._asked = 0.0
        self.stop_seen = False

    @property
    def actor(self) -> str:
        return self.job.actor

    @property
    def params(self) -> dict[str, Any]:
        return dict(self.job.params)

    def progress(self, done: int, total: int = 0, text: str = "") -> None:
        """Show how far it is; written at most twice a second, and always when ``done`` reaches ``total`` or a step begins that says no numbers.

        Raises ``JobLost`` when another worker has the job.
        """
        now = time.monotonic()
        new_step = not done and not total and text != self._last_text
        if now - self._last_progress < _PROGRESS_SECONDS and not (total and done >= total) and not new_step:
            return
        self._last_text = text
        self._last_progress = now
        self._write(
            progress_done=max(0, done),
            progress_total=max(0, total),
            progress_text=redact_text(text)[:255],
            heartbeat_at=timezone.now(),
        )

    def log(self, level: str, text: str) -> None:
        """Add a line to the job's log. ``level``: debug, info, warning or error. Raises ``JobLost``."""
        if level not in LogLevel.values:
            raise ValueError(f"{level!r} is not a level; use one of {', '.join(LogLevel.values)}.")
        if not self._rows().exists():
            self._give_up()
        JobLine.objects.create(job=self.job, at=timezone.now(), level=level, text=redact_text(text))

    def should_stop(self) -> bool:
        """True once somebody asked to cancel the job; asks the database at most twice a second. Raises ``JobLost``."""
        now = time.monotonic()
        if not self._stop.is_set() and now - self._asked >= _PROGRESS_SECONDS:
            self._asked = now
            self._look()
        if self._lost:
            self._give_up()
        self.stop_seen = self.stop_seen or self._stop.is_set()
        return self._stop.is_set()

    def beat(self, end: threading.Event) -> None:
        """Body of the thread that keeps the job alive while its function works."""
        try:
            while not end.wait(HEARTBEAT_SECONDS):
                try:
                    self._lost = self._lost or not self._rows().update(heartbeat_at=timezone.now())
                    self._look()
                except Exception:
                    logger.warning("job_heartbeat_failed", exc_info=True)
        finally:
            connections.close_all()

    def finish(self, state: str, **fields: Any) -> bool:
        """Write the end. False: the job is somebody else's, and nothing was written."""
        return bool(self._rows().update(state=state, finished_at=timezone.now(), **fields))

    def _rows(self) -> models.QuerySet[Job]:
        return Job.objects.filter(pk=self.job.pk, fence=self._fence, state=JobState.RUNNING)

    def _look(self) -> None:
        asked = self._rows().values_list("cancel_requested", flat=True).first()
        if asked is None:
            self._lost = True
        elif asked:
            self._stop.set()

    def _write(self, **fields: Any) -> None:
        if not self._rows().update(**fields):
            self._give_up()

    def _give_up(self) -> None:
        self._lost = True
        raise JobLost("Another worker has taken this job over; this one stops.")
