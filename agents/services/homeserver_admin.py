"""Administering users and rooms on the homeserver, the way that this homeserver has for it.

``ways`` says for each ability which way that is and whether it works, without asking anybody that was asked before. Every function
goes that way or raises ``CannotAdminister`` with a sentence for an operator: exactly why not, and what to do instead. What the
homeserver itself says about the user or room (``Taken``, ``NotFound``, not reachable...) stays a ``MatrixError``. What was done is
audited, without any password or token.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from agents.matrix.admin import admin_room as commands
from agents.matrix.admin.admin_room import AdminRoom, Command, NoAnswer, UnknownCommand
from agents.matrix.admin.login import appservice_login
from agents.matrix.admin.synapse import SynapseAdmin, is_unserved
from agents.matrix.admin.ways import Ability, Way, ways_of
from agents.matrix.errors import Forbidden, Refused, TokenRefused
from agents.services.backends import Homeserver, mode_of
from agents.services.client_mode import CLIENT_MODE_CANNOT
from agents.services.homeserver_access import Administrator, NoAdministrator, given_credentials, with_administrator
from agents.services.homeserver_accounts import LOGIN_DEVICE, TokenNotTaken, name_account, register_as_anybody
from agents.services.homeserver_probe import admin_url_of, known_flavour, label, stored_flavour
from ops.logs import add_secret, get_logger
from ops.models import Service
from ops.services.audit import record

log = get_logger(__name__)
T = TypeVar("T")
# What a new name may consist of (specification, appendices, "User identifiers").
_NAME = re.compile(r"[a-z0-9._=/+-]+")


class CannotAdminister(Exception):
    """This homeserver has no way for it, or not with what we were given. ``sentence`` says why and what to do instead."""

    def __init__(self, sentence: str, *, ability: str = "") -> None:
        super().__init__(sentence)
        self.sentence, self.ability = sentence, ability


@dataclass(frozen=True, slots=True)
class HomeserverFacts:
    """What is known of a homeserver, for pages, the API and the command. Holds no secret, only which ones are given."""

    name: str
    server_name: str
    base_url: str
    label: str
    mode: str
    flavour: dict[str, Any]
    given: tuple[str, ...]
    ways: dict[str, Way]

    def to_dict(self) -> dict[str, Any]:
        """JSON shape: ``{service, server_name, base_url, homeserver, mode, credentials, capabilities, ways: [Way], limits}``."""
        return {
            "service": self.name,
            "server_name": self.server_name,
            "base_url": self.base_url,
            "homeserver": self.label,
            "mode": self.mode,
            "credentials": list(self.given),
            "capabilities": self.flavour,
            "ways": [way.to_dict() for way in self.ways.values()],
            "limits": self.limits,
        }

    @property
    def limits(self) -> dict[str, str]:
        """What only an appservice can do, where we are none: ``{what: sentence}``."""
        return dict(CLIENT_MODE_CANNOT) if self.mode == "client" else {}


_SHOWN = (
    *("as_token", "admin_token", "admin_user", "admin_password"),
    *("registration_shared_secret", "registration_token"),
)


def ways(homeserver: Homeserver) -> dict[str, Way]:
    """The way of this homeserver for every ability. Asks it only when nothing is known of it, or its service was changed since.

    Raises ``MatrixError`` when it has to be asked and does not answer.
    """
    return ways_of(known_flavour(homeserver), given_credentials(homeserver.service))


def can_make_users(service: Service) -> bool:
    """Whether ordinary accounts can be made there, without asking it: while nothing is known, whether we were given something."""
    flavour, given = stored_flavour(service), given_credentials(service)
    if not flavour:
        return bool(given & {"registration_shared_secret", "registration_token", "admin_token", "admin_password"})
    return ways_of(flavour, given)["user_create"].works


def facts(service: Service) -> HomeserverFacts:
    """What is known of a homeserver, without asking it anything."""
    flavour = stored_flavour(service)
    given = given_credentials(service)
    return HomeserverFacts(
        name=service.name,
        server_name=str(service.options.get("server_name") or service.capabilities.get("server_name") or ""),
        base_url=service.base_url,
        label=label(flavour) if flavour else "not asked yet",
        mode=mode_of(service),
        flavour=flavour,
        given=tuple(name for name in _SHOWN if name in given),
        ways=ways_of(flavour, given) if flavour else {},
    )


# Users


def user_create(
    *, homeserver: Homeserver, localpart: str, password: str, display_name: str = "", admin: bool = False, actor: str
) -> str:
    """Make an ordinary account with a password and return its user id. Raises ``Taken`` when the name exists.

    ``admin``: a server administrator. Raises ``CannotAdminister``, ``MatrixError``.
    """
    if not _NAME.fullmatch(localpart):
        raise Refused(
            "a Matrix name consists of lower-case letters, digits and . _ = - / +",
            errcode="M_INVALID_USERNAME",
            where=homeserver.service.base_url,
            action=f"make an account named {localpart[:50]}",
        )
    way = _way(homeserver, "user_create")
    # It stands in the middle of a message where it goes through an admin room.
    add_secret(password)
    service = homeserver.service
    user_id = f"@{localpart}:{homeserver.server_name}"
    if admin and way.dialect in ("registration_token", "open_registration"):
        raise CannotAdminister(
            "Whoever registers is no administrator. Make the account an administrator with the homeserver's own tools.",
            ability="user_create",
        )
    if way.dialect == "shared_secret":
        secret = str(service.credentials["registration_shared_secret"])

        def by_secret() -> None:
            with SynapseAdmin(admin_url_of(service), secret) as api:
                api.register_user(localpart, password, admin=admin, displayname=display_name or None)

        _translated("user_create", by_secret)
    elif way.dialect == "admin_api":
        _by_api(
            homeserver,
            "user_create",
            lambda api: api.create_user(user_id, password, display_name=display_name, admin=admin),
        )
    elif way.dialect == "admin_room":
        _by_command(homeserver, "user_create", commands.create_user(homeserver.server_name, localpart, password))
        if display_name:
            name_account(service, user_id, password, display_name)
        if admin:
            _by_command(homeserver, "user_create", commands.make_admin(user_id))
    else:
        token = str(service.credentials.get("registration_token") or "") if way.dialect == "registration_token" else ""
        _translated("user_create", lambda: register_as_anybody(service, localpart, password, token, display_name))
    _audit(homeserver, actor, "homeserver.user_created", user_id, way, {"administrator": admin} if admin else None)
    return user_id


def password_reset(
    *, homeserver: Homeserver, user_id: str, password: str, logout_devices: bool = True, actor: str
) -> None:
    """Give an account a new password. ``logout_devices`` ends its sessions where the homeserver can (older Tuwunel cannot).

    Raises ``CannotAdminister``, ``MatrixError`` (``NotFound``...).
    """
    way = _way(homeserver, "password_reset", user_id)
    add_secret(password)
    ended = logout_devices
    if way.dialect == "admin_api":
        _by_api(
            homeserver,
            "password_reset",
            lambda api: api.reset_password(user_id, password, logout_devices=logout_devices),
        )
    else:
        ended = logout_devices and stored_flavour(homeserver.service).get("name") == "continuwuity"
        command = commands.reset_password(user_id, password, logout=ended)
        _by_command(homeserver, "password_reset", command, about=user_id)
    _audit(homeserver, actor, "homeserver.password_reset", user_id, way, {"sessions_ended": ended})


def login_as(*, homeserver: Homeserver, user_id: str, actor: str) -> str:
    """A token to act as the account. Where the homeserver allows it only for the appservice's accounts, for those only.

    Raises ``CannotAdminister``, ``MatrixError`` (``NotFound``...).
    """
    way = _way(homeserver, "login_as", user_id)
    if way.dialect == "admin_api":
        token = _by_api(homeserver, "login_as", lambda api: api.login_as(user_id))
    else:
        service = homeserver.service
        as_token = _as_token(service)
        try:
            token = appservice_login(service.base_url, as_token, user_id, device_id=LOGIN_DEVICE)
        except Refused as error:
            raise CannotAdminister(
                f"The homeserver does not log the appservice in as {user_id} ({error.code}): {error.message}. {way.sentence}",
                ability="login_as",
            ) from error
    _audit(homeserver, actor, "homeserver.logged_in_as", user_id, way)
    return token


def user_deactivate(*, homeserver: Homeserver, user_id: str, erase: bool = False, actor: str) -> None:
    """Close an account for good: it leaves its rooms and nobody can log in to it. ``erase``: what it said is hidden as well.

    Raises ``CannotAdminister``, ``MatrixError``.
    """
    if user_id == homeserver.sender_id:
        raise CannotAdminister(
            f"{user_id} is Switchboard's own account: without it no room and no space could be kept.",
            ability="user_deactivate",
        )
    way = _way(homeserver, "user_deactivate", user_id)
    if way.dialect == "admin_api":
        _by_api(homeserver, "user_deactivate", lambda api: api.deactivate(user_id, erase=erase))
    elif erase:
        raise CannotAdminister(
            "The admin room's command closes an account and erases nothing. Deactivate it without erasing.",
            ability="user_deactivate",
        )
    else:
        _by_command(homeserver, "user_deactivate", commands.deactivate(user_id), about=user_id)
    _audit(homeserver, actor, "homeserver.user_deactivated", user_id, way, {"erased": erase})


# Rooms


def room_make_admin(*, homeserver: Homeserver, room_id: str, user_id: str, actor: str) -> None:
    """Give an account the power of the room's strongest local member; it is invited where it is not in the room.

    Raises ``CannotAdminister``, ``MatrixError`` (nobody local has power there).
    """
    way = _way(homeserver, "room_admin")
    if way.dialect == "admin_api":
        _by_api(homeserver, "room_admin", lambda api: api.make_room_admin(room_id, user_id))
    else:
        _by_command(homeserver, "room_admin", commands.promote(user_id, room_id))
    _audit(homeserver, actor, "homeserver.room_admin", user_id, way, {"room": room_id})


def room_join_user(*, homeserver: Homeserver, room_id: str, user_id: str, actor: str) -> None:
    """Bring an account into a room. Into a private room the administrator goes first, invites, and leaves as it came.

    Raises ``CannotAdminister``, ``MatrixError``.
    """
    way = _way(homeserver, "room_join", user_id)
    if way.dialect == "admin_api":
        from agents.services.homeserver_rooms import join_through_administrator

        def joined(administrator: Administrator) -> None:
            with SynapseAdmin(admin_url_of(homeserver.service), admin_token=administrator.token) as api:
                try:
                    api.join_user(room_id, user_id)
                except Forbidden as error:
                    join_through_administrator(homeserver, api, administrator, room_id, user_id, error)

        _as_administrator(homeserver, "room_join", joined)
    else:
        _by_command(homeserver, "room_join", commands.join_room(user_id, room_id))
    _audit(homeserver, actor, "homeserver.room_joined", user_id, way, {"room": room_id})


def room_delete(*, homeserver: Homeserver, room_id: str, actor: str) -> bool:
    """Remove everybody from a room and forget it. ``False``: the homeserver is still at it.

    Raises ``CannotAdminister``, ``MatrixError``.
    """
    way = _way(homeserver, "room_delete")
    if way.dialect == "admin_api":
        done = _by_api(homeserver, "room_delete", lambda api: api.delete_room(room_id))
    else:
        _by_command(homeserver, "room_delete", commands.delete_room(room_id))
        done = True
    _audit(homeserver, actor, "homeserver.room_deleted", f"room {room_id}", way, {"room": room_id})
    return done


# How


def _way(homeserver: Homeserver, ability: Ability, user_id: str = "") -> Way:
    """The way, if there is one, and if the account is one of this homeserver's: a command names it without its server."""
    if user_id and user_id.partition(":")[2] != homeserver.server_name:
        raise CannotAdminister(f"{user_id} is no account of {homeserver.server_name}.", ability=ability)
    way = ways(homeserver)[ability]
    if not way.works:
        raise CannotAdminister(way.sentence, ability=ability)
    return way


def _by_api(homeserver: Homeserver, ability: Ability, call: Callable[[SynapseAdmin], T]) -> T:
    def act(administrator: Administrator) -> T:
        with SynapseAdmin(admin_url_of(homeserver.service), admin_token=administrator.token) as api:
            return call(api)

    return _as_administrator(homeserver, ability, act)


def _by_command(homeserver: Homeserver, ability: Ability, command: Command, *, about: str = "") -> None:
    def act(administrator: Administrator) -> None:
        room = AdminRoom(
            homeserver.service.base_url,
            administrator.token,
            homeserver.server_name,
            warn=lambda sentence: log.warning("homeserver.password_left_in_room", sentence=sentence),
        )
        with room:
            if about and not room.knows(about):
                # Some versions would set a password, and so make an account, of a name that nobody has.
                raise commands.no_such_user(about, homeserver.service.base_url, command.action)
            room.run(command)

    try:
        _as_administrator(homeserver, ability, act)
    except UnknownCommand as error:
        name = label(stored_flavour(homeserver.service))
        raise CannotAdminister(
            f"{name} does not know the command !admin {command.name}: {error.message}", ability=ability
        ) from error
    except NoAnswer as error:
        shown = " An answer that comes later may show the password there." if command.secret else ""
        raise CannotAdminister(
            f"The command was written in #admins, and {error.message}. Look there before you try again.{shown}",
            ability=ability,
        ) from error


def _as_administrator(homeserver: Homeserver, ability: Ability, act: Callable[[Administrator], T]) -> T:
    return _translated(ability, lambda: with_administrator(homeserver.service, act))


def _translated(ability: Ability, call: Callable[[], T]) -> T:
    """What is about our rights, not about the user or the room, becomes a sentence for the operator."""
    try:
        return call()
    except (NoAdministrator, TokenNotTaken) as error:
        raise CannotAdminister(error.sentence, ability=ability) from error
    except TokenRefused as error:
        raise CannotAdminister(f"The administrator is refused: {error.sentence}", ability=ability) from error
    except Refused as error:
        words = error.message.lower()
        if (
            isinstance(error, Forbidden)
            and "admin" in words
            and ("not a server admin" in words or "only server" in words)
        ):
            raise CannotAdminister(
                f"The account that was given is no administrator of the homeserver: {error.message}. Give another one, or make it one.",
                ability=ability,
            ) from error
        if error.status == 403 and "hmac" in words:
            raise CannotAdminister(
                "The homeserver has another registration shared secret than the one that was given. Enter the one of its "
                "configuration (registration_shared_secret).",
                ability=ability,
            ) from error
        if is_unserved(error):
            raise CannotAdminister(
                f"The homeserver does not serve this call ({error.code}), though it did, or said so. Detect it again "
                "(manage.py homeserver --probe).",
                ability=ability,
            ) from error
        raise


def _as_token(service: Service) -> str:
    from django.conf import settings

    return str((service.credentials or {}).get("as_token") or settings.MATRIX_AS_TOKEN)


def _audit(
    homeserver: Homeserver, actor: str, action: str, about: str, way: Way, more: dict[str, Any] | None = None
) -> None:
    record(
        actor=actor,
        action=action,
        target=homeserver.service,
        message=f"{about}: {way.sentence}",
        after={"about": about, "way": way.dialect, **(more or {})},
    )
