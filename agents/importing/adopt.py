"""Takes an agent over with the account and the room that it has: nothing is made a second time."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils import timezone

from agents.importing.reach import (
    Reached,
    account_row,
    bring_switchboard,
    ensure_alias,
    look_inside,
    open_session,
    reach,
)
from agents.importing.work import Done, Task, Work, failed
from agents.matrix.errors import MatrixError
from agents.matrix.names import alias
from agents.models import (
    Account,
    AccountWay,
    Agent,
    AgentState,
    ImportChoice,
    Invitation,
    InvitationState,
    Mapping,
    Room,
    RoomKind,
)
from agents.services.backends import Homeserver
from agents.services.mappings import mapping_relink
from agents.sync.takeover import mark_room, note_takeover, take_over_from
from ops.logs import get_logger
from ops.models import Service
from ops.services.audit import record

log = get_logger(__name__)

_MEMBERSHIPS = {
    "invite": InvitationState.INVITED,
    "join": InvitationState.JOINED,
    "leave": InvitationState.LEFT,
    "ban": InvitationState.LEFT,
}


def ask(homeserver: Homeserver, task: Task) -> Reached | None:
    """What the homeserver has to do for a row that needs no session: done for several rows side by side."""
    if task.row.choice == ImportChoice.STORED or getattr(homeserver, "client_mode", False):
        return None
    user_id, room_id = wanted(task)
    if not user_id:
        return None
    return reach(homeserver, user_id, room_id, may_make=_may_make(task))


def wanted(task: Task) -> tuple[str, str]:
    """The account and the room that the mapping is to name. The homeserver's side of an account that is gone is the file's name."""
    user_id = str(task.wish.get("user_id") or task.row.stored.get("user_id") or task.row.file.get("user_id") or "")
    return user_id, str(task.wish.get("room_id") or "")


def _may_make(task: Task) -> bool:
    """An account that is not there is made only where the plan has said so."""
    return task.data.get("found") == "missing" or task.row.choice in {ImportChoice.FILE, ImportChoice.HOMESERVER}


def apply_mapping(work: Work, task: Task) -> Done:
    """Account, room and rows of one agent. May be repeated: what is done already is found and kept."""
    if task.row.choice == ImportChoice.STORED:
        return Done("kept", "What is here was kept.", _target(task.data.get("agent")))
    user_id, room_id = wanted(task)
    service = Service.objects.filter(pk=task.data.get("service") or 0, enabled=True).first()
    if service is None:
        return failed("The service on which the agent lives is gone or switched off. Import the file again.")
    reached = work.reached.pop(task.row.pk, None)
    if isinstance(reached, MatrixError):
        return failed(reached)
    if reached is not None and reached.identity in {"missing", "unknown"}:
        return failed(reached.problem)
    way = AccountWay.APPSERVICE if reached is not None and reached.identity == "ok" else AccountWay.SESSION
    if reached is not None and reached.problem and way == AccountWay.APPSERVICE:
        return failed(reached.problem)
    account, fresh = account_row(work.homeserver, user_id, way)
    secrets = {**work.sessions.get(user_id, {}), **_given(task)}
    try:
        if way == AccountWay.SESSION:
            reached, why = _with_session(work, account, room_id, secrets)
            if why:
                return _given_up(account, fresh, why)
        assert reached is not None
        with transaction.atomic():
            mapping = _write(work, task, service, account, reached, way, secrets, room_id)
        _settle(work, mapping, reached, way, move=task.row.choice == ImportChoice.FILE)
    except MatrixError as error:
        return failed(error)
    except ValueError as error:
        return _given_up(account, fresh, str(error))
    made = "The account was made again. " if reached.made else ""
    return Done("done", f"{made}{_words(reached, room_id)}", f"mapping:{mapping.pk}")


def _given(task: Task) -> dict[str, str]:
    password = task.fields.get("password")
    mine = task.fields.get("user_id") == wanted(task)[0]
    return {"password": password} if password and mine else {}


def _given_up(account: Account, fresh: bool, why: str) -> Done:
    if fresh:
        Account.objects.filter(pk=account.pk, mapping__isnull=True).delete()
    return failed(why)


def _words(reached: Reached, room_id: str) -> str:
    if reached.room is None:
        return (
            "The account was taken over; it gets a room with the next sync."
            if not room_id
            else "The account was taken over."
        )
    if reached.room.replaced_by:
        return (
            f"Account and room were taken over. The room was replaced by {reached.room.replaced_by}; sync follows it."
        )
    return "Account and room were taken over."


def _with_session(work: Work, account: Account, room_id: str, secrets: dict[str, str]) -> tuple[Reached | None, str]:
    """The account speaks with its own session. Returns what was reached, or why not."""
    if account.way != AccountWay.SESSION:
        account.way = AccountWay.SESSION
        account.save(update_fields=["way"])
    why = open_session(work.homeserver, account, secrets, work.actor)
    if why:
        return None, why
    reached = Reached("session")
    look_inside(work.homeserver, reached, account.user_id, room_id)
    return reached, reached.problem


def _write(
    work: Work,
    task: Task,
    service: Service,
    account: Account,
    reached: Reached,
    way: AccountWay,
    secrets: dict[str, str],
    room_id: str,
) -> Mapping:
    agent = _agent(work, task, service)
    account.refresh_from_db()
    account.way, account.display_name, account.registered_at = way, reached.display_name[:255], timezone.now()
    account.avatar_mxc = reached.avatar[:255]
    fields = ["way", "display_name", "registered_at", "avatar_mxc"]
    if secrets.get("password") and not (account.secrets or {}).get("password"):
        account.secrets = {**(account.secrets or {}), "password": secrets["password"]}
        fields.append("secrets")
    account.save(update_fields=fields)
    mapping = Mapping.objects.select_related("agent", "account", "room").filter(agent=agent).first()
    before = _said(mapping)
    if mapping is None:
        holder = Mapping.objects.filter(account=account).first()
        if holder is not None:
            raise ValueError(f"{account.user_id} is the account of {holder.agent} here.")
        mapping = Mapping.objects.create(agent=agent, account=account, room=_room(work, account, room_id, reached))
    else:
        if mapping.account_id != account.pk:
            if Mapping.objects.filter(account=account).exclude(pk=mapping.pk).exists():
                raise ValueError(f"{account.user_id} is another agent's account here.")
            mapping.account = account
            mapping.save(update_fields=["account", "updated_at"])
        if mapping.room is None:
            mapping.room = _room(work, account, room_id, reached)
            mapping.save(update_fields=["room", "updated_at"])
        elif room_id and mapping.room.room_id != room_id:
            mapping = mapping_relink(
                mapping=mapping, room_id=room_id, homeserver=work.homeserver, actor=work.actor, reason="Imported."
            )
    after = _said(mapping)
    if before != after:
        record(actor=work.actor, action="mapping.imported", target=mapping, before=before, after=after)
    return mapping


def _said(mapping: Mapping | None) -> dict[str, Any]:
    if mapping is None:
        return {}
    return {"user_id": mapping.account.user_id, "room_id": mapping.room.room_id if mapping.room is not None else None}


def _agent(work: Work, task: Task, service: Service) -> Agent:
    state = AgentState(task.data.get("state") or AgentState.ACTIVE)
    name = str(task.data.get("name") or task.fields.get("name") or task.fields["agent_id"])[:255]
    # Without a fingerprint: the next sync sees it for the first time and completes the row.
    agent, created = Agent.objects.get_or_create(
        service=service,
        external_id=task.fields["agent_id"],
        defaults={
            "name": name,
            "state": state,
            "missing_since": None if state == AgentState.ACTIVE else timezone.now(),
        },
    )
    if created:
        record(actor=work.actor, action="agent.created", target=agent, message=f"{name} on {service.name}, imported")
    return agent


def _room(work: Work, account: Account, room_id: str, reached: Reached) -> Room:
    """The row of the account's room. One without a mapping is what an earlier mapping left behind."""
    name = alias(account.localpart, work.homeserver.server_name)
    service = work.homeserver.service
    if not room_id:
        left = Room.objects.filter(homeserver=service, alias=name, kind=RoomKind.AGENT, mapping__isnull=True).first()
        return left or Room.objects.create(homeserver=service, kind=RoomKind.AGENT, alias=name)
    room = Room.objects.filter(room_id=room_id).select_related("mapping").first()
    if room is None:
        room = Room(homeserver=service, kind=RoomKind.AGENT, room_id=room_id, alias=name)
    elif room.kind != RoomKind.AGENT or getattr(room, "mapping", None) is not None:
        raise ValueError(f"{room_id} is in use here already ({room}).")
    if reached.newest is not None and room.taken_over_at is None:
        # With the row, not after it: intake finds the room as soon as it stands there.
        take_over_from(room, reached.newest)
    room.save()
    return room


def _settle(work: Work, mapping: Mapping, reached: Reached, way: AccountWay, *, move: bool) -> None:
    """What the row of the room says, its address, who is in it, and since when its words are for us."""
    room, state = mapping.room, reached.room
    if room is None or state is None or room.room_id != state.room_id:
        return
    homeserver, account = work.homeserver, mapping.account
    room.alias = ensure_alias(homeserver, account.localpart, state, account.user_id, move=move)
    room.name, room.topic = state.name, state.topic
    # Where nothing can be decrypted the row says so only once the room was told.
    room.encrypted = state.encrypted and bool(getattr(homeserver, "client_mode", False))
    # The next sync compares everything about it with what is wanted.
    room.look_wanted_at = timezone.now()
    if way == AccountWay.SESSION:
        room.switchboard_joined = bring_switchboard(homeserver, state.room_id, account.user_id)
    else:
        room.switchboard_joined = state.members.get(homeserver.sender_id) == "join"
    room.save(update_fields=["alias", "name", "topic", "encrypted", "look_wanted_at", "switchboard_joined"])
    if room.taken_over_at is None:
        note_takeover(homeserver, room, account.user_id)
    people = {
        who: _MEMBERSHIPS[membership]
        for who, membership in state.members.items()
        if membership in _MEMBERSHIPS and who not in {account.user_id, homeserver.sender_id}
    }
    known = set(Invitation.objects.filter(room=room, user_id__in=people).values_list("user_id", flat=True))
    Invitation.objects.bulk_create(
        [Invitation(room=room, user_id=who[:255], state=people[who]) for who in people if who not in known],
        ignore_conflicts=True,
    )
    mark_room(homeserver, room, mapping)


def _target(agent_pk: Any) -> str:
    mapping = Mapping.objects.filter(agent_id=agent_pk).values_list("pk", flat=True).first() if agent_pk else None
    return f"mapping:{mapping}" if mapping else ""
