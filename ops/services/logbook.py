"""Writes around the logbook: levels, signatures, captures, profiles, and what is thrown away in time."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from ops import disk_guard, live
from ops.job_kinds import JobFailed, JobHandle, job_kind
from ops.leases import WORKER
from ops.logbook import errands, profile
from ops.logbook.capture import KEPT as CAPTURES_KEPT
from ops.logbook.capture import LONGEST
from ops.logbook.levels import KEY, parse_levels
from ops.logbook.rows import RANKS, STATUS_LOGGER
from ops.logbook.signatures import compile_pattern
from ops.models import Capture, ErrorSignature, Exchange, Job, JobTrigger, LiveSetting, LogLine
from ops.services import audit
from ops.services.jobs import job_start
from ops.support import folder
from ops.words import counted

LINES_KEPT = timedelta(days=7)
MOST_LINES = 200_000
_CHUNK = 5000
LONGEST_LEVEL = timedelta(hours=24)


def log_level_set(*, logger: str, level: str, minutes: float, actor: str) -> datetime:
    """Set the level of one logger in all processes for ``minutes``; returns when it falls back. Raises ``ValidationError``."""
    name = logger.strip()
    if not name or len(name) > 150:
        raise ValidationError({"logger": ["Name a logger, or take the one for everything."]})
    if level not in RANKS:
        raise ValidationError({"level": [f"Choose one of {', '.join(RANKS)}."]})
    span = timedelta(minutes=minutes)
    if not timedelta(0) < span <= LONGEST_LEVEL:
        raise ValidationError({"minutes": ["Choose between a minute and 24 hours: it falls back by itself."]})
    until = timezone.now() + span
    _store_levels({**current_levels(), name: {"level": level, "until": until.isoformat()}}, actor)
    return until


def log_level_clear(*, logger: str, actor: str) -> bool:
    """Give a logger its ordinary level back. False: it had it already."""
    levels = current_levels()
    if levels.pop(logger, None) is None:
        return False
    _store_levels(levels, actor)
    return True


def log_levels_restore(*, levels: dict[str, Any], actor: str) -> None:
    """Put all levels as they were, for undoing a change; what would have ended by now stays away."""
    now = timezone.now()
    _store_levels(
        {
            name: one
            for name, one in parse_levels(levels).items()
            if one["until"] is None or datetime.fromisoformat(one["until"]) > now
        },
        actor,
    )


def current_levels() -> dict[str, dict[str, Any]]:
    """What counts now, read afresh: ``{logger: {level, until}}``; ``until`` None never ends."""
    live.forget()
    now = timezone.now()
    return {
        name: dict(one)
        for name, one in live.live(KEY).items()
        if one["until"] is None or datetime.fromisoformat(one["until"]) > now
    }


def _store_levels(levels: dict[str, dict[str, Any]], actor: str) -> None:
    if not levels:
        live.live_clear(key=KEY, actor=actor)
        return
    ends = [datetime.fromisoformat(one["until"]) if one["until"] else None for one in levels.values()]
    known = [end for end in ends if end is not None]
    live.live_set(key=KEY, value=levels, actor=actor, expires_at=max(known) if len(known) == len(ends) else None)


def signature_add(*, pattern: str, meaning: str, remedy: str = "", check_id: str = "", actor: str) -> ErrorSignature:
    """Add an entry to the dictionary of known errors. Raises ``ValidationError`` with one entry a field."""
    wrong: dict[str, list[str]] = {}
    try:
        if len(pattern) > 300:
            raise ValueError("The pattern is longer than 300 characters.")
        compile_pattern(pattern)
    except ValueError as error:
        wrong["pattern"] = [str(error)]
    if not meaning.strip():
        wrong["meaning"] = ["Say in words what the error means."]
    if check_id and not _is_check(check_id):
        wrong["check_id"] = [f"There is no check {check_id}."]
    if wrong:
        raise ValidationError(wrong)
    try:
        with transaction.atomic():
            row = ErrorSignature.objects.create(
                pattern=pattern,
                meaning=meaning.strip()[:500],
                remedy=remedy.strip()[:500],
                check_id=check_id[:100],
                created_by=actor[:255],
            )
            audit.record(
                actor=actor, action="signature.added", target=row, after={"pattern": pattern, "meaning": meaning}
            )
    except IntegrityError:
        raise ValidationError({"pattern": ["There is an entry with this pattern already."]}) from None
    return row


def signature_remove(*, signature: ErrorSignature, actor: str) -> None:
    """Take an operator's own entry away."""
    with transaction.atomic():
        audit.record(
            actor=actor,
            action="signature.removed",
            target=signature,
            before={"pattern": signature.pattern, "meaning": signature.meaning},
        )
        signature.delete()


def _is_check(check_id: str) -> bool:
    from ops.doctor.catalogue import get_entry
    from ops.registry import get_check

    return get_check(check_id) is not None or get_entry(check_id) is not None


def capture_start(*, minutes: float, service: str = "", agent: str = "", actor: str) -> Capture:
    """Write calls to outside servers down for ``minutes`` (at most an hour), those of one service or agent, or all.

    Raises ``ValidationError``.
    """
    from ops.models import Service

    span = timedelta(minutes=minutes)
    if not timedelta(0) < span <= LONGEST:
        raise ValidationError({"minutes": ["Choose between one and 60 minutes."]})
    if reason := disk_guard.may("capture"):
        raise ValidationError(reason)
    if service and not Service.objects.filter(name=service).exists():
        raise ValidationError({"service": [f"There is no service {service}."]})
    with transaction.atomic():
        row = Capture.objects.create(
            service=service[:64], agent=agent.strip()[:200], until=timezone.now() + span, started_by=actor[:255]
        )
        audit.record(
            actor=actor,
            action="capture.started",
            target=row,
            after={"service": service, "agent": agent, "until": row.until},
        )
    return row


def capture_stop(*, capture: Capture, actor: str) -> bool:
    """End a capture now; what it holds stays. False: it had ended."""
    with transaction.atomic():
        now = timezone.now()
        if not Capture.objects.filter(pk=capture.pk, until__gt=now).update(until=now):
            return False
        audit.record(actor=actor, action="capture.stopped", target=capture)
    capture.refresh_from_db()
    return True


def capture_delete(*, capture: Capture, actor: str) -> None:
    """Throw a capture and all that it holds away."""
    with transaction.atomic():
        audit.record(actor=actor, action="capture.deleted", target=capture)
        capture.delete()


def profile_start(*, process: str, seconds: float, actor: str, trigger: str = JobTrigger.SYSTEM) -> Job:
    """Profile a running process for some seconds, as a job whose result is the profile. Raises ``ValidationError``."""
    if not 1 <= seconds <= profile.LONGEST_SECONDS:
        raise ValidationError({"seconds": [f"Choose between 1 and {profile.LONGEST_SECONDS} seconds."]})
    return job_start(
        kind="ops.profile",
        title=f"Profile of {process or 'a worker'} for {seconds:g} s",
        actor=actor,
        trigger=trigger,
        params={"process": process, "seconds": seconds},
    )


@job_kind("ops.profile", label="Profile a process")
def profile_job(job: JobHandle, *, process: str = "", seconds: float = 10.0) -> dict[str, Any]:
    """Here when it is this process, or none in particular; else the process itself does it and sends the result."""

    def progress(share: float) -> None:
        job.progress(round(share * seconds), round(seconds), "Looking at what the threads do")

    if process in ("", WORKER):
        result = profile.sample(seconds, should_stop=job.should_stop, progress=progress)
    else:
        errand = uuid.uuid4().hex
        errands.ask(errand=errand, process=process, seconds=seconds, actor=job.actor)
        try:
            result = errands.wait_for(
                errand, process=process, seconds=seconds, should_stop=job.should_stop, progress=progress
            )
        except errands.NoAnswer as error:
            raise JobFailed(str(error)) from None
    took = f"{result['seconds']:g} s, {counted(int(result['samples']), 'look')}, at a cost of {result['overhead_percent']:g} %"
    return {"process": process or WORKER, "sentence": f"Profiled for {took}.", "profile": result}


def profile_requests_clear(*, errand_ids: Iterable[str], actor: str) -> int:
    """Take wishes for profiles back that nobody answered; returns how many there were."""
    keys = [f"{errands.ASK}{errand}" for errand in errand_ids]
    with transaction.atomic():
        count = LiveSetting.objects.filter(key__in=keys).delete()[0]
        if count:
            audit.record(
                actor=actor,
                action="profile.withdrawn",
                message=f"{counted(count, 'wish', 'wishes')} that nobody answered.",
            )
    return count


def prune() -> dict[str, int]:
    """Throw away old lines, lines beyond the most that are kept, old captures, and settings whose time is over."""
    now = timezone.now()
    return {
        "log_lines": prune_lines(kept=_lines_kept()),
        "support_files": folder.prune(),
        "captures": Capture.objects.filter(until__lt=now - CAPTURES_KEPT).delete()[0],
        "live_settings": LiveSetting.objects.filter(expires_at__lt=now - timedelta(minutes=1)).delete()[0],
    }


def _lines_kept() -> timedelta | None:
    """What an operator has set (``retention.logs.days``); None: for as long as their number allows."""
    from ops.retention import on_hold

    days = int(live.live("retention.logs.days"))
    return timedelta(days=days) if days and not on_hold() else None


def prune_lines(*, kept: timedelta | None = LINES_KEPT, most: int = MOST_LINES) -> int:
    """In small steps, so that nobody waits long for the database."""
    gone = 0
    newest = LogLine.objects.order_by("-id").values_list("id", flat=True).first()
    if newest is None:
        return 0
    # Numbers without gaps are near enough: what is bounded is the room that they take.
    ends = (
        LogLine.objects.filter(at__lt=timezone.now() - kept) if kept is not None else LogLine.objects.none(),
        LogLine.objects.exclude(logger=STATUS_LOGGER).filter(id__lte=newest - most),
    )
    for rows in ends:
        while True:
            ids = list(rows.order_by("id").values_list("id", flat=True)[:_CHUNK])
            if not ids:
                break
            gone += LogLine.objects.filter(id__in=ids)._raw_delete(LogLine.objects.db)
    return gone


def exchanges_of(capture: Capture) -> Any:
    """The calls that a capture holds, oldest first."""
    return Exchange.objects.filter(capture=capture).order_by("id")
