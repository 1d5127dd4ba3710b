"""``auth.token_expired``: sign-ins that end when they should. ``session.revoke`` ends what nobody uses any more, or all of one person's."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import Exists, F, OuterRef, QuerySet
from django.db.models.functions import Coalesce
from django.utils import timezone

from chat.models import AccessAttempt, AttemptKind, Person, ProgramLogin
from chat.services.people import sign_out_everywhere
from chat.services.program_logins import login_end
from ops.doctor.repairs import Change, Plan, RepairRefused, RepairWork, register_repair
from ops.registry import Affected, CheckOutcome, ServiceField, register_check
from ops.words import counted, verb

LOOKED_BACK = timedelta(hours=24)
MOST = 1000


def unused_after() -> timedelta:
    """A program comes back every few minutes for its next token; one that has not for half the life of its sign-in was given up."""
    return timedelta(days=max(1, settings.REFRESH_TOKEN_DAYS // 2))


def forgotten() -> QuerySet[ProgramLogin]:
    """Sign-ins of programs that still count and that nobody has used for long, the oldest first."""
    now = timezone.now()
    return (
        ProgramLogin.objects.filter(
            revoked_at=None, expires_at__gt=now, person__is_active=True, epoch=F("person__access_epoch")
        )
        .annotate(used_at=Coalesce("last_used_at", "created_at"))
        .filter(used_at__lt=now - unused_after())
        .select_related("person")
        .order_by("used_at")
    )


def stolen() -> QuerySet[ProgramLogin]:
    """Families that ended within a day because a token of theirs was used twice, and whose person has not signed in anew since."""
    since = timezone.now() - LOOKED_BACK
    again = AccessAttempt.objects.filter(
        person=OuterRef("person"), kind=AttemptKind.SIGN_IN, outcome="ok", at__gt=OuterRef("revoked_at")
    )
    return (
        ProgramLogin.objects.filter(revoked_reason__icontains="old refresh token", revoked_at__gt=since)
        .filter(~Exists(again))
        .select_related("person")
    )


@register_check(
    "auth.token_expired",
    title="Sign-ins of programs are used, and end",
    tags=("portal", "people"),
    interval=3600,
    severity="info",
    depends_on=("db.reachable",),
    repairs=("session.revoke",),
)
def token_expired() -> CheckOutcome:
    """Amber for sign-ins of programs that still count and that nobody has used for half of their time. Access tokens are short, refresh tokens
    rotate; one that was used twice has ended its family, and is told here."""
    rows = list(forgotten()[:MOST])
    twice = list(stolen()[:20])
    evidence: dict[str, Any] = {
        "unused": len(rows),
        "used_twice": [
            {"person": one.person.get_username(), "at": one.revoked_at.isoformat()} for one in twice if one.revoked_at
        ],
    }
    told = ""
    if twice:
        told = (
            f" A refresh token of {twice[0].person} was used twice and its family ended: either a program lost an answer, or somebody "
            "copied the token."
        )
    if not rows:
        return CheckOutcome("pass", f"Every sign-in of a program is in use.{told}", evidence)
    oldest = rows[0]
    by_person = {one.person_id: one.person for one in rows}
    return CheckOutcome(
        "warn",
        f"{counted(len(rows), 'program is', 'programs are')} signed in and {verb(len(rows), 'has', 'have')} not come back for "
        f"{counted(unused_after().days, 'day')}, the oldest as {oldest.person}. Whoever finds the token could go on with it.{told}",
        evidence,
        tuple(
            Affected(f"person:{pk}", f"{person} has programs that are not used.") for pk, person in by_person.items()
        ),
    )


def plan(work: RepairWork) -> Plan:
    """Without a person: what is forgotten. With one and ``all``: everything that they have open."""
    kind, _, key = work.target.partition(":")
    if work.target and (kind != "person" or not key.isdigit()):
        raise RepairRefused("Name a person: person:ID.")
    person = Person.objects.filter(pk=int(key)).first() if work.target else None
    if work.target and person is None:
        raise RepairRefused(f"There is no person {key}.")
    if person is not None and str(work.params.get("all") or "").lower() in ("1", "true", "yes", "on"):
        return Plan(
            f"Every browser and program of {person} signs in anew.",
            (Change(f"person:{person.pk}", "signed in", "here and there", "nowhere"),),
            {"everything": person.pk},
        )
    rows = forgotten()
    if person is not None:
        rows = rows.filter(person=person)
    found = list(rows[:MOST])
    return Plan(
        f"{counted(len(found), 'sign-in ends', 'sign-ins end')}." if found else "No sign-in is forgotten.",
        tuple(
            Change(
                f"person:{one.person_id}",
                f"{one.user_agent[:60] or 'a program'}, last used {one.last_used_at or one.created_at:%Y-%m-%d}",
                "signed in",
                "ended",
            )
            for one in found
        ),
        {"logins": [str(one.pk) for one in found]},
    )


def apply(work: RepairWork) -> dict[str, Any]:
    """Ends them, and what they opened, within two seconds. What ended cannot be brought back: its token is gone."""
    if "everything" in work.plan.data:
        person = Person.objects.get(pk=work.plan.data["everything"])
        sign_out_everywhere(person=person, actor=work.actor)
        return {"person": person.pk}
    ended = 0
    for login in ProgramLogin.objects.filter(pk__in=work.plan.data["logins"]):
        ended += login_end(login=login, reason="not used for long", actor=work.actor)
    return {"ended": ended}


register_repair(
    "session.revoke",
    title="End sign-ins",
    repair_class="C",
    button="End them",
    explain="Ends sign-ins of programs that nobody has used for long; with “everything”, all that one person has open. They sign in anew; drafts stay.",
    plan=plan,
    apply=apply,
    fields=(
        ServiceField(
            "all", "Everything of this person", "Browsers too, not only what is forgotten.", kind="bool", default=False
        ),
    ),
    target_kinds=("person",),
)
