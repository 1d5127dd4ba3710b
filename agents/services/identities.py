"""Accounts on the homeserver: whether we may speak as them, and putting right what keeps us from it.

An appservice's accounts have no password and no token of their own: we speak as them by ``?user_id=`` (application service API,
"Identity assertion"). What can go wrong is that the homeserver has lost the account, or does not let us speak as it. Accounts with
sessions of their own (client mode, or outside the namespace) are renewed by the call itself: see ``agents.services.sessions``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from django.db import transaction
from django.utils import timezone

from agents.matrix.errors import (
    MatrixError,
    Refused,
    SessionRefused,
    TokenRefused,
    account_is_missing,
)
from agents.matrix.keys import MARKER
from agents.matrix.names import user_id
from agents.models import Account, Agent, Mapping, Room
from agents.services.backends import Homeserver
from agents.sync import rooms as steps
from agents.sync.takeover import derived_localparts
from ops.services.audit import record
from ops.side_by_side import side_by_side

State = Literal["ok", "missing", "refused", "unknown"]
CANARY = "I speak with my own account again. Something I said before may stand here under another name."


@dataclass(frozen=True, slots=True)
class Identity:
    """What the homeserver says when we speak as an account. ``unknown``: it did not answer, so nothing is known."""

    user_id: str
    state: State
    sentence: str = ""
    errcode: str = ""


def ask_identity(homeserver: Homeserver, user_id: str, room_id: str = "") -> Identity:
    """Speak as the account without doing anything (``GET /account/whoami?user_id=``). Never raises a ``MatrixError``.

    With ``room_id`` also whether it may act: a suspended account is told who it is and may say nothing. So it "joins" the room in
    which it is already, which does nothing for everybody else; a room in which it is not is left alone.
    """
    client = homeserver.client
    try:
        said = client.whoami(user_id)
        if said == user_id and room_id and room_id in client.joined_rooms(user_id):
            client.join(room_id, user_id)
    except SessionRefused as error:
        return Identity(user_id, "refused", error.sentence, error.code)
    except TokenRefused as error:
        return Identity(user_id, "unknown", error.sentence, error.code)
    except Refused as error:
        if account_is_missing(error):
            return Identity(user_id, "missing", "The homeserver has no such account.", error.code)
        return Identity(user_id, "refused", error.sentence, error.code)
    except MatrixError as error:
        return Identity(user_id, "unknown", error.sentence, error.code)
    if said != user_id:
        return Identity(user_id, "refused", f"The homeserver takes us for {said}.", "")
    return Identity(user_id, "ok")


def ask_identities(homeserver: Homeserver, rooms: dict[str, str]) -> dict[str, Identity]:
    """``ask_identity`` for many, side by side: ``{user id: room id or ""}``. Needs no database once their tokens are at hand."""
    if homeserver.client.sessions is not None:
        homeserver.client.sessions.warm(rooms)
    said = side_by_side(lambda one: ask_identity(homeserver, one, rooms[one]), list(rooms))
    return dict(zip(rooms, said, strict=True))


@dataclass(slots=True)
class Provisioned:
    """What became of accounts: user ids, and for failures the sentence."""

    created: list[str] = field(default_factory=list)
    adopted: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def accounts_provision(
    *,
    homeserver: Homeserver,
    accounts: Iterable[Account],
    actor: str,
    progress: Callable[[int, str], None] = lambda done, text: None,
) -> Provisioned:
    """Make accounts on the homeserver, with name and picture, and bring them back into their rooms.

    An account that is there is adopted; a second run creates nothing. One that fails does not stop the others. Raises
    ``MatrixError`` when the homeserver is gone or refuses our token.
    """
    done = Provisioned()
    for number, account in enumerate(accounts, start=1):
        try:
            made = homeserver.client.register(account.localpart)
            with transaction.atomic():
                row = Account.objects.select_for_update().get(pk=account.pk)
                row.registered_at = timezone.now()
                if made:
                    # The homeserver had lost it, and its name and picture with it.
                    row.display_name, row.avatar_source, row.avatar_mxc = "", "", ""
                row.save(update_fields=["registered_at", "display_name", "avatar_source", "avatar_mxc"])
                if made:
                    record(actor=actor, action="account.created", target=row, message=f"{row.user_id} was made again.")
            (done.created if made else done.adopted).append(account.user_id)
            _dress(homeserver, row)
        except Refused as error:
            if error.general:
                raise
            done.failed[account.user_id] = error.sentence
        progress(number, account.user_id)
    return done


def _dress(homeserver: Homeserver, account: Account) -> None:
    """Name, picture and room of an agent's account, as far as the homeserver lets it back in."""
    mapping = Mapping.objects.select_related("agent", "room").filter(account=account).first()
    if mapping is None:
        return
    steps.set_profile(homeserver, account, mapping.agent)
    if mapping.room is not None and mapping.room.room_id:
        bring_back(homeserver, mapping.room, account.user_id)


def bring_back(homeserver: Homeserver, room: Room, user_id: str) -> bool:
    """Get the account into its room (again), invited by Switchboard's own account where that is in it. False: no way in."""
    assert room.room_id
    client = homeserver.client
    try:
        client.join(room.room_id, user_id)
        return True
    except Refused as error:
        if error.general:
            raise
    try:
        client.invite(room.room_id, user_id, homeserver.sender_id)
        client.join(room.room_id, user_id)
    except Refused as error:
        if error.general:
            raise
        return False
    return True


@dataclass(frozen=True, slots=True)
class Reassertion:
    """How far one account had to go up the ladder: ``well``, ``registered``, ``renamed`` or ``stuck``."""

    rung: Literal["well", "registered", "renamed", "stuck"]
    in_room: bool
    sentence: str = ""


def derived_user_id(homeserver: Homeserver, agent: Agent) -> str:
    """The user id that the agent's own id stands for on this homeserver, whatever its row says."""
    return user_id(derived_localparts(homeserver, agent)[0], homeserver.server_name)


def identity_reassert(*, homeserver: Homeserver, mapping: Mapping, actor: str) -> Reassertion:
    """Put right what keeps an agent from speaking as itself, one rung after the other, as far as is needed.

    Whoami; register or adopt; the device; the account's row where it names an account that cannot be ours (and the one that the
    agent's id stands for can be used and is in the room); name and picture; the room. Raises ``MatrixError`` when the homeserver is gone.
    """
    account = mapping.account
    room_id = (mapping.room.room_id or "") if mapping.room is not None else ""
    found = ask_identity(homeserver, account.user_id, room_id)
    rung: Literal["well", "registered", "renamed", "stuck"] = "well"
    if found.state == "missing":
        done = accounts_provision(homeserver=homeserver, accounts=[account], actor=actor)
        rung = "stuck" if done.failed else "registered"
        found = ask_identity(homeserver, account.user_id, room_id)
    if found.state == "refused":
        rung = "renamed" if _rename(homeserver, mapping, actor) else "stuck"
    if rung == "stuck" or found.state == "unknown":
        return Reassertion("stuck", False, found.sentence)
    account.refresh_from_db()
    homeserver.client.ensure_device(account.user_id)
    profile = homeserver.client.get_profile(account.user_id)
    if profile.display_name != mapping.agent.name[:255]:
        account.display_name = profile.display_name
    steps.set_profile(homeserver, account, mapping.agent)
    inside = True
    if mapping.room is not None and mapping.room.room_id:
        inside = bring_back(homeserver, mapping.room, account.user_id)
    return Reassertion(rung, inside)


def usable_instead(homeserver: Homeserver, mapping: Mapping) -> str:
    """The user id that the agent's id stands for, if the row names another one and that one works and is in the room; else ""."""
    derived = derived_user_id(homeserver, mapping.agent)
    if (
        derived == mapping.account.user_id
        or Account.objects.filter(user_id=derived).exclude(pk=mapping.account_id).exists()
    ):
        return ""
    if ask_identity(homeserver, derived).state != "ok":
        return ""
    room = mapping.room
    if room is not None and room.room_id and room.room_id not in homeserver.client.joined_rooms(derived):
        return ""
    return derived


def _rename(homeserver: Homeserver, mapping: Mapping, actor: str) -> bool:
    derived = usable_instead(homeserver, mapping)
    if derived:
        account_rename(account=mapping.account, user_id=derived, actor=actor)
    return bool(derived)


def account_rename(*, account: Account, user_id: str, actor: str) -> None:
    """Let the row name another account. Nothing changes on the homeserver."""
    with transaction.atomic():
        before = account.user_id
        account.user_id, account.localpart = user_id, user_id[1:].partition(":")[0]
        account.save(update_fields=["user_id", "localpart"])
        record(
            actor=actor,
            action="account.renamed",
            target=account,
            before={"user_id": before},
            after={"user_id": user_id},
        )


def canary_send(*, homeserver: Homeserver, room: Room, account: Account, txn_id: str) -> str:
    """Say as the agent, once, that it speaks with its own account; read it back and return the event's id.

    Raises ``MatrixError``; ``Refused`` when what stands in the room has another sender.
    """
    assert room.room_id
    client = homeserver.client
    content = {"msgtype": "m.notice", "body": CANARY, "m.mentions": {}, MARKER: {"hop": 0, "canary": True}}
    event_id = client.send(room.room_id, content, txn_id=txn_id, user_id=account.user_id)
    event = client.get_event(room.room_id, event_id, account.user_id) or {}
    if event.get("sender") != account.user_id:
        raise Refused(f"the message stands there as {event.get('sender') or 'nobody'}'s", action="speak as the agent")
    return event_id
