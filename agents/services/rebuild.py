"""Rows made anew from a living homeserver: accounts, rooms, the space and who was invited. Nothing is created there.

What is in doubt is reported and left alone; a second run takes up what could be decided meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db import IntegrityError, transaction

from agents.matrix.admin.synapse import SynapseAdmin
from agents.matrix.errors import Refused
from agents.models import Agent, SyncState
from agents.models import Mapping as MappingRow
from agents.services import rebuild_rows
from agents.services.backends import Homeserver, backend_services, user_prefix
from agents.services.homeserver_access import Administrator, NoAdministrator, has_administrator, with_administrator
from agents.services.spaces import SpaceView, space_alias, space_find, space_view
from agents.services.sync import UnknownService, alone, finish_run
from agents.sync.observe import views_of
from agents.sync.rebuild import Claim, Search, Wanted, search
from agents.sync.stops import MOVED
from agents.sync.takeover import MARK, History
from ops.findings import Finding
from ops.logs import get_logger
from ops.services.audit import record
from ops.words import counted

log = get_logger(__name__)

Progress = Callable[[int, int, str], None]


@dataclass(slots=True)
class RebuildPlan:
    """What was found. ``space_by`` says how the space was found ("" for not at all); ``unread`` are servers whose list failed."""

    homeserver: Homeserver
    service_name: str
    search: Search = field(default_factory=Search)
    space: SpaceView | None = None
    space_by: str = ""
    unread: list[Finding] = field(default_factory=list)
    known: int = 0

    @property
    def writes(self) -> bool:
        """Whether applying it would write anything."""
        return bool(self.search.claims) or (self.space is not None and self.space_by != "row")

    def to_dict(self) -> dict[str, Any]:
        found = self.search
        return {
            "service": self.service_name,
            "space": {"room_id": self.space.room_id, "found_by": self.space_by} if self.space else None,
            "known_already": self.known,
            "found": [claim.to_dict() for claim in found.claims],
            "doubts": [doubt.to_dict() for doubt in found.doubts],
            "absent": [{"service": one.service, "agent": one.info.external_id, "name": one.info.name} for one in found.absent],
            "unclaimed": found.unclaimed,
            "findings": [finding.to_dict() for finding in self.unread],
        }  # fmt: skip


@dataclass(slots=True)
class RebuildReport:
    """What was written: numbers by kind of row, and what could not be."""

    counts: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    run_id: int | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "run": self.run_id,
            "written": self.counts,
            "findings": [finding.to_dict() for finding in self.findings],
        }


def rebuild_plan(
    *, homeserver: Homeserver, service_name: str = "", progress: Progress = lambda done, total, text: None
) -> RebuildPlan:
    """Look for the agents that the servers list and our rows do not know on the homeserver. Changes nothing.

    Raises ``UnknownService``, or ``MatrixError`` when the homeserver is gone or refuses our token.
    """
    services = [one for one in backend_services() if not service_name or one.name == service_name]
    if service_name and not services:
        raise UnknownService(f"There is no enabled service named {service_name!r}.")
    plan = RebuildPlan(homeserver, service_name)
    wanted: list[Wanted] = []
    rows = {
        (row[0], row[1]): (row[2] or "", bool(row[3]) or row[4] == MOVED)
        for row in Agent.objects.filter(service__in=services).values_list(
            "service__name", "external_id", "mapping__account__user_id", "mapping__room__room_id", "fingerprint"
        )
    }
    for view in views_of(services):
        if view.listing is None:
            sentence = f"The agents of {view.name} could not be read: {view.error}"
            plan.unread.append(Finding("error", view.error_code or "backend.error", sentence, view.name))
            continue
        for info in view.listing.agents:
            account, roomed = rows.get((view.name, info.external_id), ("", False))
            if roomed:
                plan.known += 1
            else:
                wanted.append(Wanted(view.name, view.kind, info, account))
    plan.space, plan.space_by = _space(homeserver)
    children = plan.space.children if plan.space is not None else {}
    mapped = MappingRow.objects.filter(room__room_id__isnull=False)
    plan.search = search(
        homeserver,
        wanted,
        children=children,
        further_accounts=_further_accounts(homeserver, plan.space),
        taken_rooms=frozenset(one for one in mapped.values_list("room__room_id", flat=True) if one),
        taken_accounts=frozenset(mapped.values_list("account__user_id", flat=True)),
        progress=progress,
    )
    return plan


def _space(homeserver: Homeserver) -> tuple[SpaceView | None, str]:
    try:
        found = space_find(homeserver)
    except Refused as error:
        if error.general:
            raise
        # Our own account is unknown there, so it has no space either.
        return None, ""
    return (space_view(homeserver, found.room_id), found.how) if found.room_id else (None, "")


def _further_accounts(homeserver: Homeserver, space: SpaceView | None) -> list[str]:
    """Accounts that may be an agent's although no id stands for them: of marks, of the namespace, of members of the space's rooms."""
    found: list[str] = []
    for content in (space.children if space is not None else {}).values():
        mark = content.get(MARK)
        if isinstance(mark, dict) and isinstance(mark.get("account"), str):
            found.append(mark["account"])
    own = f"@{user_prefix(homeserver)}"
    listed = _listed_accounts(homeserver)
    if listed is None:
        listed = _members(homeserver, space)
    found += [one for one in listed if one.startswith(own) and one.endswith(f":{homeserver.server_name}")]
    return [one for one in dict.fromkeys(found) if one != homeserver.sender_id]


def _listed_accounts(homeserver: Homeserver) -> list[str] | None:
    """All accounts with our prefix, where the homeserver has such a list and an administrator of it was named."""
    service = homeserver.service
    if not has_administrator(service):
        return None

    def ask(administrator: Administrator) -> list[str]:
        with SynapseAdmin(service.base_url, admin_token=administrator.token) as admin:
            return admin.user_ids(user_prefix(homeserver))

    try:
        return with_administrator(service, ask)
    except (NoAdministrator, Refused) as error:
        log.info("rebuild.no_list_of_accounts", error=error.sentence[:200])
        return None


def _members(homeserver: Homeserver, space: SpaceView | None) -> list[str]:
    """Members of the space, and of the rooms in it that Switchboard's own account is in."""
    if space is None:
        return []
    client, found = homeserver.client, list(space.members)
    inside = set(client.joined_rooms(homeserver.sender_id))
    for room_id in space.children:
        if room_id in inside:
            found += client.joined_members(room_id, homeserver.sender_id)
    return found


def rebuild_apply(
    *,
    plan: RebuildPlan,
    actor: str,
    progress: Progress = lambda done, total, text: None,
    should_stop: Callable[[], bool] = lambda: False,
    wait: float = 600.0,
    history: History | None = None,
) -> RebuildReport:
    """Write the rows of what was found; no sync runs meanwhile. May be repeated, and goes on where it was cut off.

    What was said in the rooms before is not answered; with ``history`` it is taken in.

    Raises ``SyncBusy``, or ``MatrixError`` when the homeserver goes away.
    """
    report = RebuildReport()
    with alone(actor=actor, trigger="rebuild", service_name=plan.service_name, wait=wait) as (run, lost):
        report.run_id = run.pk
        if plan.space is not None and plan.space_by != "row":
            rebuild_rows.write_space(plan.homeserver, plan.space, space_alias(plan.homeserver))
            _count(report, "space")
        for number, claim in enumerate(plan.search.claims, start=1):
            if lost.is_set() or should_stop():
                report.findings.append(Finding("warning", "rebuild.stopped", "It was stopped; rebuild again."))
                break
            _write(plan, claim, actor, report, history)
            progress(number, len(plan.search.claims), claim.wanted.info.name)
        report.findings += plan.unread
        report.findings += [
            Finding("warning", "rebuild.doubt", doubt.sentence, doubt.target, {"rooms": list(doubt.rooms)})
            for doubt in plan.search.doubts
        ]
    counts = {f"rebuilt.{kind}": number for kind, number in report.counts.items()}
    finish_run(
        run,
        SyncState.DONE,
        counts=counts,
        plan=[claim.to_dict() for claim in plan.search.claims[:2000]],
        findings=[finding.to_dict() for finding in report.findings],
    )
    with transaction.atomic():
        record(
            actor=actor,
            action="mappings.rebuilt",
            target=plan.homeserver.service,
            message=f"{counted(report.counts.get('mapping', 0), 'mapping')} found on the homeserver.",
            after=report.counts,
        )
    return report


def _write(plan: RebuildPlan, claim: Claim, actor: str, report: RebuildReport, history: History | None) -> None:
    listed: Mapping[str, Any] = plan.space.children if plan.space is not None else {}
    try:
        written = rebuild_rows.write_claim(plan.homeserver, claim, listed, actor=actor, history=history)
    except (rebuild_rows.Taken, IntegrityError) as error:
        sentence = str(error) if isinstance(error, rebuild_rows.Taken) else "Another row was in the way; rebuild again."
        report.findings.append(Finding("warning", "rebuild.taken", sentence, claim.wanted.target))
        return
    for kind, number in written.items():
        _count(report, kind, number)


def _count(report: RebuildReport, kind: str, number: int = 1) -> None:
    if number:
        report.counts[kind] = report.counts.get(kind, 0) + number
