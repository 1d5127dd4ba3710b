"""Opens and closes issues by what checks found. Nobody else does: an issue cannot be marked as fixed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from ops.choices import CheckStatus, IssueState
from ops.findings import SEVERITIES
from ops.logs import get_logger
from ops.models import Issue, IssueTarget
from ops.redaction import redact, redact_text

if TYPE_CHECKING:
    from ops.runner import CheckRun

logger = get_logger(__name__)

# So many affected objects are kept as rows; the count says how many there are.
KEPT_TARGETS = 500
# An issue that came back so often within the hour is flapping: it stays open until its check passed for a while.
FLAPS = 3
FLAP_WINDOW = timedelta(hours=1)
CALM = timedelta(minutes=10)

IssueEvent = Literal["opened", "reopened", "worse", "recovered"]
Listener = Callable[[IssueEvent, Issue], None]
_listeners: list[Listener] = []
Place = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Tally:
    """A run, and how many bad and good outcomes in a row its place has had with it."""

    run: CheckRun
    bad: int
    good: int


def on_issue(listener: Listener) -> Listener:
    """Call ``listener(event, issue)`` after the commit that opened, reopened, worsened or closed an issue. A decorator."""
    if listener not in _listeners:
        _listeners.append(listener)
    return listener


def settle(tallies: Sequence[Tally], gone: Iterable[Place] = ()) -> None:
    """Bring the issues in line with these outcomes. ``gone`` are places whose target is no more: their issues close.

    The tallies come in order of dependency, so that a root cause is known before what follows from it.
    """
    now = timezone.now()
    known: dict[Place, Issue] = {
        (issue.check_id, issue.target): issue for issue in Issue.objects.exclude(state=IssueState.RESOLVED)
    }
    for place in gone:
        issue = known.pop(place, None)
        if issue is not None:
            _close(issue, now, "What it was about is gone.")
    for tally in tallies:
        run = tally.run
        place = (run.check.id, run.target[:200])
        issue = known.get(place)
        if run.status in (CheckStatus.FAIL, CheckStatus.WARN):
            if issue is not None:
                _still_bad(issue, tally, now, known)
            elif tally.bad >= run.check.opens_after:
                fresh = _open(tally, now, known)
                if fresh is not None:
                    known[place] = fresh
        elif issue is not None and run.status == CheckStatus.BLOCKED:
            _blocked(issue, run, known)
        elif issue is not None and _good(issue, tally, now):
            del known[place]


def _severity(run: CheckRun) -> str:
    if run.status == CheckStatus.FAIL or run.check.severity == "info":
        return run.check.severity
    return "warning"


def _open(tally: Tally, now: datetime, known: dict[Place, Issue]) -> Issue | None:
    run = tally.run
    before = (
        Issue.objects.filter(
            check_id=run.check.id, target=run.target[:200], state=IssueState.RESOLVED, resolved_at__gt=now - FLAP_WINDOW
        )
        .order_by("-resolved_at")
        .first()
    )
    try:
        with transaction.atomic():
            issue = Issue.objects.create(
                check_id=run.check.id,
                target=run.target[:200],
                status=run.status,
                severity=_severity(run),
                sentence=run.sentence,
                evidence=run.evidence,
                fix=_fix(run),
                affected_count=len(run.affected),
                root=_root(run, known),
                failures=tally.bad,
                flaps=before.flaps + 1 if before is not None else 0,
                opened_at=now,
                last_failed_at=now,
            )
            _keep_targets(issue, run, now)
            _tell("opened", issue)
    except IntegrityError:
        return None  # another process opened it at this moment
    logger.warning("issue_opened", check=run.check.id, target=run.target, sentence=run.sentence)
    return issue


def _still_bad(issue: Issue, tally: Tally, now: datetime, known: dict[Place, Issue]) -> None:
    run = tally.run
    severity = _severity(run)
    worse = SEVERITIES.index(severity) > SEVERITIES.index(issue.severity)
    waited = issue.state == IssueState.SNOOZED and (issue.snoozed_until is None or issue.snoozed_until <= now)
    released = issue.state == IssueState.IGNORED and issue.ignored_in != settings.VERSION
    fields: dict[str, Any] = {
        "status": run.status,
        "severity": severity,
        "sentence": run.sentence,
        "evidence": run.evidence,
        "fix": _fix(run),
        "affected_count": len(run.affected),
        "root": _root(run, known),
        "failures": tally.bad,
        "last_failed_at": now,
        "passing_since": None,
    }
    if waited or released:
        fields["state"] = IssueState.OPEN
    with transaction.atomic():
        # Conditional on what we saw: an operator may acknowledge it at this moment.
        rows = Issue.objects.filter(pk=issue.pk, state=issue.state)
        if not rows.update(**fields):
            fields.pop("state", None)
            Issue.objects.filter(pk=issue.pk).exclude(state=IssueState.RESOLVED).update(**fields)
        for name, value in fields.items():
            setattr(issue, name, value)
        _keep_targets(issue, run, now)
        if waited or released:
            _tell("reopened", issue)
        elif worse:
            _tell("worse", issue)


def _blocked(issue: Issue, run: CheckRun, known: dict[Place, Issue]) -> None:
    root = _issue_of(str(run.evidence.get("blocked_by", "")), run.target, known)
    if root is not None and issue.root_id != root.pk:
        issue.root = root
        Issue.objects.filter(pk=issue.pk).update(root=root)


def _good(issue: Issue, tally: Tally, now: datetime) -> bool:
    """The check passed (or no longer applies): close the issue, or wait to be sure. True when it was closed."""
    since = issue.passing_since or now
    calm = issue.flaps < FLAPS or now - since >= CALM
    if tally.good >= tally.run.check.closes_after and calm:
        _close(issue, now, tally.run.sentence)
        return True
    if issue.passing_since is None:
        issue.passing_since = now
        Issue.objects.filter(pk=issue.pk).update(passing_since=now)
    return False


def _close(issue: Issue, now: datetime, sentence: str) -> None:
    with transaction.atomic():
        if not (
            Issue.objects.filter(pk=issue.pk)
            .exclude(state=IssueState.RESOLVED)
            .update(state=IssueState.RESOLVED, resolved_at=now, passing_since=None)
        ):
            return
        issue.state, issue.resolved_at, issue.passing_since = IssueState.RESOLVED, now, None
        _tell("recovered", issue)
    logger.info("issue_resolved", check=issue.check_id, target=issue.target, sentence=sentence)


def _fix(run: CheckRun) -> dict[str, Any]:
    if run.fix is not None:
        fix: dict[str, Any] = redact({"repair": run.fix.repair, "target": run.fix.target, "params": run.fix.params})
        return fix
    return {"repair": run.check.repairs[0], "target": run.target, "params": {}} if run.check.repairs else {}


def _root(run: CheckRun, known: dict[Place, Issue]) -> Issue | None:
    """The issue that this failure follows from: an open one of a check that it depends on."""
    for needed in run.check.depends_on:
        found = _issue_of(needed, run.target, known)
        if found is not None:
            return found.root or found
    return None


def _issue_of(check_id: str, target: str, known: dict[Place, Issue]) -> Issue | None:
    return known.get((check_id, target)) or known.get((check_id, ""))


def _keep_targets(issue: Issue, run: CheckRun, now: datetime) -> None:
    """The rows of affected objects: those that stay keep their time, those that are well again go."""
    wanted = {one.target[:200]: one for one in run.affected[:KEPT_TARGETS]}
    stored = {row.target: row for row in issue.affected.all()}
    gone = [row.pk for target, row in stored.items() if target not in wanted]
    if gone:
        IssueTarget.objects.filter(pk__in=gone).delete()
    fresh, changed = [], []
    for target, one in wanted.items():
        sentence, evidence = redact_text(one.sentence)[:500], redact(dict(one.evidence))
        row = stored.get(target)
        if row is None:
            fresh.append(IssueTarget(issue=issue, target=target, sentence=sentence, evidence=evidence, since=now))
        elif (row.sentence, row.evidence) != (sentence, evidence):
            row.sentence, row.evidence = sentence, evidence
            changed.append(row)
    IssueTarget.objects.bulk_create(fresh, ignore_conflicts=True)
    if changed:
        IssueTarget.objects.bulk_update(changed, ["sentence", "evidence"])


def _tell(event: IssueEvent, issue: Issue) -> None:
    def after_commit() -> None:
        for listener in _listeners:
            try:
                listener(event, issue)
            except Exception:
                logger.exception("issue_listener_failed", issue=issue.pk, issue_event=event)

    transaction.on_commit(after_commit)
