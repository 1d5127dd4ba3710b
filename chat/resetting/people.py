"""Beginning anew with people: everybody but operators."""

from __future__ import annotations

from collections.abc import Iterable

from allauth.usersessions.models import UserSession
from django.db.models import CharField, Exists, OuterRef, QuerySet
from django.db.models.functions import Cast

from chat.models import AgentGrant, ImportedRow, Invite, Person, ProgramLogin
from chat.services.sessions import end_all
from ops.findings import Finding
from ops.resets import ResetLine, ResetScope, ResetWork, delete_rows, line_of, register_reset
from ops.words import counted, verb

_BATCH = 200


def _people() -> QuerySet[Person]:
    """Everybody but operators: whoever resets must be able to sign in afterwards."""
    return Person.objects.filter(is_staff=False, is_superuser=False)


def _lines() -> list[ResetLine]:
    people = _people()
    return [
        line_of(people, "people"),
        line_of(ProgramLogin.objects.filter(person__in=people, revoked_at=None), "programs that are signed in"),
        line_of(AgentGrant.objects.filter(person__in=people), "permissions to talk to agents"),
        line_of(Invite.objects.all(), "invites"),
    ]


def _outside() -> Iterable[Finding]:
    accounts = _people().exclude(matrix_user_id="").count()
    if accounts:
        yield Finding(
            "warning",
            "reset.accounts_stay",
            f"{counted(accounts, 'Matrix account')} of people {verb(accounts, 'stays', 'stay')} on the homeserver, in the rooms "
            f"{verb(accounts, 'it is', 'they are')} in, and can go on writing there as {verb(accounts, 'a guest', 'guests')}.",
        )
    operators = Person.objects.count() - _people().count()
    yield Finding(
        "info", "reset.operators_stay", f"{counted(operators, 'operator')} {verb(operators, 'stays', 'stay')}."
    )
    yield Finding(
        "info",
        "reset.words_stay",
        "What people said stays, under the names that they had, unless conversations are reset too.",
    )


def _remove(work: ResetWork) -> dict[str, int]:
    programs = ProgramLogin.objects.filter(person=OuterRef("pk"), revoked_at=None)
    browsers = UserSession.objects.filter(user=OuterRef("pk"))
    for person in _people().filter(Exists(programs) | Exists(browsers)):
        end_all(person=person, reason="reset", tokens=True)
    # Whoever was brought in from elsewhere may be brought in again.
    keys = _people().annotate(key=Cast("pk", CharField())).values("key")
    ImportedRow.objects.filter(target="chat.Person", target_id__in=keys).delete()
    ImportedRow.objects.filter(target="chat.Invite").delete()
    gone = {**delete_rows(Invite.objects.all()), "chat.Person": 0}
    while batch := list(_people().order_by("pk").values_list("pk", flat=True)[:_BATCH]):
        gone["chat.Person"] += delete_rows(Person.objects.filter(pk__in=batch))["chat.Person"]
    return gone


register_reset(
    ResetScope(
        name="people",
        label="People",
        sentence="Everybody but operators, with their sign-ins, tokens, permissions, quotas and invites.",
        kind="people",
        lines=_lines,
        outside=_outside,
        remove=_remove,
        order=20,
    )
)
