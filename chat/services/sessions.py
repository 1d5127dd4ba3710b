"""What people have open: browsers, programs, tokens; and ending it.

Three things hold together. Raising the person's ``access_epoch`` makes every session of a browser (the epoch is part of what Django proves
a session by), every sign-in of a program and every ticket of before worthless. Deleting the rows makes that visible. Telling the
person's sockets makes it immediate; those that miss the frame ask for themselves every second.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from uuid import UUID

from allauth.usersessions.models import UserSession
from django.contrib.auth import update_session_auth_hash
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import F
from django.http import HttpRequest
from django.utils import timezone

from chat import live
from chat.access.programs import forget_login
from chat.models import Person, ProgramLogin, SocketTicket
from ops.models import ApiToken, TokenScope
from ops.services.audit import record


def access_ended(person_id: int) -> None:
    """Tell a person's open sockets, once this transaction counts, to ask whether they may stay."""
    transaction.on_commit(lambda: live.publish_person(person_id, {"type": "access"}))


def end_all(*, person: Person, reason: str, keep_session: str = "", tokens: bool = False) -> None:
    """End every browser, program and ticket of a person, inside the caller's transaction; the audit event is the caller's.

    ``keep_session`` is the key of the one browser that stays: whoever keeps it has to renew the proof in it
    (``session_renew``). ``tokens``: their personal tokens end too.
    """
    now = timezone.now()
    Person.objects.filter(pk=person.pk).update(access_epoch=F("access_epoch") + 1)
    person.access_epoch = Person.objects.values_list("access_epoch", flat=True).get(pk=person.pk)
    keys = list(
        UserSession.objects.filter(user=person).exclude(session_key=keep_session).values_list("session_key", flat=True)
    )
    _delete_sessions(keys)
    programs = list(ProgramLogin.objects.filter(person=person, revoked_at=None).values_list("pk", flat=True))
    ProgramLogin.objects.filter(person=person, revoked_at=None).update(revoked_at=now, revoked_reason=reason[:100])
    transaction.on_commit(partial(_forget, programs))
    SocketTicket.objects.filter(person=person, used_at=None).update(used_at=now)
    if tokens:
        ApiToken.objects.filter(owner=person, scope=TokenScope.CHAT, revoked_at=None).update(revoked_at=now)
    access_ended(person.pk)


def sign_out_everywhere(*, person: Person, actor: str, keep_session: str = "", tokens: bool = False) -> None:
    """End every browser and program of a person (see ``end_all``)."""
    with transaction.atomic():
        end_all(person=person, reason="signed out everywhere", keep_session=keep_session, tokens=tokens)
        record(
            actor=actor,
            action="person.signed_out_everywhere",
            target=person,
            after={"this_browser_stays": bool(keep_session), "tokens": tokens},
        )


def session_renew(request: HttpRequest, person: Person) -> None:
    """Keep the browser that ``end_all`` was told to keep: it proves itself by the new epoch from now on, under a new key."""
    before = request.session.session_key
    update_session_auth_hash(request, person)
    UserSession.objects.filter(session_key=before).exclude(session_key=request.session.session_key).delete()


def session_end(*, session: UserSession, actor: str) -> None:
    """End one browser."""
    with transaction.atomic():
        _delete_sessions([session.session_key])
        record(actor=actor, action="session.ended", target=session.user, message=f"Browser: {session.user_agent[:100]}")
        access_ended(session.user_id)


def _forget(programs: list[UUID]) -> None:
    for pk in programs:
        forget_login(pk)


def _delete_sessions(keys: Iterable[str]) -> None:
    chosen = list(keys)
    for begin in range(0, len(chosen), 500):
        some = chosen[begin : begin + 500]
        Session.objects.filter(session_key__in=some).delete()
        UserSession.objects.filter(session_key__in=some).delete()
