"""Whether every account is there, and whether we may speak as it.

Both checks ask as the account (a few milliseconds, changes nothing) and are red for different answers: the homeserver has no such
account, or it has one and does not let us speak as it. What they ask in one run is bounded; see ``rotation.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import Q, QuerySet

from agents.doctor.matrix.common import GONE, SPOKEN_WITH, homeservers, service_named
from agents.doctor.matrix.rotation import Slice, next_slice
from agents.matrix.errors import MatrixError
from agents.models import Account, AgentState
from agents.services.backends import Homeserver, homeserver_of
from agents.services.identities import Identity, ask_identities, ask_identity
from ops.models import Service
from ops.registry import Affected, CheckOutcome, register_check
from ops.words import counted, verb

# Every five minutes: 1,200 accounts an hour besides those with a problem; all of 10,000 in about eight hours.
SLICE = 100


def accounts_of(service: Service) -> QuerySet[Account]:
    """The accounts that ought to work: those that were confirmed once, without those of archived agents."""
    rows = Account.objects.filter(homeserver=service, registered_at__isnull=False)
    return rows.exclude(mapping__agent__state=AgentState.ARCHIVED)


@dataclass(frozen=True, slots=True)
class _Asked:
    """The slice of one run: its accounts ``{key: (user id, agent's key)}``, and what the homeserver says to each."""

    homeserver: Homeserver
    part: Slice
    known: dict[int, tuple[str, int | None]]
    said: dict[str, Identity]


def _ask(service: Service, check_id: str, *, acting: bool) -> _Asked:
    """``acting``: also whether each may act in its room (two requests more)."""
    homeserver = homeserver_of(service)
    rows = accounts_of(service)
    noticed = rows.filter(~Q(mapping__problem=""), mapping__isnull=False).values_list("pk", flat=True)[:SLICE]
    part = next_slice(check_id, service.name, rows, size=SLICE, first=noticed)
    known: dict[int, tuple[str, int | None]] = {}
    rooms: dict[str, str] = {}
    columns = ("pk", "user_id", "mapping__agent_id", "mapping__room__room_id")
    for pk, name, agent, room_id in rows.filter(pk__in=part.keys).values_list(*columns):
        known[pk] = (name, agent)
        rooms[name] = (room_id or "") if acting else ""
    return _Asked(homeserver, part, known, ask_identities(homeserver, rooms))


def target_of(account: int, agent: int | None) -> str:
    """The agent whose account it is; the account itself when it has none."""
    return f"agent:{agent}" if agent is not None else f"account:{account}"


@register_check(
    "matrix.user_missing",
    title="Every account exists on the homeserver",
    tags=("matrix", "agents"),
    interval=300,
    severity="error",
    timeout=60,
    scope="service",
    targets=homeservers,
    depends_on=SPOKEN_WITH,
    repairs=("matrix.provision_user",),
)
def user_missing(target: str) -> CheckOutcome:
    """Red when the homeserver has lost accounts that it had confirmed: Switchboard's own, or agents'.

    Core user and a slice of the agents' accounts in each run, those with a problem first. After a reset of the homeserver the
    slices fill up the list; the repair looks at all of them at once.
    """
    service = service_named(target)
    if service is None:
        return GONE
    try:
        asked = _ask(service, "matrix.user_missing", acting=False)
        homeserver, part, known, said = asked.homeserver, asked.part, asked.known, asked.said
        # Before the first sync it need not be there.
        own_missing = bool(known) and ask_identity(homeserver, homeserver.sender_id).state == "missing"
    except MatrixError as error:
        return CheckOutcome(
            "fail", f"The homeserver could not be asked about accounts. {error.sentence}", {"errcode": error.code}
        )
    missing = {pk: entry for pk, entry in known.items() if said[entry[0]].state == "missing"}
    evidence: dict[str, Any] = {
        **part.evidence(missing),
        "missing": [name for name, _ in missing.values()][:50],
        "own_account": "missing" if own_missing else "there",
    }
    if not missing and not own_missing:
        return CheckOutcome("pass", _all_well(part, "is there"), evidence)
    affected = [
        Affected(target_of(pk, agent), f"{name} is not on the homeserver.") for pk, (name, agent) in missing.items()
    ]
    if own_missing:
        affected.insert(
            0, Affected(f"service:{service.pk}", f"Switchboard's own account {homeserver.sender_id} is not there.")
        )
    return CheckOutcome(
        "fail",
        f"{len(affected)} of the "
        f"{counted(len(part.keys) + 1, 'account that was', 'accounts that were')} asked about {verb(len(affected), 'is', 'are')} not on the homeserver: "
        f"it was reset, or somebody removed {verb(len(affected), 'it', 'them')}. {verb(len(affected), 'This agent', 'These agents')} cannot "
        "speak. Create them again; whoever is there already is left alone.",
        evidence,
        tuple(affected),
    )


@register_check(
    "identity.token_invalid",
    title="We may speak as every account",
    tags=("matrix", "agents"),
    interval=300,
    severity="error",
    timeout=60,
    scope="service",
    targets=homeservers,
    depends_on=SPOKEN_WITH,
    repairs=("identity.relogin",),
)
def token_invalid(target: str) -> CheckOutcome:
    """Red when the homeserver does not let us speak as an account: outside our namespace, suspended, locked, deactivated.

    Accounts of an appservice have no token of their own that could expire. One that does not exist is ``matrix.user_missing``'s
    matter; one for which the homeserver gives no answer now counts for neither.
    """
    service = service_named(target)
    if service is None:
        return GONE
    try:
        asked = _ask(service, "identity.token_invalid", acting=True)
        part, known, said = asked.part, asked.known, asked.said
    except MatrixError as error:
        return CheckOutcome(
            "fail", f"The homeserver could not be asked about accounts. {error.sentence}", {"errcode": error.code}
        )
    refused = {pk: entry for pk, entry in known.items() if said[entry[0]].state == "refused"}
    evidence: dict[str, Any] = {
        **part.evidence(refused),
        "refused": [{"user_id": name, "errcode": said[name].errcode} for name, _ in refused.values()][:50],
    }
    if not refused:
        return CheckOutcome("pass", _all_well(part, "can be spoken as"), evidence)
    affected = tuple(
        Affected(target_of(pk, agent), f"{name}: {said[name].sentence}", {"errcode": said[name].errcode})
        for pk, (name, agent) in refused.items()
    )
    return CheckOutcome(
        "fail",
        f"The homeserver does not let us speak as {len(refused)} of the {counted(len(part.keys), 'account that was', 'accounts that were')} asked about. "
        f"First: {affected[0].sentence} These agents are silent until that is put right.",
        evidence,
        affected,
    )


def _all_well(part: Slice, words: str) -> str:
    if not part.total:
        return "There are no accounts yet."
    every = (
        f"Every account {words}"
        if len(part.keys) >= part.total
        else f"Each of the {len(part.keys)} accounts asked about {words}"
    )
    return f"{every} ({part.total} in all)."
