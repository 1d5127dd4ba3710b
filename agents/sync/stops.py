"""When a plan stops and asks: what it would do looks like a mistake, or like a loss. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from agents.backends.base import AgentInfo
from agents.sync.observe import KnownAgent, Loss, Observed, ServiceView
from ops.findings import Finding
from ops.words import counted

SUSPICIOUS_LEAST, SUSPICIOUS_SHARE = 3, 0.20


STATE_LOST, HOMESERVER_EMPTY = "sync.state_lost", "sync.homeserver_empty"


SERVER_RENAMED = "sync.server_renamed"


# The fingerprint of a row that an agent left behind when it moved to another server: it is not taken up again.
MOVED = "moved"


def other_servers(observed: Observed) -> list[str]:
    """The server names that our accounts end in, when the homeserver bears another name than (nearly) all of them; else nothing."""
    if not observed.server_name:
        return []
    ends = [
        agent.account.user_id.partition(":")[2]
        for agent in observed.agents
        if agent.account is not None and agent.account.registered
    ]
    others = [end for end in ends if end != observed.server_name]
    if not others or not (len(others) == len(ends) or suspiciously_many(len(others), len(ends))):
        return []
    return sorted(set(others))


def server_renamed(observed: Observed, servers: list[str]) -> Finding:
    known = " and ".join(servers)
    return Finding(
        "error",
        SERVER_RENAMED,
        f"The homeserver calls itself {observed.server_name}, and the accounts of our agents are of {known}. Nothing was changed. Check the "
        f"homeserver's address; if it really is another one: manage.py homeserver rename-server {observed.server_name}",
        "homeserver",
        {"server_name": observed.server_name, "accounts_of": servers},
    )


def serious(loss: Loss) -> bool:
    """A few accounts are mended one by one; all of them, or many at once, mean another homeserver."""
    return len(loss.missing) == loss.asked or suspiciously_many(len(loss.missing), loss.asked)


def homeserver_emptied(observed: Observed, loss: Loss) -> Finding:
    known = sum(one.account is not None and one.account.registered for one in observed.agents)
    return Finding(
        "error",
        HOMESERVER_EMPTY,
        f"The homeserver does not know {len(loss.missing)} of {counted(loss.asked, 'account')} that were looked up, of "
        f"{counted(known, 'account')} that it had, and Switchboard's own is in no space. It looks new and empty; nothing was "
        "changed. Restore its backup, or check its address; to make accounts, rooms and space there again, sync with force.",
        "homeserver",
        {"asked": loss.asked, "missing": len(loss.missing), "accounts": list(loss.missing[:20]), "registered": known},
    )


def without_room(
    view: ServiceView, known: Iterable[KnownAgent], skip: frozenset[str], lazy: bool = False
) -> list[AgentInfo]:
    """The listed agents for which something would be made: new ones, and known ones that have no room (lazy: no account)."""
    roomed = {
        agent.external_id
        for agent in known
        if agent.fingerprint == MOVED
        or (agent.account is not None if lazy else agent.room is not None and agent.room.room_id)
    }
    listed = view.listing.agents if view.listing is not None else ()
    return [info for info in listed if info.external_id not in roomed and info.external_id not in skip]


def suspiciously_many(count: int, population: int) -> bool:
    """More than three, and more than a fifth: not what happens on an ordinary day."""
    return count > max(SUSPICIOUS_LEAST, math.floor(SUSPICIOUS_SHARE * population))


def state_forgotten(
    observed: Observed, view: ServiceView, listed: dict[str, AgentInfo], known: Sequence[KnownAgent]
) -> Finding | None:
    """Accounts and rooms would be made that are there already: it is us who have forgotten.

    Where our rows know the account and its alias leads to the room nothing is wrong: a pass that was cut off left it so.
    """
    traces = observed.traces.get(view.service_id)
    if traces is None or not suspiciously_many(len(traces.orphans), traces.asked):
        return None
    count = len(without_room(view, known, observed.skip, observed.lazy))
    return Finding(
        "error",
        STATE_LOST,
        f"The sync would set up {counted(count, 'agent')} of {view.name}, but the homeserver has accounts of theirs that are in "
        f"rooms already ({len(traces.orphans)} of {traces.asked} that were looked up). Our rows look lost; nothing was changed. "
        "Rebuild the mappings from the homeserver (manage.py rebuild_mappings), or restore a backup; to go on all the same, sync with force.",
        view.name,
        {
            "rooms_to_make": count,
            "asked": traces.asked,
            "with_rooms": len(traces.orphans),
            "accounts": list(traces.orphans[:20]),
            "listed": len(listed),
            "known": len(known),
        },
    )


def population(known: Iterable[KnownAgent]) -> int:
    return sum(agent.state != "archived" for agent in known)


def lost_of(gone: Sequence[KnownAgent], listed: Sequence[AgentInfo], skip: frozenset[str]) -> list[KnownAgent]:
    switched_off = {info.external_id for info in listed} & skip
    return [agent for agent in gone if agent.external_id not in switched_off]


def is_suspicious(gone: Sequence[KnownAgent], known: Sequence[KnownAgent]) -> bool:
    return suspiciously_many(len(gone), population(known))
