"""People who cannot get in: wrong passwords (``auth.bad_credentials``), a closed account (``auth.user_disabled``), a reset that nobody
answers (``auth.password_reset``). ``user.reset_link`` and ``user.enable`` let them in again."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count, F, Max, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.urls import reverse
from django.utils import timezone

from chat.models import AccessAttempt, AttemptKind, Person
from chat.services.people import person_deactivate, person_reactivate
from chat.services.reset_handed import HANDED, reset_handed
from chat.services.reset_mail import ASKED
from ops.doctor.guides import Guide, GuideStep, register_guide
from ops.doctor.repairs import Change, Plan, RepairRefused, RepairWork, register_repair
from ops.network.places import public_url
from ops.registry import Affected, CheckOutcome, register_check
from ops.words import counted, verb

LOOKED_BACK = timedelta(hours=24)
# So many wrong passwords without a right one: they have forgotten it, or somebody guesses.
FAILURES = 5
# A mail is out within moments; what still waits then did not go.
_MAIL_SECONDS = 120


def failing(*, most: int = 500) -> list[dict[str, Any]]:
    """People with ``FAILURES`` or more wrong passwords since they last got in or an operator saw to it, within a day: ``{person, name,
    times, last}``. One query."""
    rows = (
        _unsettled(AccessAttempt.objects.filter(kind=AttemptKind.SIGN_IN, outcome__in=("wrong_password", "wrong_code")))
        .filter(person__is_active=True)
        .order_by()
        .values("person", "person__username")
        .annotate(times=Count("pk"), last=Max("at"))
        .filter(times__gte=FAILURES)
        .order_by("-times")[:most]
    )
    return [
        {"person": row["person"], "name": row["person__username"], "times": row["times"], "last": row["last"]}
        for row in rows
    ]


def _unsettled(rows: QuerySet[AccessAttempt]) -> QuerySet[AccessAttempt]:
    """Those of a day after which the person neither got in nor was seen to."""
    settled = AccessAttempt.objects.filter(person=OuterRef("person")).filter(
        Q(kind=AttemptKind.SIGN_IN, outcome="ok") | Q(kind=AttemptKind.RESET, outcome=HANDED)
    )
    last = Coalesce(Subquery(settled.order_by("-id").values("id")[:1]), 0)
    recent = rows.filter(at__gt=timezone.now() - LOOKED_BACK, person__isnull=False)
    return recent.annotate(settled=last).filter(id__gt=F("settled"))


@register_check(
    "auth.bad_credentials",
    title="People remember their passwords",
    tags=("portal", "people"),
    interval=60,
    severity="warning",
    depends_on=("db.reachable",),
    repairs=("user.reset_link",),
)
def bad_credentials() -> CheckOutcome:
    """Amber for people with five or more wrong passwords who have not got in since. Names that nobody has are counted, and no more."""
    found = failing()
    unknown = AccessAttempt.objects.filter(
        kind=AttemptKind.SIGN_IN, outcome="unknown", at__gt=timezone.now() - LOOKED_BACK
    ).count()
    evidence: dict[str, Any] = {
        "people": [{**one, "last": one["last"].isoformat(timespec="seconds")} for one in found[:20]],
        "unknown_names": unknown,
    }
    if not found:
        return CheckOutcome(
            "pass",
            f"Nobody is stuck with a wrong password; {counted(unknown, 'attempt')} with a name that nobody has.",
            evidence,
        )
    first = found[0]
    more = f" So {verb(len(found) - 1, 'does', 'do')} {len(found) - 1} more." if len(found) > 1 else ""
    return CheckOutcome(
        "warn",
        f"{first['name']} exists, may sign in, and gave a wrong password {counted(first['times'], 'time')} within a day.{more} "
        "Either they forgot it, or somebody guesses. A reset link lets them choose another.",
        evidence,
        tuple(
            Affected(f"person:{one['person']}", f"{one['name']}: {counted(one['times'], 'wrong password')}.")
            for one in found
        ),
    )


@register_check(
    "auth.user_disabled",
    title="Nobody stands before a closed account",
    tags=("portal", "people"),
    interval=60,
    severity="warning",
    depends_on=("db.reachable",),
    repairs=("user.enable",),
)
def user_disabled() -> CheckOutcome:
    """Amber when somebody whose account is deactivated tried to get in within a day: right password, closed door."""
    rows = (
        _unsettled(AccessAttempt.objects.filter(outcome="inactive"))
        .filter(person__is_active=False)
        .order_by()
        .values("person", "person__username", "person__deactivated_by", "person__deactivated_reason")
        .annotate(times=Count("pk"))
        .order_by("-times")[:500]
    )
    found = list(rows)
    if not found:
        return CheckOutcome("pass", "Nobody stood before a closed account within a day.")
    first = found[0]
    why = f": {first['person__deactivated_reason']}" if first["person__deactivated_reason"] else ", without a reason"
    more = f" So did {len(found) - 1} more." if len(found) > 1 else ""
    return CheckOutcome(
        "warn",
        f"{first['person__username']} tried to sign in {counted(first['times'], 'time')} and is deactivated "
        f"(by {first['person__deactivated_by'] or 'somebody'}{why}).{more} Reactivate them, or leave it as it is and ignore this.",
        {
            "people": [
                {"person": one["person"], "name": one["person__username"], "times": one["times"]} for one in found[:20]
            ]
        },
        tuple(Affected(f"person:{one['person']}", f"{one['person__username']} is deactivated.") for one in found),
    )


@register_check(
    "auth.password_reset",
    title="Whoever asks for a new password gets a link",
    tags=("portal", "people"),
    interval=60,
    severity="warning",
    depends_on=("db.reachable",),
    repairs=("user.reset_link",),
)
def password_reset() -> CheckOutcome:
    """Amber when somebody asked for a new password within a day and no mail went out: no server, no address, or a server that refuses."""
    late = timezone.now() - timedelta(seconds=_MAIL_SECONDS)
    asked = AccessAttempt.objects.filter(kind=AttemptKind.RESET)
    rows = (
        _unsettled(asked.filter(Q(outcome__in=("no_mail", "no_address")) | Q(outcome=ASKED, at__lt=late)))
        .filter(person__is_active=True)
        .order_by()
        .values("person", "person__username", "outcome")
        .annotate(times=Count("pk"))
        .order_by("-times")[:500]
    )
    found = list(rows)
    evidence: dict[str, Any] = {
        "mail": bool(settings.MAIL),
        "waiting": [
            {"person": one["person"], "name": one["person__username"], "why": one["outcome"]} for one in found[:20]
        ],
    }
    if not found:
        how = "by mail" if settings.MAIL else "from an operator: no mail server is set (EMAIL_URL)"
        return CheckOutcome("pass", f"Nobody waits for a new password. Links come {how}.", evidence)
    first = found[0]
    why = {
        "no_mail": "no mail server is set (EMAIL_URL)",
        "no_address": "no e-mail address of theirs is known",
    }.get(first["outcome"], "the mail server did not take the mail")
    more = f" So it is with {len(found) - 1} more." if len(found) > 1 else ""
    return CheckOutcome(
        "warn",
        f"{first['person__username']} asked for a new password and got no link: {why}.{more} Hand them one; nothing of theirs is lost.",
        evidence,
        tuple(Affected(f"person:{one['person']}", f"{one['person__username']}: {why}.") for one in found),
    )


# Letting them in again


def _people(work: RepairWork) -> list[Person]:
    targets: Iterable[str] = [work.target] if work.target else work.affected
    keys = [key for kind, _, key in (one.partition(":") for one in targets) if kind == "person" and key.isdigit()]
    if work.target and not keys:
        raise RepairRefused("Name a person: person:ID.")
    return list(Person.objects.filter(pk__in=keys).order_by("pk"))


def _waits(person: Person) -> bool:
    """Whether somebody could not get in and nobody has seen to it: what both checks look at."""
    rows = AccessAttempt.objects.filter(person=person)
    wrong = Q(kind=AttemptKind.SIGN_IN, outcome__in=("wrong_password", "wrong_code"))
    asked = Q(kind=AttemptKind.RESET, outcome__in=("no_mail", "no_address", ASKED))
    return _unsettled(rows.filter(wrong | asked)).exists()


def plan_link(work: RepairWork) -> Plan:
    """For whom a link is handed out; the link itself stands in no plan and no receipt."""
    people = [one for one in _people(work) if _waits(one)]
    closed = [one for one in people if not one.is_active]
    if closed:
        raise RepairRefused(f"{closed[0]} is deactivated. Reactivate them first.")
    return Plan(
        f"{counted(len(people), 'person is', 'people are')} seen to: the button on their page shows a link by which they choose a new password, "
        "once and for a day. Their present password counts until then, and their conversations stay."
        if people
        else "Nobody waits for a reset link.",
        tuple(Change(f"person:{one.pk}", "waits for a way in", True, False) for one in people),
        {"people": [one.pk for one in people]},
    )


def apply_link(work: RepairWork) -> dict[str, Any]:
    """Notes that they were seen to, and says where each link is shown: a receipt is kept, so the link is not in it."""
    people = list(Person.objects.filter(pk__in=work.plan.data["people"]))
    for person in people:
        reset_handed(person=person)
    return {
        "links": [public_url() + reverse("admin:chat_person_deed", args=[one.pk, "reset"]) for one in people],
        "commands": [f"python manage.py person reset-link {one.get_username()}" for one in people],
    }


register_repair(
    "user.reset_link",
    title="Hand out a link for a new password",
    repair_class="C",
    button="Reset link…",
    explain="Leads to the page that shows a link, once, by which the person chooses a new password. Nothing of theirs is deleted, and the link is "
    "kept nowhere.",
    plan=plan_link,
    apply=apply_link,
    atomic=True,
    target_kinds=("person",),
)


def plan_enable(work: RepairWork) -> Plan:
    """Who of them is deactivated."""
    people = [one for one in _people(work) if not one.is_active]
    return Plan(
        f"{', '.join(str(one) for one in people[:5])} may sign in again."
        if people
        else "Nobody of these is deactivated.",
        tuple(Change(f"person:{one.pk}", "may sign in", False, True) for one in people),
        {"people": [one.pk for one in people]},
        {"people": {str(one.pk): one.deactivated_reason for one in people}},
    )


def apply_enable(work: RepairWork) -> dict[str, Any]:
    """As the button on the person's page."""
    for person in Person.objects.filter(pk__in=work.plan.data["people"]):
        person_reactivate(person=person, actor=work.actor)
    return {"people": work.plan.data["people"]}


def undo_enable(work: RepairWork) -> None:
    """Closed again, with the reason of before; what they have opened since ends within two seconds."""
    for key, reason in work.snapshot["people"].items():
        person = Person.objects.filter(pk=int(key)).first()
        if person is not None:
            person_deactivate(person=person, reason=reason or "taken back", actor=work.actor)


register_repair(
    "user.enable",
    title="Reactivate somebody",
    repair_class="C",
    button="Reactivate",
    explain="They may sign in again, with the password that they had. Undoing closes the account again and ends what they opened.",
    plan=plan_enable,
    apply=apply_enable,
    undo=undo_enable,
    target_kinds=("person",),
)


@register_guide("auth.password_reset", "auth.bad_credentials")
def guide(target: str, evidence: dict[str, Any]) -> Guide:
    """Links by hand, and the mail server that spares them; also for the locked-out operator."""
    names = [str(one.get("name")) for one in evidence.get("people") or evidence.get("waiting") or []] or ["NAME"]
    return Guide(
        "Let people choose a new password",
        "Nobody's password can be read, and nobody has to be deleted for having forgotten it.",
        (
            GuideStep(
                "Make a link and hand it over, on the person's page or here.",
                f"python manage.py person reset-link {names[0]}",
            ),
            GuideStep(
                "With a mail server people ask for it themselves.",
                "EMAIL_URL=smtp+tls://USER:PASSWORD@mail.example.org:587\nEMAIL_FROM=switchboard@example.org",
                "ini",
                "the settings file; restart after it",
            ),
            GuideStep(
                "An operator who is locked out needs the machine, not a password.",
                "python manage.py setup_link --for NAME",
            ),
        ),
    )
