"""Looks for signs that our rows were lost: accounts that the homeserver has already, in rooms that we would make a second time.

Names derive from ids, so the account of an agent that we have never seen can be looked up. A sample is enough, and asked before a
plan is made: on a homeserver of ten thousand agents as on one of four.
"""

from __future__ import annotations

from agents.backends.base import AgentInfo
from agents.matrix.errors import MatrixError, Refused, TokenRefused
from agents.matrix.names import alias, user_id
from agents.models import Account
from agents.services.backends import Homeserver
from agents.sync.observe import KnownAgent, Observed, ServiceView, Traces
from agents.sync.stops import SUSPICIOUS_LEAST, without_room
from agents.sync.takeover import names_of
from ops.logs import get_logger
from ops.side_by_side import side_by_side

log = get_logger(__name__)

SAMPLE = 40


def look_for_traces(homeserver: Homeserver, observed: Observed) -> None:
    """Fill ``observed.traces`` for the services for which more than a few rooms would be made. Writes nothing.

    A homeserver that does not answer leaves no traces: the steps of the plan will say so themselves.
    """
    by_service: dict[int, list[KnownAgent]] = {}
    for agent in observed.agents:
        by_service.setdefault(agent.service_id, []).append(agent)
    for view in observed.services:
        known = by_service.get(view.service_id, [])
        wanted = without_room(view, known, observed.skip, observed.lazy)
        if len(wanted) > SUSPICIOUS_LEAST:
            observed.traces[view.service_id] = traces_of(homeserver, view, wanted, known, observed.lazy)


def traces_of(
    homeserver: Homeserver, view: ServiceView, wanted: list[AgentInfo], known: list[KnownAgent], lazy: bool
) -> Traces:
    """Which accounts of a sample are in rooms that our rows have forgotten.

    Of an account that we have a row of: rooms to which no alias of its leads (a pass that was cut off leaves an alias, and the next
    takes the room over). Of one that we know nothing of: any room at all; where rooms are made on first contact, the account itself.
    """
    own = {agent.external_id: agent.account.user_id for agent in known if agent.account is not None}
    # Evenly over the list, the same ones for the same list.
    sample = wanted[:: max(1, -(-len(wanted) // SAMPLE))]
    names = [own.get(info.external_id) or account_id(homeserver, view, info.external_id) for info in sample]
    rows = set(Account.objects.filter(user_id__in=names).values_list("user_id", flat=True))
    if homeserver.client.sessions is not None:
        homeserver.client.sessions.warm(names)
    found = side_by_side(lambda name: _is_orphan(homeserver, name, name in rows, lazy), names)
    orphans = tuple(name for name, orphan in zip(names, found, strict=True) if orphan)
    if orphans:
        log.warning("sync.traces", service=view.name, asked=len(names), orphans=len(orphans))
    return Traces(len(names), orphans)


def account_id(homeserver: Homeserver, view: ServiceView, external_id: str) -> str:
    """The Matrix id that the agent would get first (see ``rows.reserve_mapping``)."""
    return user_id(names_of(homeserver, view.name, view.kind, external_id)[0], homeserver.server_name)


def _is_orphan(homeserver: Homeserver, name: str, known: bool, lazy: bool) -> bool:
    client = homeserver.client
    try:
        joined = client.joined_rooms(name)
        if not known:
            return bool(joined) or lazy
        if not joined:
            return False
        return client.resolve_alias(alias(name[1:].partition(":")[0], homeserver.server_name)) not in joined
    except Refused as error:
        # Refused for one account: it was never registered. Refused for all: the steps will say it better.
        if isinstance(error, TokenRefused):
            log.info("sync.traces_refused", error=error.sentence[:200])
        return False
    except MatrixError as error:
        log.info("sync.traces_not_read", error=error.sentence[:200])
        return False
