"""Asking the homeserver about many mappings without asking about all of them every time: a bounded slice, then the next one.

Where the last slice ended stands in the check's own evidence; what it found wrong then is asked about again each time, so that an
issue does not close only because its agents were not in the slice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from agents.matrix.client import AppserviceClient
from agents.models import AgentState, Mapping
from agents.services.backends import Homeserver, homeserver_of
from ops.models import CheckState, IssueState, IssueTarget, Service
from ops.side_by_side import side_by_side

SLICE = 150
# Of a slice at most so many are those that were wrong before.
AGAIN = 75
AT_ONCE = 6

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Row:
    """What our rows say of one mapping. ``room_pk`` is 0 and ``room_id`` "" where there is none."""

    pk: int
    agent_pk: int
    agent_name: str
    user_id: str
    room_pk: int
    room_id: str
    alias: str

    @property
    def target(self) -> str:
        return f"mapping:{self.pk}"

    @property
    def localpart(self) -> str:
        return self.user_id[1:].partition(":")[0]


_COLUMNS = (
    "pk", "agent_id", "agent__name", "account__user_id", "room_id", "room__room_id", "room__alias",
)  # fmt: skip


def rows(homeserver: Service, *, pks: Iterable[int] | None = None, after: int = 0, limit: int = SLICE) -> list[Row]:
    """Mappings of agents that are not archived and that have an account and a room on this homeserver, by id."""
    found = Mapping.objects.filter(
        account__homeserver=homeserver, account__registered_at__isnull=False, room__room_id__isnull=False
    ).exclude(agent__state=AgentState.ARCHIVED)
    found = found.filter(pk__in=list(pks)) if pks is not None else found.filter(pk__gt=after)
    return [
        Row(pk, agent, name, user, room or 0, room_id or "", alias or "")
        for pk, agent, name, user, room, room_id, alias in found.order_by("pk").values_list(*_COLUMNS)[:limit]
    ]


@dataclass(slots=True)
class Slice:
    """What one run asks about. ``last`` is where the next one goes on; ``unasked`` were wrong before and did not fit."""

    homeserver: Homeserver
    rows: list[Row]
    last: int
    unasked: list[str] = field(default_factory=list)


def next_slice(check_id: str, service_name: str) -> Slice | None:
    """The mappings to ask about now; ``None`` when the service is no more. Raises ``MatrixError`` for a nameless homeserver."""
    service = Service.objects.filter(name=service_name, enabled=True).first()
    if service is None:
        return None
    state = CheckState.objects.filter(check_id=check_id, target=service_name).values_list("evidence", flat=True).first()
    last = (state or {}).get("last", 0)
    last = last if isinstance(last, int) else 0
    wrong = _wrong_before(check_id, service_name)
    again = rows(service, pks=wrong[:AGAIN])
    limit = SLICE - len(again)
    fresh = rows(service, after=last, limit=limit)
    # At the end of the list the next slice begins anew: where there are few, all are asked about every time.
    upto = fresh[-1].pk if len(fresh) == limit else 0
    seen = {row.pk for row in again}
    chosen = again + [row for row in fresh if row.pk not in seen]
    unasked = [f"mapping:{pk}" for pk in wrong[AGAIN:] if pk not in {row.pk for row in chosen}]
    return Slice(homeserver_of(service), chosen, upto, unasked)


def _wrong_before(check_id: str, service_name: str) -> list[int]:
    found = (
        IssueTarget.objects.filter(issue__check_id=check_id, issue__target=service_name)
        .exclude(issue__state=IssueState.RESOLVED)
        .order_by("pk")
        .values_list("target", flat=True)
    )
    return [int(target.partition(":")[2]) for target in found if target.startswith("mapping:") and target[8:].isdigit()]


def ask_each(homeserver: Homeserver, asked: list[Row], question: Callable[[AppserviceClient, Row], T]) -> list[T]:
    """Ask side by side; answers in order. The first error is raised: a homeserver that fails proves nothing."""

    return side_by_side(lambda row: question(homeserver.client, row), asked, at_once=AT_ONCE)


def evidence_of(found: Slice, **more: Any) -> dict[str, Any]:
    """The evidence every sweep shows: how many were asked about and where the next slice begins."""
    return {"asked": len(found.rows), "last": found.last, "not_asked_again": len(found.unasked), **more}
