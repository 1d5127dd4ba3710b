"""Runs checks: those that are due, each in a thread with a time-out, dependencies first, and keeps what they found."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connections, transaction
from django.utils import timezone

from ops.choices import CheckStatus
from ops.doctor.issues import Tally, settle
from ops.findings import Finding
from ops.locks import LockHeld, named_lock
from ops.logs import bind, get_logger
from ops.models import CheckResult, CheckState
from ops.processes.facts import started_at
from ops.redaction import redact, redact_text
from ops.registry import Affected, Check, CheckOutcome, Fix, all_checks, get_check

logger = get_logger(__name__)

AT_ONCE = 8
# So many affected objects go into an answer; an issue keeps more of them as rows.
AFFECTED_SHOWN = 50
# Checks that run this rarely turn over whole files and packages: after a start they begin a few at a time, so that whoever has
# just started Switchboard does not wait for them; and the rarest, which can wait best, only when all the rest has settled.
THOROUGH = 600.0
BEGIN_AT_ONCE = 2
RAREST = 3600.0
SETTLED_AFTER = 120.0
# Between two changes the history gets one row in so many minutes.
SAMPLE_EVERY = timedelta(minutes=10)
# Beat ticks every 15 seconds: a check whose time comes a moment after a tick runs at that tick.
_SLACK = timedelta(seconds=2)
_BROKEN = (CheckStatus.FAIL, CheckStatus.BLOCKED)


@dataclass(frozen=True, slots=True)
class CheckRun:
    """What one run of a check found on one target. ``status`` may be blocked as well."""

    check: Check
    target: str
    status: str
    sentence: str
    evidence: dict[str, Any]
    duration_ms: int
    affected: tuple[Affected, ...] = field(default=(), repr=False)
    fix: Fix | None = None

    def names(self, target: str) -> bool:
        """Whether it is about ``target`` (``service:letta``, ``letta``, ``agent:42``)."""
        return self.target in (target, target.partition(":")[2]) or any(one.target == target for one in self.affected)

    def finding(self) -> Finding | None:
        """A finding when something is wrong, else None."""
        if self.status == CheckStatus.FAIL:
            return Finding(self.check.severity, self.check.id, self.sentence, self.target, self.evidence)
        if self.status == CheckStatus.WARN:
            return Finding("warning", self.check.id, self.sentence, self.target, self.evidence)
        return None

    def to_dict(self) -> dict[str, Any]:
        """JSON shape: ``{check, title, target, status, severity, sentence, evidence, affected, affected_count, duration_ms}``.

        ``affected`` lists the first ``AFFECTED_SHOWN``.
        """
        return {
            "check": self.check.id,
            "title": self.check.title,
            "target": self.target,
            "status": str(self.status),
            "severity": self.check.severity,
            "sentence": self.sentence,
            "evidence": self.evidence,
            "affected": [{"target": one.target, "sentence": one.sentence} for one in self.affected[:AFFECTED_SHOWN]],
            "affected_count": len(self.affected),
            "duration_ms": self.duration_ms,
        }


def run_due_checks() -> list[CheckRun]:
    """Run what is due; nothing when another worker is at it. What is thorough waits until this process has settled."""
    try:
        with named_lock("ops.run_checks", ttl=120):
            return run_checks(only_due=True)
    except LockHeld:
        return []


def run_checks(
    ids: Iterable[str] | None = None,
    *,
    tags: Iterable[str] = (),
    target: str = "",
    only_due: bool = False,
    live: bool = False,
) -> list[CheckRun]:
    """Run all checks, or those with these ids or tags, store what they found, and open and close issues by it.

    Returns the runs in order of dependency. With ``target`` only those that are about it: a check with targets is asked about
    that one alone. Checks that act on the world run when they are named, or with ``live``. Dependencies that are not asked for
    count by their stored state. Raises ``ValueError`` for an id that is not registered.
    """
    checks = all_checks()
    wanted = set(ids or ())
    unknown = wanted - {check.id for check in checks}
    if unknown:
        raise ValueError(f"There is no check {', '.join(sorted(unknown))}.")
    tag_set = set(tags)
    states = _stored_states()
    statuses = {place: state.status for place, state in states.items()}
    runs: list[CheckRun] = []
    begun = 0
    now = timezone.now()
    began = datetime.fromtimestamp(started_at(), UTC)
    chosen = [
        check
        for check in checks
        if (check.id in wanted if wanted else live or not check.live) and (not tag_set or tag_set & set(check.tags))
    ]
    gone: list[tuple[str, str]] = []
    for wave in _waves(chosen):
        todo: list[tuple[Check, str]] = []
        for check in wave:
            targets = _targets(check, runs)
            if targets is None:
                continue
            gone += _forget_others(check, targets, states)
            if target and check.targets is not None:
                targets = [one for one in targets if one in (target, target.partition(":")[2])]
            asked = [(check, t) for t in targets if not only_due or _is_due(check, states.get((check.id, t)), now)]
            if asked and only_due and _begins(check, targets, states, began):
                if begun >= BEGIN_AT_ONCE or not _may_begin(check, now - began):
                    continue
                begun += 1
            todo += asked
        for run in _run_wave(todo, statuses):
            statuses[run.check.id, run.target] = run.status
            runs.append(run)
    tallies = [_store(run) for run in runs]
    try:
        settle(tallies, gone)
    except Exception:
        # The database is what is broken: whoever called still gets what was found.
        logger.exception("issues_not_settled")
    return [run for run in runs if not target or run.names(target)]


def _stored_states() -> dict[tuple[str, str], CheckState]:
    try:
        return {(state.check_id, state.target): state for state in CheckState.objects.all()}
    except Exception:
        # The database is what is broken: the checks can still say so to whoever called.
        logger.warning("check_states_unreadable", exc_info=True)
        return {}


def _waves(checks: list[Check]) -> Iterable[list[Check]]:
    """Groups of which each needs only earlier ones; members of a group run at the same time."""
    level: dict[str, int] = {}
    groups: dict[int, list[Check]] = {}
    for check in checks:  # dependencies come first
        level[check.id] = max((level[needed] + 1 for needed in check.depends_on if needed in level), default=0)
        groups.setdefault(level[check.id], []).append(check)
    return [groups[number] for number in sorted(groups)]


def _targets(check: Check, runs: list[CheckRun]) -> list[str] | None:
    if check.targets is None:
        return [""]
    try:
        return sorted(set(check.targets()))
    except Exception as error:
        logger.warning("check_targets_failed", check=check.id, exc_info=True)
        sentence = f"Its targets cannot be listed ({type(error).__name__}: {redact_text(str(error))})."
        runs.append(CheckRun(check, "", CheckStatus.FAIL, sentence[:1000], {}, 0))
        return None


def _forget_others(
    check: Check, targets: list[str], states: dict[tuple[str, str], CheckState]
) -> list[tuple[str, str]]:
    """States of targets that are no more (a removed service) would stay red for ever. Returns their places."""
    gone = {place: state.pk for place, state in states.items() if place[0] == check.id and place[1] not in targets}
    if gone:
        CheckState.objects.filter(pk__in=gone.values()).delete()
    return list(gone)


def _is_due(check: Check, state: CheckState | None, now: datetime) -> bool:
    return state is None or now - state.checked_at >= timedelta(seconds=check.interval) - _SLACK


def _begins(check: Check, targets: list[str], states: dict[tuple[str, str], CheckState], began: datetime) -> bool:
    """Whether it is a thorough one that nobody has run since this process began."""
    known = (states.get((check.id, target)) for target in targets)
    return check.interval >= THOROUGH and not any(state is not None and state.checked_at >= began for state in known)


def _may_begin(check: Check, age: timedelta) -> bool:
    return check.interval < RAREST or age >= timedelta(seconds=SETTLED_AFTER)


def _run_wave(todo: list[tuple[Check, str]], statuses: dict[tuple[str, str], str]) -> list[CheckRun]:
    """Run these, at most ``AT_ONCE`` at the same time, in the order given."""
    results: dict[tuple[str, str], CheckRun] = {}
    started: list[_Attempt] = []
    for check, target in todo:
        blocker = _blocker(check, target, statuses)
        if blocker:
            sentence = f"Not asked, since {blocker} failed."
            results[check.id, target] = CheckRun(
                check, target, CheckStatus.BLOCKED, sentence, {"blocked_by": blocker}, 0
            )
            continue
        # One that has used up its time no longer counts, so that a few that hang do not hold up the rest.
        while sum(attempt.is_busy() for attempt in started) >= AT_ONCE:
            time.sleep(0.01)
        started.append(_Attempt(check, target))
    for attempt in started:
        results[attempt.check.id, attempt.target] = attempt.wait()
    return [results[check.id, target] for check, target in todo]


def _blocker(check: Check, target: str, statuses: dict[tuple[str, str], str]) -> str:
    """Id of the failed check at the root of it, "" when nothing stands in the way."""
    for needed in check.depends_on:
        for place in dict.fromkeys(((needed, target), (needed, ""))):
            status = statuses.get(place)
            if status == CheckStatus.FAIL:
                return needed
            if status == CheckStatus.BLOCKED:
                further = get_check(needed)
                return (_blocker(further, target, statuses) if further is not None else "") or needed
    return ""


class _Attempt:
    """One check on one target in a thread of its own. Python cannot stop a thread: one that hangs is left behind, and the same
    check is not started again until it has come back."""

    _hanging: dict[tuple[str, str], threading.Thread] = {}
    _lock = threading.Lock()

    def __init__(self, check: Check, target: str) -> None:
        self.check = check
        self.target = target
        self._outcome: CheckOutcome | None = None
        self._started = self._ended = time.monotonic()
        self._deadline = self._started + check.timeout
        self._thread: threading.Thread | None = None
        with self._lock:
            before = self._hanging.get((check.id, target))
            if before is not None and before.is_alive():
                self._outcome = CheckOutcome(
                    "fail", "The last run of this check still hangs; what it asks does not answer."
                )
                return
            context = copy_context()
            # Daemon: a check that hangs must not keep the process from ending.
            self._thread = threading.Thread(
                target=context.run, args=(self._call,), name=f"check {check.id}", daemon=True
            )
            self._hanging[check.id, target] = self._thread
            self._thread.start()

    def is_busy(self) -> bool:
        return self._outcome is None and time.monotonic() < self._deadline

    def wait(self) -> CheckRun:
        """The outcome, or a failure once the time-out has passed."""
        if self._thread is not None:
            self._thread.join(timeout=max(0.0, self._deadline - time.monotonic()))
        outcome = self._outcome
        if outcome is None:
            self._ended = time.monotonic()
            outcome = CheckOutcome("fail", f"No answer within {self.check.timeout:g} s.")
        milliseconds = max(0, round((self._ended - self._started) * 1000))
        evidence = redact(dict(outcome.evidence))
        sentence = redact_text(outcome.sentence)[:1000]
        return CheckRun(
            self.check, self.target, outcome.status, sentence, evidence, milliseconds, outcome.affected, outcome.fix
        )

    def _call(self) -> None:
        with bind(check=self.check.id, target=self.target or None):
            try:
                outcome = self.check.function(self.target) if self.check.targets is not None else self.check.function()
            except Exception as error:
                logger.info("check_raised", exc_info=True)
                text = " ".join(redact_text(str(error)).split())
                outcome = CheckOutcome(
                    "fail", f"{type(error).__name__}: {text}" if text else f"{type(error).__name__}."
                )
            finally:
                connections.close_all()
            self._ended = time.monotonic()
            self._outcome = outcome


def _store(run: CheckRun) -> Tally:
    """Keep the outcome. The counts go on from what is stored now: another process may run the same check at this moment."""
    now = timezone.now()
    is_bad = run.status in (CheckStatus.FAIL, CheckStatus.WARN)
    tally = Tally(run, int(is_bad), int(not is_bad))
    place = {"check_id": run.check.id, "target": run.target[:200]}
    try:
        with transaction.atomic():
            state = CheckState.objects.select_for_update().filter(**place).first()
            known = state is not None
            if state is None:
                state = CheckState(**place, since=now)
            changed = state.status != run.status
            if run.status != CheckStatus.BLOCKED:  # blocked: nobody asked, so nothing is known
                state.failures_in_a_row = state.failures_in_a_row + 1 if run.status == CheckStatus.FAIL else 0
                state.bad_in_a_row = state.bad_in_a_row + 1 if is_bad else 0
                state.good_in_a_row = 0 if is_bad else state.good_in_a_row + 1
            state.since = now if changed else state.since
            state.status, state.sentence, state.evidence = run.status, run.sentence, run.evidence
            state.duration_ms, state.checked_at = run.duration_ms, now
            state.save()
            if changed or not _sampled_lately(run, now):
                CheckResult.objects.create(
                    **place,
                    status=run.status,
                    sentence=run.sentence,
                    duration_ms=run.duration_ms,
                    changed=changed,
                    at=now,
                )
    except Exception:
        logger.exception("check_not_stored", check=run.check.id)
        return tally
    if changed:
        # That everything is well at the first look is no news.
        well = logger.info if known else logger.debug
        say = logger.warning if run.status in _BROKEN else well
        say("check_changed", check=run.check.id, target=run.target, status=str(run.status), sentence=run.sentence)
    return Tally(run, state.bad_in_a_row, state.good_in_a_row)


def _sampled_lately(run: CheckRun, now: datetime) -> bool:
    return CheckResult.objects.filter(
        check_id=run.check.id, target=run.target[:200], at__gt=now - SAMPLE_EVERY
    ).exists()
