"""Probes that the manager has: whether they can fail, and whether they leave a process the time to start."""

from __future__ import annotations

import math
from datetime import timedelta

from django.utils import timezone

from ops.doctor_services.deploy_files import Probed, cannot_fail, read_probes
from ops.models import CheckState, Process
from ops.processes.queries import ROLE_WORDS
from ops.registry import Affected, CheckOutcome, register_check
from ops.words import counted

_LOOK_BACK = timedelta(days=14)
_STARTS = 20
# A service that failed its own test for so long, while its health endpoint said all the time that it was well.
_OUTAGE = timedelta(minutes=5)


@register_check(
    "svc.vacuous_probe",
    title="Every probe can fail",
    tags=("start", "config"),
    interval=3600,
    severity="warning",
)
def vacuous_probe() -> CheckOutcome:
    """Red for a probe in a compose file or unit that can never say no (``exit 0``, ``|| true``, curl without ``-f``), and for a
    health endpoint that stayed green while its own service failed for minutes.

    Read are the files of DEPLOY_FILES, or those that we ship. A process without a probe is a warning.
    """
    probes, problems = read_probes()
    blind = [(one, why) for one in probes if one.test and (why := cannot_fail(one.test))]
    without = [one for one in probes if one.kind == "compose" and one.test == "" and one.role]
    lying = _stayed_green()
    evidence = {
        "probes": [{"file": one.file, "service": one.service, "test": one.test} for one in probes if one.test][:50],
        "cannot_fail": [{"file": one.file, "service": one.service, "test": one.test, "why": why} for one, why in blind],
        "without": [{"file": one.file, "service": one.service, "role": one.role} for one in without],
        "stayed_green": lying,
        "unreadable": problems,
    }
    if blind:
        first, why = blind[0]
        affected = tuple(Affected(f"file:{one.file}", f"{one.service}: {reason}.") for one, reason in blind)
        sentence = f"The probe of {first.service} in {first.file} cannot fail: {why}. It would be green in any outage. Use a real one."
        return CheckOutcome("fail", sentence, evidence, affected)
    if lying:
        sentence = f"The health endpoint {lying[0]} said that all was well while its service failed for minutes: it asks too little."
        return CheckOutcome("fail", sentence, evidence)
    if problems:
        return CheckOutcome("warn", f"{problems[0]} Correct DEPLOY_FILES.", evidence)
    if without:
        names = ", ".join(one.service for one in without)
        return CheckOutcome("warn", f"No probe watches {names} in {without[0].file}. Give each one.", evidence)
    return CheckOutcome("pass", f"{counted(sum(1 for one in probes if one.test), 'probe')} can fail.", evidence)


def _stayed_green() -> list[str]:
    """Names of probes of our table that are green while the service of the same name has failed for minutes."""
    before = timezone.now() - _OUTAGE
    green = set(
        CheckState.objects.filter(check_id="svc.health_endpoints", status="pass", since__lt=before).values_list(
            "target", flat=True
        )
    )
    failing = CheckState.objects.filter(check_id__endswith=".reachable", status="fail", since__lt=before)
    return sorted(green & set(failing.values_list("target", flat=True)))


@register_check(
    "svc.unhealthy_start",
    title="Processes get the time that they need to start",
    tags=("start", "config"),
    interval=3600,
    severity="warning",
    depends_on=("db.reachable",),
)
def unhealthy_start() -> CheckOutcome:
    """Red when a process takes longer to be ready (the 95th percentile of its last twenty starts) than its manager gives it.

    A compose service counts as unhealthy after its ``start_period`` and all ``retries``; a systemd unit after ``TimeoutStartSec``.
    """
    measured = start_times()
    late: list[tuple[Probed, float]] = []
    shown = []
    for one in read_probes()[0]:
        took = measured.get(one.role)
        if took is None or (one.kind == "compose" and not one.test):
            continue
        shown.append(
            {
                "file": one.file,
                "service": one.service,
                "role": one.role,
                "measured": took,
                "allowed": _finite(one.start_seconds),
            }
        )
        if took > one.start_seconds:
            late.append((one, took))
    evidence = {"starts": measured, "services": shown}
    if not late:
        words = (
            ", ".join(f"{ROLE_WORDS.get(role, role)} {took:.1f} s" for role, took in measured.items())
            or "no start measured yet"
        )
        return CheckOutcome("pass", f"Every process starts within its time ({words}).", evidence)
    one, took = late[0]
    affected = tuple(
        Affected(f"file:{p.file}", f"{p.service}: {t:.0f} s measured, {p.start_seconds:.0f} s allowed.")
        for p, t in late
    )
    sentence = (
        f"The {ROLE_WORDS.get(one.role, one.role)} needs {took:.0f} s to start, and {one.file} gives {one.service} {one.start_seconds:.0f} s: "
        "it counts as unhealthy although it only starts. Raise start_period."
    )
    return CheckOutcome("fail", sentence, evidence, affected)


def start_times() -> dict[str, float]:
    """Seconds from start to ready by role: the 95th percentile of the last twenty starts."""
    times: dict[str, list[float]] = {}
    rows = Process.objects.filter(started_at__gt=timezone.now() - _LOOK_BACK, ready_after_seconds__isnull=False)
    for role, took in rows.order_by("-started_at").values_list("role", "ready_after_seconds")[:200]:
        known = times.setdefault(role, [])
        if len(known) < _STARTS:
            known.append(float(took or 0.0))
    return {role: round(percentile(known, 0.95), 1) for role, known in sorted(times.items())}


def percentile(values: list[float], share: float) -> float:
    """The value below which ``share`` of the values lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _finite(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) else None
