"""Gets at accounts and rooms that others made: by the appservice, by a session of the account's own, with an administrator's help."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from django.utils import timezone

from agents.matrix.errors import MatrixError, Refused, Taken
from agents.matrix.names import alias
from agents.matrix.room_state import room_state
from agents.models import Account, AccountWay
from agents.services.backends import Homeserver
from agents.services.identities import ask_identity, bring_back
from agents.sync.takeover import newest_event
from ops.logs import get_logger

log = get_logger(__name__)


@dataclass(slots=True)
class PlaceSeen:
    """What a room says of itself, in one request. ``members``: user id to membership."""

    room_id: str
    name: str = ""
    topic: str = ""
    canonical_alias: str = ""
    encrypted: bool = False
    replaced_by: str = ""
    members: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Reached:
    """An account of the appservice's namespace, in its room. ``made``: the homeserver did not have it. ``newest`` is the room's newest
    event: what is not newer was said to somebody else."""

    identity: str
    made: bool = False
    display_name: str = ""
    avatar: str = ""
    room: PlaceSeen | None = None
    newest: tuple[datetime, str] | None = None
    problem: str = ""


def reach(homeserver: Homeserver, user_id: str, room_id: str, *, may_make: bool) -> Reached:
    """Speak as the account by identity assertion and enter its room. Needs no database. Raises ``MatrixError``.

    ``identity`` is ``refused`` when only a session of its own can do it: nothing else was asked for then.
    """
    made = False
    found = ask_identity(homeserver, user_id)
    if found.state == "missing":
        if not may_make:
            return Reached("missing", problem=f"The homeserver has no account {user_id}.")
        made = homeserver.client.register(user_id[1:].partition(":")[0])
    elif found.state == "unknown":
        return Reached("unknown", problem=found.sentence)
    elif found.state == "refused":
        return Reached("refused", problem=found.sentence)
    reached = Reached("ok", made)
    look_inside(homeserver, reached, user_id, room_id)
    return reached


def look_inside(homeserver: Homeserver, reached: Reached, user_id: str, room_id: str) -> None:
    """The account's profile, and its room once it is in it. ``problem`` says why it cannot get in. Raises ``MatrixError``."""
    profile = homeserver.client.get_profile(user_id)
    reached.display_name, reached.avatar = profile.display_name, profile.avatar_url
    if not room_id:
        return
    reached.problem = enter(homeserver, room_id, user_id)
    if not reached.problem:
        reached.room = place_seen(homeserver, room_id, user_id)
        reached.newest = newest_event(homeserver, room_id, user_id)


def enter(homeserver: Homeserver, room_id: str, user_id: str) -> str:
    """Get the account into the room: it is in it, somebody invited it, or an administrator lets it in. Returns why not, "" for in.

    Raises ``MatrixError`` when the homeserver is gone.
    """
    try:
        homeserver.client.join(room_id, user_id)
        return ""
    except Refused as error:
        if error.general:
            raise
        why = error
    if bring_back(homeserver, _Place(room_id), user_id):  # type: ignore[arg-type]
        return ""
    from agents.services.homeserver_admin import CannotAdminister, room_join_user

    try:
        room_join_user(homeserver=homeserver, room_id=room_id, user_id=user_id, actor="import")
        homeserver.client.join(room_id, user_id)
        return ""
    except CannotAdminister as error:
        log.info("import.no_administrator", room=room_id, error=str(error)[:200])
    except Refused as error:
        if error.general:
            raise
        why = error
    return f"{user_id} cannot get into {room_id} ({why.code}: {why.message.rstrip('.')}). Invite it there, then apply this row again."


@dataclass(frozen=True, slots=True)
class _Place:
    """What ``bring_back`` needs to know of a room that has no row yet."""

    room_id: str


def place_seen(homeserver: Homeserver, room_id: str, user_id: str) -> PlaceSeen:
    """Name, topic, address, encryption, successor and members of a room that the account is in."""
    state = room_state(homeserver.client.full_state(room_id, user_id))
    return PlaceSeen(
        room_id, state.name[:255], state.topic[:1000], state.alias[:255], state.encrypted, state.replaced_by[:255],
        state.memberships,
    )  # fmt: skip


def open_session(homeserver: Homeserver, account: Account, known: dict[str, str], actor: str) -> str:
    """Let an account that the appservice does not cover speak with a session of its own: its token, its password, or an
    administrator's login. Returns why that cannot be done, "" when it is open.
    """
    from agents.services.sessions import session_open, session_recover

    reasons: list[str] = []
    for offer in ({"token": known.get("access_token", "")}, {"password": known.get("password", "")}):
        if not any(offer.values()):
            continue
        try:
            session_open(homeserver=homeserver, account=account, actor=actor, **offer)
            return ""
        except Refused as error:
            reasons.append(error.sentence)
        except MatrixError as error:
            return error.sentence
    try:
        session_recover(homeserver=homeserver, account=account, actor=actor)
    except MatrixError as error:
        return " ".join([*reasons[-1:], error.sentence])
    return ""


def ensure_alias(homeserver: Homeserver, localpart: str, room: PlaceSeen, user_id: str, *, move: bool) -> str:
    """Let the account's own address lead to its room, where it leads nowhere (or anywhere, with ``move``). Returns the address.

    A name that the homeserver does not give us is left alone: the room is found by its mark then.
    """
    name = alias(localpart, homeserver.server_name)
    client = homeserver.client
    try:
        present = client.resolve_alias(name)
        if present is not None and present != room.room_id and move:
            client.delete_alias(name, user_id)
            present = None
        if present is None:
            client.put_alias(name, room.room_id, user_id)
            present = room.room_id
        if present == room.room_id and not room.canonical_alias:
            client.set_canonical_alias(room.room_id, name, user_id)
    except (Refused, Taken) as error:
        if error.general:
            raise
        log.info("import.no_address", alias=name, error=error.sentence[:200])
    return name


def bring_switchboard(homeserver: Homeserver, room_id: str, user_id: str) -> bool:
    """Switchboard's own account in the room: without one of the namespace in it, nothing said there reaches us."""
    client = homeserver.client
    try:
        client.register(homeserver.sender_localpart)
    except Refused as error:
        if error.general:
            raise
    try:
        client.invite(room_id, homeserver.sender_id, user_id)
        client.join(room_id, homeserver.sender_id)
    except Refused as error:
        if error.general:
            raise
        log.warning("import.switchboard_not_in_room", room=room_id, error=error.sentence[:200])
        return False
    return True


def account_row(homeserver: Homeserver, user_id: str, way: AccountWay) -> tuple[Account, bool]:
    """The account's row, made when there is none. Returns it and whether it was made."""
    return Account.objects.get_or_create(
        user_id=user_id,
        defaults={
            "homeserver": homeserver.service,
            "localpart": user_id[1:].partition(":")[0],
            "way": way,
            "registered_at": timezone.now(),
        },
    )
