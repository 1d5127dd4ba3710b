"""What the backends say now, and what we know: the two inputs of a plan."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django.conf import settings

from agents.backends.base import AgentInfo, AgentListing, ServiceSpec
from agents.backends.errors import BackendError
from agents.backends.registry import open_backend
from agents.matrix.markdown import clean_text
from agents.models import Agent, Invitation, InvitationState, Room, RoomKind
from agents.services.backends import backend_services, spec_of
from agents.sync.lazy import rooms_are_lazy
from agents.sync.pauses import pauses
from ops.logs import get_logger
from ops.models import Service

log = get_logger(__name__)


LONGEST_AVATAR, LONGEST_TEXT = 1000, 255


def fingerprint(info: AgentInfo) -> str:
    """A short digest of all that a server says of an agent: an unchanged pass compares nothing else."""
    text = json.dumps(
        [info.name, info.description, info.avatar_url, info.model, info.metadata], sort_keys=True, default=str
    )
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def tidy(info: AgentInfo) -> AgentInfo:
    """What a server says of an agent, as rows keep it: text that every database can store, and no longer than its column."""
    return replace(
        info,
        name=clean_text(info.name)[:LONGEST_TEXT].strip() or info.external_id,
        description=clean_text(info.description),
        avatar_url=usable_avatar(clean_text(info.avatar_url)),
        model=clean_text(info.model)[:LONGEST_TEXT],
        metadata=_clean_json(info.metadata),
    )


def _clean_json(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean_text(str(key)): _clean_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean_json(item) for item in value]
    return value


def usable_avatar(url: str) -> str:
    """The picture's address as it is kept; "" for one that is too long for a row (half an address shows nothing)."""
    return url if len(url) <= LONGEST_AVATAR else ""


@dataclass(frozen=True, slots=True)
class ServiceView:
    """One service's list of agents. ``listing`` is empty when it could not be read; ``error`` then says why."""

    service_id: int
    name: str
    kind: str
    listing: AgentListing | None
    error: str = ""
    error_code: str = ""


@dataclass(frozen=True, slots=True)
class KnownRoom:
    """What our row says about an agent's room."""

    pk: int
    room_id: str
    alias: str
    name: str
    topic: str
    in_space: bool


@dataclass(frozen=True, slots=True)
class KnownAccount:
    """What our row says about an agent's account."""

    pk: int
    user_id: str
    registered: bool
    display_name: str
    avatar_source: str


@dataclass(frozen=True, slots=True)
class KnownAgent:
    """What our rows say about an agent."""

    pk: int
    service_id: int
    external_id: str
    name: str
    description: str
    avatar_url: str
    fingerprint: str
    state: str
    missed_passes: int
    missing_since: datetime | None
    account: KnownAccount | None
    room: KnownRoom | None


@dataclass(frozen=True, slots=True)
class Traces:
    """What the homeserver has already of the agents for which rooms would be made: ``asked`` is how many accounts were looked
    up, ``orphans`` the Matrix ids of those that are in rooms to which no alias of ours leads any more."""

    asked: int
    orphans: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Loss:
    """What the homeserver does not know any more: ``missing`` of the ``asked`` accounts (Matrix ids), and whether the space is gone."""

    asked: int
    missing: tuple[str, ...]
    space: bool


@dataclass(slots=True)
class Observed:
    """Everything a plan is made from. ``invited`` holds (room row, user id) pairs that need no invitation now; ``traces`` are
    those of services (by id) for which many rooms would be made. ``lazy``: rooms are made when somebody first looks for them.
    Nobody invites those who are ``paused``; of those who are ``probed`` one invitation is tried (see ``agents.sync.pauses``)."""

    services: list[ServiceView] = field(default_factory=list)
    agents: list[KnownAgent] = field(default_factory=list)
    homeserver_id: int | None = None
    server_name: str = ""
    space: KnownRoom | None = None
    invitees: tuple[str, ...] = ()
    invited: set[tuple[int, str]] = field(default_factory=set)
    skip: frozenset[str] = frozenset()
    traces: dict[int, Traces] = field(default_factory=dict)
    lazy: bool = False
    loss: Loss | None = None
    paused: frozenset[str] = frozenset()
    probed: frozenset[str] = frozenset()


InviteeSource = Callable[[], Iterable[str]]
_invitee_sources: list[InviteeSource] = []


def register_invitees(source: InviteeSource) -> None:
    """Let an app above name more people to invite to the space and its rooms (operators with a Matrix account)."""
    if source not in _invitee_sources:
        _invitee_sources.append(source)


def invitees() -> tuple[str, ...]:
    """The Matrix ids of everybody who is to be invited, each once, in a stable order."""
    found = dict.fromkeys(settings.MATRIX_INVITE)
    for source in _invitee_sources:
        found.update(dict.fromkeys(user_id for user_id in source() if user_id))
    return tuple(found)


def observe(*, service_name: str = "", homeserver: Service | None = None, server_name: str = "") -> Observed:
    """Read every enabled backend (side by side) and our own rows. Never raises for a backend that fails."""
    services = [service for service in backend_services() if not service_name or service.name == service_name]
    observed = Observed(services=views_of(services), skip=frozenset(settings.DISABLED_AGENT_IDS))
    observed.agents = list(known_agents([service.pk for service in services]))
    if homeserver is not None:
        observed.homeserver_id, observed.server_name = homeserver.pk, server_name
        observed.invitees = invitees()
        observed.space = _space(homeserver)
        observed.lazy = rooms_are_lazy(homeserver)
        if observed.invitees:
            observed.invited = _settled_invitations(observed.invitees)
            observed.paused, observed.probed = pauses(homeserver, observed.invitees)
    return observed


def views_of(services: Sequence[Service]) -> list[ServiceView]:
    """What the servers list now, side by side. Never raises for a backend that fails."""
    # Read here, so that the threads below need no database.
    specs = [spec_of(service) for service in services]
    if len(services) < 2:
        return [_view(service, spec) for service, spec in zip(services, specs, strict=True)]
    with ThreadPoolExecutor(max_workers=min(8, len(services)), thread_name_prefix="observe") as pool:
        return list(pool.map(_view, services, specs))


def _view(service: Service, spec: ServiceSpec) -> ServiceView:
    try:
        listing = open_backend(spec).list_agents()
    except BackendError as error:
        return ServiceView(service.pk, service.name, service.kind, None, error.reason, error.code)
    except Exception as error:
        # One adapter's fault must not keep the other services' agents from being synced.
        log.exception("observe.crashed", service=service.name)
        reason = f"{type(error).__name__} in the adapter; the log has the details."
        return ServiceView(service.pk, service.name, service.kind, None, reason, "backend.crashed")
    # An id that no row can hold is no agent of ours; cutting it would make it another one's.
    agents = [tidy(info) for info in listing.agents if 0 < len(info.external_id) <= LONGEST_TEXT]
    if len(agents) < len(listing.agents):
        log.warning("observe.unusable_ids", service=service.name, count=len(listing.agents) - len(agents))
    return ServiceView(service.pk, service.name, service.kind, replace(listing, agents=agents))


_COLUMNS = (
    "pk", "service_id", "external_id", "name", "description", "avatar_url", "fingerprint", "state", "missed_passes", "missing_since",
    "mapping__account_id", "mapping__account__user_id", "mapping__account__registered_at", "mapping__account__display_name",
    "mapping__account__avatar_source",
    "mapping__room_id", "mapping__room__room_id", "mapping__room__alias", "mapping__room__name", "mapping__room__topic",
    "mapping__room__in_space",
)  # fmt: skip


def known_agents(service_ids: list[int]) -> Iterable[KnownAgent]:
    """Our rows as plain values, in one query whatever their number."""
    rows = Agent.objects.filter(service_id__in=service_ids).order_by("pk").values_list(*_COLUMNS)
    for row in rows.iterator(chunk_size=2000):
        pk, service, external, name, description, avatar, mark, state, missed, since, *mapped = row
        account = KnownAccount(mapped[0], mapped[1], mapped[2] is not None, *mapped[3:5]) if mapped[0] else None
        room = KnownRoom(mapped[5], mapped[6] or "", *mapped[7:11]) if mapped[5] else None
        yield KnownAgent(pk, service, external, name, description, avatar, mark, state, missed, since, account, room)


def _space(homeserver: Service) -> KnownRoom | None:
    row = (
        Room.objects.filter(homeserver=homeserver, kind=RoomKind.SPACE)
        .values_list("pk", "room_id", "alias", "name", "topic", "in_space")
        .first()
    )
    return KnownRoom(row[0], row[1] or "", *row[2:]) if row else None


def _settled_invitations(people: tuple[str, ...]) -> set[tuple[int, str]]:
    from django.db.models import Q
    from django.utils import timezone

    settled = Q(state__in=[InvitationState.INVITED, InvitationState.JOINED, InvitationState.LEFT])
    waiting = Q(not_before__gt=timezone.now())
    rows = Invitation.objects.filter(settled | waiting, user_id__in=people).values_list("room_id", "user_id")
    return set(rows.iterator(chunk_size=5000))
