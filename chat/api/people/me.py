"""Oneself: profile, use, what one has open, personal tokens, tickets for sockets."""

from __future__ import annotations

import zoneinfo
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib.sessions.models import Session
from django.db.models import Exists, OuterRef
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from ninja import Field, Router, Schema

from chat.access.grants import NotYours
from chat.access.tickets import LIFETIME, ticket_issue
from chat.api.people.auth import Caller, caller_of
from chat.models import Person, ProgramLogin, UsageDay
from chat.services.people import person_profile_save
from chat.services.personal_tokens import personal_token_create, personal_token_revoke, personal_tokens
from chat.services.preferences import preferences_save
from chat.services.program_logins import login_end
from chat.services.quotas import standing
from chat.services.sessions import session_end
from ops.api.answers import answer, answer_once_shown, nothing
from ops.api.inputs import LARGEST_ID, Body, Id, Text
from ops.api.problems import REQUEST_INVALID, FieldError, Problem, declare
from ops.models import ApiToken

router = Router(tags=["Portal: me"])

PERSONAL = declare("auth.personal_only", 403, "Only for the person themselves")
# Nobody looks through more.
_SHOWN = 100
_DAYS = 31


class MyselfOut(Schema):
    id: int
    username: str
    name: str
    display_name: str
    email: str
    role: str = Field(description="person or operator")
    language: str
    time_zone: str
    preferences: dict[str, Any]
    matrix_user_id: str
    impersonated: bool = Field(description="An operator looks through this person's eyes.")


class MyselfPatch(Body):
    """What is left out stays."""

    display_name: Text | None = Field(None, max_length=150)
    language: Text | None = Field(None, max_length=10, description="Empty: the browser's.")
    time_zone: Text | None = Field(None, max_length=64, description="A name like Europe/Berlin; empty: the browser's.")
    preferences: dict[str, Any] | None = Field(None, description="Some of them; `null` forgets one.")


class UsedOut(Schema):
    used: int
    limit: int | None


class UsageDayOut(Schema):
    day: date
    agent: int
    messages: int
    answers: int
    input_tokens: int
    output_tokens: int


class UsageOut(Schema):
    """Today's use against its limits, and the last 31 days."""

    messages: UsedOut
    tokens: UsedOut
    resets_at: datetime
    days: list[UsageDayOut]


class BrowserOut(Schema):
    id: int
    user_agent: str
    address: str | None
    created_at: datetime
    last_seen_at: datetime
    this_one: bool


class ProgramOut(Schema):
    id: str
    user_agent: str
    address: str | None
    created_at: datetime
    last_used_at: datetime | None
    this_one: bool


class OpenOut(Schema):
    browsers: list[BrowserOut]
    programs: list[ProgramOut]


class TokenOut(Schema):
    id: int
    name: str
    prefix: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class TokenMadeOut(TokenOut):
    token: str = Field(description="Shown this once.")


class TokenList(Schema):
    items: list[TokenOut]


class TokenIn(Body):
    name: Text = Field(min_length=1, max_length=100, examples=["my laptop"])
    expires_at: datetime | None = None


class TicketOut(Schema):
    """For `/ws?ticket=…`: good once."""

    ticket: str
    expires_in: int = Field(description="Seconds.")


def only_oneself(request: HttpRequest) -> Caller:
    """The caller, who must be the person: neither a personal token, which could make itself others, nor an operator who looks on."""
    caller = caller_of(request)
    if caller.identity.token_id is not None or caller.identity.impersonator:
        raise Problem(PERSONAL, "Do this signed in as yourself; a personal token may not.")
    return caller


def _myself(caller: Caller) -> dict[str, Any]:
    person = caller.person
    return {
        "id": person.pk,
        "username": person.get_username(),
        "name": str(person),
        "display_name": person.display_name,
        "email": person.email,
        "role": str(person.role),
        "language": person.language,
        "time_zone": person.time_zone,
        "preferences": person.preferences,
        "matrix_user_id": person.matrix_user_id,
        "impersonated": bool(caller.identity.impersonator),
    }


@router.get("/me", response=MyselfOut, operation_id="chat_me", summary="Oneself")
def me(request: HttpRequest) -> HttpResponse:
    return answer(_myself(caller_of(request)))


@router.patch(
    "/me", response=MyselfOut, operation_id="chat_me_change", summary="Change name, language, zone, preferences"
)
def me_change(request: HttpRequest, body: MyselfPatch) -> HttpResponse:
    caller = only_oneself(request)
    _check("language", body.language, [code for code, _ in settings.LANGUAGES])
    _check("time_zone", body.time_zone, zoneinfo.available_timezones())
    given = {
        name: value.strip()
        for name in ("display_name", "language", "time_zone")
        if (value := getattr(body, name)) is not None
    }
    for name, value in given.items():
        setattr(caller.person, name, value)
    person_profile_save(person=caller.person, changed=list(given), actor=caller.actor)
    if body.preferences:
        preferences_save(person=caller.person, changes=body.preferences, actor=caller.actor)
    return answer(_myself(caller))


def _check(field: str, value: str | None, known: Any) -> None:
    if value and value not in known:
        sentence = f"There is no {field.replace('_', ' ')} {value!r} here."
        raise Problem(REQUEST_INVALID, sentence, errors=[FieldError(field, sentence)])


@router.get("/me/usage", response=UsageOut, operation_id="chat_me_usage", summary="What one used, and may use")
def usage(request: HttpRequest) -> HttpResponse:
    person = caller_of(request).person
    since = timezone.now().date() - timedelta(days=_DAYS - 1)
    rows = UsageDay.objects.filter(person=person, day__gte=since).order_by("-day", "agent_id")
    days = [
        {
            "day": row.day,
            "agent": row.agent_id,
            "messages": row.messages,
            "answers": row.answers,
            "input_tokens": row.input_tokens,
            "output_tokens": row.output_tokens,
        }
        for row in rows[:1000]
    ]
    return answer({**standing(person), "days": days})


def _browsers(person: Person) -> Any:
    lasting = Session.objects.filter(session_key=OuterRef("session_key"), expire_date__gt=timezone.now())
    return UserSession.objects.filter(Exists(lasting), user=person).order_by("-last_seen_at")


@router.get("/me/sessions", response=OpenOut, operation_id="chat_me_sessions", summary="Where one is signed in")
def sessions(request: HttpRequest) -> HttpResponse:
    caller = only_oneself(request)
    programs = ProgramLogin.objects.filter(
        person=caller.person, revoked_at=None, expires_at__gt=timezone.now(), epoch=caller.person.access_epoch
    )
    browsers = [
        {
            "id": row.pk,
            "user_agent": row.user_agent,
            "address": row.ip,
            "created_at": row.created_at,
            "last_seen_at": row.last_seen_at,
            "this_one": row.session_key == caller.identity.session_key,
        }
        for row in _browsers(caller.person)[:_SHOWN]
    ]
    opened = [
        {
            "id": str(row.pk),
            "user_agent": row.user_agent,
            "address": row.address,
            "created_at": row.created_at,
            "last_used_at": row.last_used_at,
            "this_one": row.pk == caller.identity.login_id,
        }
        for row in programs[:_SHOWN]
    ]
    return answer({"browsers": browsers, "programs": opened})


@router.delete(
    "/me/sessions/{session_id}",
    response={204: None},
    operation_id="chat_me_session_end",
    summary="Sign a browser or a program out",
)
def end_session(request: HttpRequest, session_id: Text) -> HttpResponse:
    """By the number of a browser, or the id of a program."""
    caller = only_oneself(request)
    if session_id.isdecimal() and int(session_id) <= LARGEST_ID:
        browser = _browsers(caller.person).filter(pk=int(session_id)).first()
        if browser is not None:
            session_end(session=browser, actor=caller.actor)
            return nothing()
    try:
        login = ProgramLogin.objects.filter(pk=UUID(session_id), person=caller.person, revoked_at=None).first()
    except ValueError:
        login = None
    if login is None:
        raise NotYours(f"You are not signed in as {session_id}.")
    login_end(login=login, reason="ended by the person", actor=caller.actor)
    return nothing()


def _token(row: ApiToken) -> dict[str, Any]:
    names = ("id", "name", "prefix", "created_at", "expires_at", "last_used_at")
    return {name: getattr(row, name) for name in names}


@router.get("/me/tokens", response=TokenList, operation_id="chat_me_tokens", summary="One's personal tokens")
def tokens(request: HttpRequest) -> HttpResponse:
    return answer({"items": [_token(row) for row in personal_tokens(only_oneself(request).person)[:_SHOWN]]})


@router.post(
    "/me/tokens", response={201: TokenMadeOut}, operation_id="chat_me_token_make", summary="Make a personal token"
)
def token_make(request: HttpRequest, body: TokenIn) -> HttpResponse:
    """With it a program talks to agents as you, and does nothing else."""
    caller = only_oneself(request)
    row, plain = personal_token_create(
        person=caller.person, name=body.name, expires_at=body.expires_at, actor=caller.actor
    )
    return answer_once_shown({**_token(row), "token": plain}, status=201)


@router.delete(
    "/me/tokens/{token_id}", response={204: None}, operation_id="chat_me_token_end", summary="Revoke a personal token"
)
def token_end(request: HttpRequest, token_id: Id) -> HttpResponse:
    """With what it opened, at once."""
    caller = only_oneself(request)
    try:
        personal_token_revoke(person=caller.person, token_id=token_id, actor=caller.actor)
    except ApiToken.DoesNotExist:
        raise NotYours(f"There is no token {token_id} of yours.") from None
    return nothing()


@router.post(
    "/socket-ticket", response={201: TicketOut}, operation_id="chat_socket_ticket", summary="A ticket for the socket"
)
def socket_ticket(request: HttpRequest) -> HttpResponse:
    """Whoever asks may open `/ws` with it once, within half a minute."""
    caller = caller_of(request)
    ticket = ticket_issue(identity=caller.identity, actor=caller.actor)
    return answer_once_shown({"ticket": ticket, "expires_in": int(LIFETIME.total_seconds())}, status=201)
