"""Repairs around looking closely: captures, profiles, and new entries of the dictionary of errors."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db.models import Count, Q
from django.utils import timezone

from ops.doctor.repairs import Change, Plan, RepairFailed, RepairRefused, RepairWork, register_repair
from ops.logbook import errands
from ops.logbook.capture import LONGEST, MOST_EXCHANGES
from ops.logbook.signatures import Dictionary, compile_pattern, pattern_for, text_of
from ops.logbook.status import running
from ops.models import Capture, ErrorSignature, Job, LogLine, Service
from ops.registry import ServiceField
from ops.services.logbook import (
    capture_start,
    capture_stop,
    profile_requests_clear,
    profile_start,
    signature_add,
    signature_remove,
)
from ops.words import counted, verb


def _said(error: ValidationError) -> str:
    return " ".join(error.messages)


# Captures.


def _plan_capture(work: RepairWork) -> Plan:
    service, agent = str(work.params.get("service") or ""), str(work.params.get("agent") or "")
    minutes = float(work.params.get("minutes") or 5)
    if service and not Service.objects.filter(name=service).exists():
        raise RepairRefused(f"There is no service {service}.")
    if not 0 < minutes <= LONGEST.total_seconds() / 60:
        raise RepairRefused("A capture lasts between one and 60 minutes.")
    known = Capture.objects.filter(service=service, agent=agent, until__gt=timezone.now()).first()
    if known is not None:
        return Plan(f"The same is captured already, until {known.until:%H:%M} UTC.")
    what = " ".join(
        part for part in (f"of service {service}" if service else "", f"of agent {agent}" if agent else "") if part
    )
    return Plan(
        f"Calls to outside servers {what or 'of all kinds'} are written down for {minutes:g} {verb(minutes, 'minute', 'minutes')}, at most "
        f"{MOST_EXCHANGES}, redacted. What people say is in their bodies; it is deleted after three days.",
        (Change("capture", "running", None, f"{service or 'all services'} {agent}".strip()),),
    )


def _capture(work: RepairWork) -> dict[str, Any]:
    try:
        row = capture_start(
            minutes=float(work.params.get("minutes") or 5),
            service=str(work.params.get("service") or ""),
            agent=str(work.params.get("agent") or ""),
            actor=work.actor,
        )
    except ValidationError as error:
        raise RepairFailed(_said(error)) from None
    work.remember(capture=str(row.pk))
    return {"capture": str(row.pk), "until": row.until}


def _uncapture(work: RepairWork) -> None:
    key = work.snapshot.get("capture")
    row = Capture.objects.filter(pk=key).first() if key else None
    if row is not None:
        capture_stop(capture=row, actor=work.actor)


register_repair(
    "debug.capture",
    title="Capture calls for some minutes",
    repair_class="A",
    button="Capture calls",
    explain="Writes calls to the homeserver and the backends down, with their bodies, redacted, and stops by itself.",
    plan=_plan_capture,
    apply=_capture,
    undo=_uncapture,
    fields=(
        ServiceField("minutes", "For minutes", kind="number", default=5, help="At most 60."),
        ServiceField("service", "Service", help="Only calls to this one; all when empty."),
        ServiceField("agent", "Agent", help="Name, id or Matrix id; all when empty."),
    ),
    atomic=True,
)


def _to_stop(target: str) -> list[Capture]:
    """The one that is named; else those that go on for too long or hold too much."""
    now = timezone.now()
    rows = Capture.objects.filter(until__gt=now).annotate(calls=Count("exchanges"))
    if target:
        kind, _, key = target.partition(":")
        try:
            return list(rows.filter(pk=UUID(key))) if kind == "capture" else []
        except ValueError:
            return []
    return list(rows.filter(Q(until__gt=now + LONGEST) | Q(calls__gt=MOST_EXCHANGES)))


def _plan_stop(work: RepairWork) -> Plan:
    rows = _to_stop(work.target)
    if not rows:
        return Plan("It has ended." if work.target else "No capture goes on for too long.")
    return Plan(
        f"{counted(len(rows), 'capture ends now; what it holds', 'captures end now; what they hold')} stays.",
        tuple(Change(f"capture:{row.pk}", "until", row.until, "now") for row in rows),
        data={"captures": [str(row.pk) for row in rows]},
        snapshot={"until": {str(row.pk): row.until.isoformat() for row in rows}},
    )


def _stop(work: RepairWork) -> dict[str, Any]:
    count = sum(
        capture_stop(capture=row, actor=work.actor) for row in Capture.objects.filter(pk__in=work.plan.data["captures"])
    )
    return {"stopped": count}


def _go_on(work: RepairWork) -> None:
    for pk, until in work.snapshot.get("until", {}).items():
        Capture.objects.filter(pk=pk).update(until=datetime.fromisoformat(until))


register_repair(
    "debug.capture_stop",
    title="End captures of calls",
    repair_class="A",
    button="End captures",
    explain="Ends captures that go on for too long or hold too much. What they hold stays.",
    plan=_plan_stop,
    apply=_stop,
    undo=_go_on,
    atomic=True,
)


# Profiles.


def _plan_profile(work: RepairWork) -> Plan:
    process, seconds = str(work.params.get("process") or ""), float(work.params.get("seconds") or 10)
    known = {one.process: one.role for one in running()}
    if process and process not in known:
        names = ", ".join(f"{role} {name}" for name, role in known.items()) or "none says that it runs"
        raise RepairRefused(f"There is no running process {process}. There are: {names}.")
    if not 1 <= seconds <= 120:
        raise RepairRefused("A profile takes between 1 and 120 seconds.")
    busy = Job.objects.filter(kind="ops.profile", state__in=("queued", "running"), params__process=process)
    if busy.exists():
        return Plan("A profile of it is under way; its result is the job's.")
    return Plan(
        f"{process or 'A worker'} is looked at for {seconds:g} s while it works on. That costs it a few percent.",
        (Change("process", "profile", None, process or "a worker"),),
    )


def _profile(work: RepairWork) -> dict[str, Any]:
    job = profile_start(
        process=str(work.params.get("process") or ""),
        seconds=float(work.params.get("seconds") or 10),
        actor=work.actor,
    )
    return {"job": str(job.pk)}


register_repair(
    "debug.profile",
    title="Profile a process",
    repair_class="A",
    button="Profile",
    explain="Looks at what all threads of a running process do, many times a second, without a restart. The result is a job's.",
    plan=_plan_profile,
    apply=_profile,
    fields=(
        ServiceField("process", "Process", help="As it stands on the page of the logs; any worker when empty."),
        ServiceField("seconds", "For seconds", kind="number", default=10),
    ),
    atomic=True,
)


def _plan_withdraw(work: RepairWork) -> Plan:
    left = errands.unanswered()
    if not left:
        return Plan("No wish for a profile waits in vain.")
    return Plan(
        f"{counted(len(left), 'wish', 'wishes')} for a profile {verb(len(left), 'is', 'are')} taken back.",
        tuple(Change(f"process:{value.get('process', '')}", "asked for a profile", "yes", "no") for _, value in left),
        data={"errands": [errand for errand, _ in left]},
    )


def _withdraw(work: RepairWork) -> dict[str, Any]:
    return {"withdrawn": profile_requests_clear(errand_ids=work.plan.data["errands"], actor=work.actor)}


register_repair(
    "debug.profile_withdraw",
    title="Take back profiles that nobody does",
    repair_class="A",
    button="Take them back",
    explain="Takes back wishes for profiles that the process did not answer in its time.",
    plan=_plan_withdraw,
    apply=_withdraw,
    atomic=True,
)


# New entries of the dictionary.


def _pattern(work: RepairWork) -> str:
    given = str(work.params.get("pattern") or "").strip()
    if given:
        return given
    number = str(work.params.get("line") or "")
    line = LogLine.objects.filter(pk=int(number)).first() if number.isdigit() and len(number) < 19 else None
    if line is None:
        raise RepairRefused("Give a pattern, or the number of a log line to make one from.")
    return pattern_for(line.event)


def _plan_signature(work: RepairWork) -> Plan:
    pattern = _pattern(work)
    if ErrorSignature.objects.filter(pattern=pattern).exists():
        return Plan("There is an entry with this pattern already.")
    meaning = str(work.params.get("meaning") or "").strip()
    if not meaning:
        raise RepairRefused(f"Say in words what it means. The pattern would be: {pattern}")
    try:
        fits = compile_pattern(pattern)
    except ValueError as error:
        raise RepairRefused(str(error)) from None
    newest = LogLine.objects.filter(level__in=("warning", "error")).order_by("-id")[:2000]
    dictionary = Dictionary()
    count = sum(
        1 for line in newest.iterator(chunk_size=500) if fits.search(text_of(line)) and not dictionary.of_line(line)
    )
    return Plan(
        f"From now on this is a known error; {counted(count, 'line')} that nobody could explain so far {verb(count, 'fits', 'fit')} it.",
        (Change("signatures", pattern, None, meaning),),
    )


def _signature(work: RepairWork) -> dict[str, Any]:
    try:
        row = signature_add(
            pattern=_pattern(work),
            meaning=str(work.params["meaning"]),
            remedy=str(work.params.get("remedy") or ""),
            check_id=str(work.params.get("check_id") or ""),
            actor=work.actor,
        )
    except ValidationError as error:
        raise RepairFailed(_said(error)) from None
    work.remember(signature=row.pk)
    return {"signature": row.pk, "pattern": row.pattern}


def _unsignature(work: RepairWork) -> None:
    key = work.snapshot.get("signature")
    row = ErrorSignature.objects.filter(pk=key).first() if key else None
    if row is not None:
        signature_remove(signature=row, actor=work.actor)


register_repair(
    "signature.add",
    title="Write down what an error means",
    repair_class="A",
    button="Explain this error",
    explain="Adds an entry to the dictionary of known errors: from then on its lines are shown in words, with their check.",
    plan=_plan_signature,
    apply=_signature,
    undo=_unsignature,
    fields=(
        ServiceField("line", "Log line", help="Its number; a pattern is made from it when none is given."),
        ServiceField("pattern", "Pattern", help="A regular expression; upper and lower case are the same."),
        ServiceField("meaning", "What it means", required=True),
        ServiceField("remedy", "What to do"),
        ServiceField("check_id", "Check", help="The id of the check that is about it."),
    ),
    atomic=True,
)
