"""Homeservers: what they can do, and administering users and rooms the way that each has."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Field, Query, Router, Schema

from agents.models import Account, AccountSession, AccountWay, InviteePause
from agents.services import homeserver_admin as administering
from agents.services.backends import HOMESERVER_KIND, Homeserver, homeserver_of
from agents.services.homeserver_probe import homeserver_detect
from agents.services.invitations import invitee_resume, open_pauses
from agents.services.sessions import session_open
from ops.api.answers import answer, nothing
from ops.api.inputs import Body, Id, Text
from ops.api.paging import Paging, page
from ops.api.principals import principal_of
from ops.api.problems import REQUEST_INVALID, FieldError, Problem, declare, not_found, translate
from ops.models import Service

router = Router(tags=["Homeservers"])

CANNOT = declare("homeserver.cannot", 409, "The homeserver has no way for it")
translate(administering.CannotAdminister, lambda error: Problem(CANNOT, error.sentence))


class WayOut(Schema):
    """Which way one thing is done there. `sentence` says how, or why not and what to do instead."""

    ability: str = Field(examples=["password_reset"])
    label: str
    dialect: str = Field(description="admin_api, shared_secret, admin_room, registration_token, …, none")
    works: bool
    sentence: str


class HomeserverOut(Schema):
    service: str
    server_name: str
    base_url: str
    homeserver: str = Field(examples=["Synapse 1.163.2"])
    mode: str = Field(description="appservice or client")
    credentials: list[str] = Field(description="Names of those that are set, never their values.")
    capabilities: dict[str, Any]
    ways: list[WayOut] = Field(description="Empty until it was asked.")
    limits: dict[str, str] = Field(description="Client mode: what only an appservice can do, in sentences.")


class HomeserverList(Schema):
    items: list[HomeserverOut]


class AccountOut(Schema):
    """The account that an agent speaks as. `session` is what the homeserver last said to its own token."""

    id: int
    user_id: str
    agent: int | None
    way: str = Field(description="appservice or session")
    session: str = Field(description="none, good, refused or locked")
    session_error: str
    session_checked_at: datetime | None
    session_retry_at: datetime | None
    registered_at: datetime | None


class AccountList(Schema):
    items: list[AccountOut]
    next: str | None


class AccountFilter(Paging):
    way: AccountWay | None = None
    session: AccountSession | None = None


class UserIn(Body):
    localpart: Text = Field(max_length=255, examples=["bea"], description="The part of the Matrix id before the colon.")
    password: Text = Field(min_length=8, max_length=200)
    display_name: Text = Field("", max_length=255)
    admin: bool = Field(False, description="A server administrator.")


class UserMade(Schema):
    user_id: str


class PasswordIn(Body):
    password: Text = Field(min_length=8, max_length=200)
    logout_devices: bool = Field(True, description="End its sessions as well, where the homeserver can.")


class DeactivateIn(Body):
    erase: bool = Field(False, description="Hide what it has said, too.")


class RoomUserIn(Body):
    user_id: Text = Field(max_length=255, examples=["@bea:example.org"])


class SessionIn(Body):
    """One of the two. Kept encrypted, never answered."""

    password: Text = Field("", max_length=500)
    token: Text = Field("", max_length=2000)


class PauseOut(Schema):
    """Somebody whom the homeserver refused in room after room: invited nowhere until `until`, then once."""

    id: int
    user_id: str
    failures: int
    until: datetime | None
    error: str


class PauseList(Schema):
    items: list[PauseOut]
    next: str | None


class DeletedOut(Schema):
    done: bool = Field(description="false: the homeserver is still at it.")


def _service(name: str) -> Service:
    service = Service.objects.filter(name=name, kind=HOMESERVER_KIND).first()
    if service is None:
        raise not_found("homeserver", name)
    return service


def _opened(name: str) -> Homeserver:
    return homeserver_of(_service(name))


def _user(user_id: str) -> str:
    if not user_id.startswith("@") or ":" not in user_id:
        sentence = "This is no Matrix id; give it whole, like @name:server."
        raise Problem(REQUEST_INVALID, sentence, errors=[FieldError("user_id", sentence)])
    return user_id


@router.get("", response=HomeserverList, operation_id="homeservers_list", summary="List homeservers and their ways")
def homeservers_list(request: HttpRequest) -> HttpResponse:
    """What is known, without asking them anything."""
    rows = Service.objects.filter(kind=HOMESERVER_KIND).order_by("pk")
    return answer({"items": [administering.facts(row).to_dict() for row in rows]})


@router.get("/{name}", response=HomeserverOut, operation_id="homeservers_get", summary="Get a homeserver")
def homeservers_get(request: HttpRequest, name: Text) -> HttpResponse:
    return answer(administering.facts(_service(name)).to_dict())


@router.post(
    "/{name}/probe", response=HomeserverOut, operation_id="homeservers_probe", summary="Ask what it is and can do"
)
def homeservers_probe(request: HttpRequest, name: Text) -> HttpResponse:
    """Asks now and keeps the answer. Creates nothing there."""
    service = _service(name)
    homeserver_detect(homeserver=homeserver_of(service), actor=principal_of(request).actor)
    return answer(administering.facts(service).to_dict())


@router.get(
    "/{name}/accounts", response=AccountList, operation_id="homeservers_accounts", summary="List agents' accounts"
)
def homeservers_accounts(request: HttpRequest, name: Text, query: Query[AccountFilter]) -> HttpResponse:
    rows = Account.objects.filter(homeserver=_service(name)).select_related("mapping").defer("secrets")
    if query.way is not None:
        rows = rows.filter(way=query.way)
    if query.session is not None:
        rows = rows.filter(session=query.session)
    return page(request, rows, query, render=account_dict)


def account_dict(row: Account) -> dict[str, Any]:
    """An account as JSON, without its secrets."""
    mapping = getattr(row, "mapping", None)
    return {
        "id": row.pk,
        "user_id": row.user_id,
        "agent": mapping.agent_id if mapping is not None else None,
        "way": row.way,
        "session": row.session,
        "session_error": row.session_error,
        "session_checked_at": row.session_checked_at,
        "session_retry_at": row.session_retry_at,
        "registered_at": row.registered_at,
    }


@router.put(
    "/{name}/accounts/{account_id}/session",
    response=AccountOut,
    operation_id="homeservers_session_open",
    summary="Open a session of an agent's account",
)
def homeservers_session_open(request: HttpRequest, name: Text, account_id: Id, body: SessionIn) -> HttpResponse:
    """One login with the password, or the token as it is; the homeserver is asked whose it is before anything is kept."""
    homeserver = _opened(name)
    account = Account.objects.filter(pk=account_id, homeserver=homeserver.service).first()
    if account is None:
        raise not_found("account", account_id)
    if bool(body.password) == bool(body.token):
        raise Problem(REQUEST_INVALID, "Give either a password or an access token.")
    done = session_open(
        homeserver=homeserver, account=account, password=body.password, token=body.token,
        actor=principal_of(request).actor,
    )  # fmt: skip
    return answer(account_dict(done))


@router.get(
    "/{name}/pauses", response=PauseList, operation_id="homeservers_pauses", summary="List who is not invited for now"
)
def homeservers_pauses(request: HttpRequest, name: Text, query: Query[Paging]) -> HttpResponse:
    rows = open_pauses().filter(homeserver=_service(name))
    return page(request, rows, query, render=_pause)


def _pause(row: InviteePause) -> dict[str, Any]:
    return {
        "id": row.pk, "user_id": row.user_id, "failures": row.failures, "until": row.until, "error": row.error,
    }  # fmt: skip


@router.delete(
    "/{name}/pauses/{pause_id}",
    response={204: None},
    operation_id="homeservers_pause_end",
    summary="Let somebody be invited again",
)
def homeservers_pause_end(request: HttpRequest, name: Text, pause_id: Id) -> HttpResponse:
    """The next sync invites them again everywhere."""
    pause = open_pauses().filter(homeserver=_service(name), pk=pause_id).first()
    if pause is None:
        raise not_found("pause", pause_id)
    invitee_resume(pause=pause, actor=principal_of(request).actor)
    return nothing()


@router.post(
    "/{name}/users", response={201: UserMade}, operation_id="homeservers_user_create", summary="Make an account"
)
def homeservers_user_create(request: HttpRequest, name: Text, body: UserIn) -> HttpResponse:
    """For a person: agents' accounts are made by sync."""
    made = administering.user_create(
        homeserver=_opened(name), localpart=body.localpart, password=body.password, display_name=body.display_name,
        admin=body.admin, actor=principal_of(request).actor,
    )  # fmt: skip
    return answer({"user_id": made}, status=201)


@router.put(
    "/{name}/users/{user_id}/password",
    response={204: None},
    operation_id="homeservers_password_reset",
    summary="Reset a password",
)
def homeservers_password_reset(request: HttpRequest, name: Text, user_id: Text, body: PasswordIn) -> HttpResponse:
    administering.password_reset(
        homeserver=_opened(name), user_id=_user(user_id), password=body.password,
        logout_devices=body.logout_devices, actor=principal_of(request).actor,
    )  # fmt: skip
    return nothing()


@router.post(
    "/{name}/users/{user_id}/deactivate",
    response={204: None},
    operation_id="homeservers_user_deactivate",
    summary="Deactivate an account for good",
)
def homeservers_user_deactivate(request: HttpRequest, name: Text, user_id: Text, body: DeactivateIn) -> HttpResponse:
    """It leaves its rooms, nobody can log in to it, and its name cannot be had again."""
    administering.user_deactivate(
        homeserver=_opened(name), user_id=_user(user_id), erase=body.erase, actor=principal_of(request).actor
    )
    return nothing()


@router.post(
    "/{name}/rooms/{room_id}/admin",
    response={204: None},
    operation_id="homeservers_room_admin",
    summary="Give an account power in a room",
)
def homeservers_room_admin(request: HttpRequest, name: Text, room_id: Text, body: RoomUserIn) -> HttpResponse:
    """The power of the room's strongest local member."""
    administering.room_make_admin(
        homeserver=_opened(name), room_id=room_id, user_id=_user(body.user_id), actor=principal_of(request).actor
    )
    return nothing()


@router.post(
    "/{name}/rooms/{room_id}/join",
    response={204: None},
    operation_id="homeservers_room_join",
    summary="Bring an account into a room",
)
def homeservers_room_join(request: HttpRequest, name: Text, room_id: Text, body: RoomUserIn) -> HttpResponse:
    administering.room_join_user(
        homeserver=_opened(name), room_id=room_id, user_id=_user(body.user_id), actor=principal_of(request).actor
    )
    return nothing()


@router.delete(
    "/{name}/rooms/{room_id}", response=DeletedOut, operation_id="homeservers_room_delete", summary="Delete a room"
)
def homeservers_room_delete(request: HttpRequest, name: Text, room_id: Text) -> HttpResponse:
    """Takes everybody out and forgets what was said there; what Switchboard has of it stays. Refused for a room of an agent."""
    if Account.objects.filter(mapping__room__room_id=room_id).exists():
        raise Problem(CANNOT, "An agent speaks in this room. Move or archive the agent first.")
    done = administering.room_delete(homeserver=_opened(name), room_id=room_id, actor=principal_of(request).actor)
    return answer({"done": done})
