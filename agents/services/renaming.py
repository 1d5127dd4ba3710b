"""A homeserver of another name takes the place of ours: every account and room begins anew there, and the rows stay the same rows.

Whatever hangs on the rows (conversations, settings, invitations to the portal, histories) goes on. Nothing is done on either homeserver here:
the next sync makes what is wanted on the new one, and the old one keeps what it has.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from django.conf import settings
from django.core.serializers import deserialize
from django.db import models, transaction

from agents.matrix.clients import forget_client, get_client
from agents.matrix.errors import MatrixError, SessionRefused, TokenRefused
from agents.matrix.session_calls import SessionCalls
from agents.models import Account, AccountSession, AccountWay, Drift, Invitation, InviteePause, Mapping, Room, RoomKind
from agents.services.backends import mode_of, prefix_of, sender_localpart_of
from agents.services.mappings import rows_kept
from agents.services.refill import FORGOTTEN, forget_place, forgetters
from agents.services.session_opening import ask_server_name
from agents.sync.takeover import names_with
from ops.models import Service
from ops.services.audit import record, record_each
from ops.words import counted

_PORTION = 500
_ACCOUNT = [
    "user_id", "localpart", "display_name", "avatar_source", "avatar_mxc", "registered_at", "way", "secrets", "session",
    "session_error", "session_checked_at", "session_retry_at",
]  # fmt: skip
Keeper = Callable[[list[int]], Iterable[models.Model]]
_keepers: list[Keeper] = []


class CannotRename(Exception):
    """Nothing was changed; the text says why, and what to do."""


class NameNotTold(CannotRename):
    """The homeserver answers, but says its name only to those who have an account there, and knows none of ours."""


def register_keeper(keeper: Keeper) -> None:
    """Let the app above name the rows of its own that go when chats of people are over (given the rows of their rooms)."""
    if keeper not in _keepers:
        _keepers.append(keeper)


@dataclass(frozen=True, slots=True)
class Renaming:
    """What a new name concerns. ``taken``: accounts whose new name another row has already; they are left as they are."""

    service: Service
    new_name: str
    url: str
    old_names: tuple[str, ...]
    accounts: int
    rooms: int
    chats: int
    taken: tuple[str, ...] = ()


def server_of(user_id: str) -> str:
    """The part behind the colon (which may have a port)."""
    return user_id.partition(":")[2]


def name_of_homeserver(service: Service, url: str) -> str:
    """What the homeserver at ``url`` calls itself. Raises ``CannotRename`` when it cannot be asked, or does not know us yet
    (``NameNotTold`` in client mode)."""
    there = Service(name=service.name, kind=service.kind, base_url=url, options=service.options)
    there.credentials = dict(service.credentials or {})
    try:
        if mode_of(service) == "client":
            return _ask_as_a_client(service, there)
        token = (service.credentials or {}).get("as_token") or settings.MATRIX_AS_TOKEN
        return server_of(get_client(url, token, "", sender_localpart_of(service)).whoami())
    except TokenRefused as error:
        raise CannotRename(
            f"The homeserver at {url} does not know Switchboard yet. Give it the registration (manage.py registration "
            "--server-name NEW --output registration.yaml, name the file in its configuration, restart it), then try again."
        ) from error
    except MatrixError as error:
        raise CannotRename(f"The homeserver at {url} cannot be asked for its name: {error.sentence}") from error
    finally:
        forget_client(url, "")


def _ask_as_a_client(service: Service, there: Service) -> str:
    """Where it does not say its name to everybody, it says it to Switchboard's own account, if that one is there."""
    try:
        return ask_server_name(there)
    except SessionRefused:
        rows = Account.objects.filter(homeserver=service, localpart=sender_localpart_of(service)).order_by("-pk")
        token = next((str(one) for row in rows if (one := (row.secrets or {}).get("access_token"))), "")
    except TokenRefused:
        token = ""
    calls = SessionCalls(there.base_url)
    try:
        # Also without a token: that it answers at all is seen by that.
        return server_of(calls.whoami(token or "none")[0])
    except TokenRefused as error:
        raise NameNotTold(
            f"The homeserver at {there.base_url} does not say what it is called, and Switchboard's own account has no session there."
        ) from error
    finally:
        calls.close()


def renaming_plan(*, service: Service, new_name: str, url: str = "") -> Renaming:
    """What would begin anew. The homeserver is asked whether it bears the name. Changes nothing. Raises ``CannotRename``."""
    url = (url or service.base_url).strip().rstrip("/")
    try:
        said = name_of_homeserver(service, url)
    except NameNotTold as error:
        if new_name != settings.MATRIX_SERVER_NAME:
            raise NameNotTold(f"{error} Set MATRIX_SERVER_NAME={new_name} if that is its name.") from error
        said = new_name
    if said != new_name:
        raise CannotRename(f"The homeserver at {url} calls itself {said}, not {new_name}.")
    ids = dict(Account.objects.filter(homeserver=service).values_list("user_id", "pk"))
    old = {user_id: pk for user_id, pk in ids.items() if server_of(user_id) != new_name}
    wanted = _new_names(service, old, new_name)
    taken = tuple(sorted(user_id for user_id, name in wanted.items() if name in ids))
    rooms = Room.objects.filter(homeserver=service)
    return Renaming(
        service,
        new_name,
        url,
        tuple(sorted({server_of(user_id) for user_id in old})),
        len(old) - len(taken),
        rooms.exclude(kind=RoomKind.DIRECT).filter(room_id__isnull=False).count() if old else 0,
        rooms.filter(kind=RoomKind.DIRECT, room_id__isnull=False).count() if old else 0,
        taken,
    )


def _new_names(service: Service, old: Iterable[str], new_name: str) -> dict[str, str]:
    """The id that each account has on the new homeserver: its own name, or, outside our namespace, that of its agent's id."""
    prefix = prefix_of(service)
    outside = [one for one in old if not one.startswith(f"@{prefix}") and mode_of(service) != "client"]
    derived: dict[str, str] = {}
    for start in range(0, len(outside), _PORTION):
        rows = Mapping.objects.filter(account__user_id__in=outside[start : start + _PORTION])
        for mapping in rows.select_related("agent__service", "account"):
            agent = mapping.agent
            names = names_with(prefix, agent.service.name, agent.service.kind, agent.external_id)
            derived[mapping.account.user_id] = names[0]
    return {one: f"@{derived.get(one) or one[1:].partition(':')[0]}:{new_name}" for one in old}


def rows_before(renaming: Renaming) -> str:
    """All rows that ``renaming_apply`` changes or removes, packed, for ``renaming_undo``. Secrets in it stay encrypted."""
    service = renaming.service
    direct = list(Room.objects.filter(homeserver=service, kind=RoomKind.DIRECT).values_list("pk", flat=True))
    kept = rows_kept(
        [service],
        Account.objects.filter(homeserver=service).iterator(),
        Room.objects.filter(homeserver=service).iterator(),
        Invitation.objects.filter(room__homeserver=service).iterator(),
        InviteePause.objects.filter(homeserver=service).iterator(),
        *(list(keeper(direct)) for keeper in _keepers),
    )
    return base64.b64encode(zlib.compress(json.dumps(kept).encode(), 6)).decode()


def renaming_apply(*, renaming: Renaming, actor: str) -> None:
    """Let the rows be those of a homeserver on which nothing has been made yet. One transaction; the caller keeps sync away."""
    service, name = renaming.service, renaming.new_name
    with transaction.atomic():
        accounts = [
            one
            for one in Account.objects.select_for_update().filter(homeserver=service)
            if server_of(one.user_id) != name
        ]
        wanted = _new_names(service, [one.user_id for one in accounts], name)
        accounts = [one for one in accounts if one.user_id not in renaming.taken]
        way = AccountWay.SESSION if mode_of(service) == "client" else AccountWay.APPSERVICE
        for account in accounts:
            account.user_id = wanted[account.user_id]
            account.localpart = account.user_id[1:].partition(":")[0]
            account.display_name = account.avatar_source = account.avatar_mxc = account.session_error = ""
            account.registered_at = account.session_checked_at = account.session_retry_at = None
            account.way, account.secrets, account.session = way, {}, AccountSession.NONE
        Account.objects.bulk_update(accounts, _ACCOUNT, batch_size=_PORTION)
        rooms = list(Room.objects.select_for_update().filter(homeserver=service))
        mapped = Mapping.objects.filter(account__homeserver=service)
        own = dict(mapped.values_list("room_id", "account__localpart"))
        for room in rooms:
            forget_place(room)
            local = own.get(room.pk) or room.alias[1:].partition(":")[0]
            room.alias = f"#{local}:{name}" if room.alias else ""
        Room.objects.bulk_update(rooms, ["alias", *FORGOTTEN], batch_size=_PORTION)
        Invitation.objects.filter(room__homeserver=service).delete()
        InviteePause.objects.filter(homeserver=service).delete()
        Drift.objects.filter(homeserver=service).delete()
        direct = [room.pk for room in rooms if room.kind == RoomKind.DIRECT]
        for forgetter in forgetters():
            forgetter(service, direct)
        _name_service(renaming)
        record(
            actor=actor,
            action="homeserver.renamed",
            target=service,
            message=f"{counted(len(accounts), 'account')} and {counted(len(rooms), 'room')} begin anew on {name}.",
            before={"server_names": list(renaming.old_names)},
            after={"server_name": name, "base_url": renaming.url},
        )
        record_each(
            actor=actor,
            action="mapping.server_renamed",
            targets=[
                (mapping, f"{mapping.agent.name} begins anew on {name}.")
                for mapping in mapped.select_related("agent", "account")
            ],
        )
    for old in renaming.old_names:
        forget_client(renaming.url, old)


def _name_service(renaming: Renaming) -> None:
    service = Service.objects.select_for_update().get(pk=renaming.service.pk)
    if service.options.get("server_name"):
        service.options = {**service.options, "server_name": renaming.new_name}
    service.base_url = renaming.url
    # What the former one could do says nothing about this one.
    service.capabilities = {"server_name": renaming.new_name}
    credentials = dict(service.credentials or {})
    credentials.pop("admin_session", None)
    service.credentials = credentials
    service.save()


def why_not_back(service: Service, new_name: str) -> str:
    """Why it cannot be undone: something was made on the new homeserver meanwhile. "" when nothing was."""
    made = Account.objects.filter(
        homeserver=service, registered_at__isnull=False, user_id__endswith=f":{new_name}"
    ).count()
    rooms = Room.objects.filter(homeserver=service, room_id__isnull=False).count()
    if not made and not rooms:
        return ""
    return (
        f"{counted(made, 'account')} and {counted(rooms, 'room')} were made on {new_name} meanwhile. Going back now would leave them "
        "behind: rename the server back to its former name instead; the former rooms are taken over again by their addresses."
    )


def renaming_undo(*, packed: str, service: Service, new_name: str, actor: str) -> int:
    """Put every row back as it was; returns how many. Raises ``CannotRename`` when something was made on the new homeserver."""
    with transaction.atomic():
        if reason := why_not_back(service, new_name):
            raise CannotRename(reason)
        kept = json.loads(zlib.decompress(base64.b64decode(packed)))
        found = [item.object for item in deserialize("python", kept)]
        for row in found:
            models.Model.save_base(row, raw=True)
        record(
            actor=actor,
            action="homeserver.renaming_undone",
            target=service,
            message=f"{counted(len(found), 'row')} put back.",
        )
        mappings = Mapping.objects.filter(account__homeserver=service).select_related("agent", "account")
        record_each(
            actor=actor,
            action="mapping.restored",
            targets=[(mapping, "The new server name was taken back.") for mapping in mappings],
        )
    return len(found)
