"""Whether what is known of the homeserver still holds. It is probed by ``agents.matrix.probe`` and kept with the service."""

from __future__ import annotations

from typing import Any

from agents.doctor.matrix.common import GONE, homeservers, opened, sender_of, service_named
from agents.doctor.matrix.look import knows_account
from agents.matrix.errors import MatrixError
from agents.matrix.probe import unsupported
from agents.services.backends import homeserver_of, mode_of
from agents.services.client_mode import CLIENT_MODE_CANNOT
from agents.services.homeserver_probe import differences, flavour_keep, homeserver_probe, label, stored_flavour
from ops.doctor.repairs import Change, Plan, RepairWork, register_repair
from ops.registry import CheckOutcome, register_check

# What changes with every probe and says nothing.
_PASSING = frozenset({"probed_at"})


@register_check(
    "matrix.hs_flavour",
    title="What the homeserver can do is known",
    tags=("matrix", "config"),
    interval=600,
    severity="warning",
    timeout=30,
    scope="service",
    targets=homeservers,
    # After it, since it writes what else is kept of the homeserver's capabilities.
    depends_on=("db.reachable", "homeserver.reachable"),
    repairs=("matrix.detect",),
)
def hs_flavour(target: str) -> CheckOutcome:
    """Red when the homeserver is another one, or can do something else, than what is kept of it.

    The first sight is kept at once (as a service test keeps the version); a new version of the same server is no failure. Amber
    when something is set up here that this homeserver does not serve.
    """
    service = service_named(target)
    if service is None:
        return GONE
    try:
        fresh = homeserver_probe(homeserver_of(service))
    except MatrixError as error:
        return CheckOutcome("fail", error.sentence, {"errcode": error.code})
    kept = stored_flavour(service)
    if not kept or (not differences(kept, fresh) and _lasting(kept) != _lasting(fresh)):
        flavour_keep(service=service, flavour=fresh, actor="system")
        kept = fresh
    changed = differences(kept, fresh)
    # In client mode also what only an appservice can do.
    cannot = unsupported(fresh) | (dict(CLIENT_MODE_CANNOT) if mode_of(service) == "client" else {})
    evidence = {
        "flavour": fresh["name"],
        "version": fresh["version"],
        "can": sorted(name for name, yes in fresh["can"].items() if yes),
        "cannot": cannot,
        "differences": changed,
        "auth": fresh["auth"],
        "admin": fresh["admin"],
        "secret": fresh["secret"],
        "registration": fresh["registration"]["kind"],
    }
    if changed:
        return CheckOutcome(
            "fail",
            f"The homeserver is {label(fresh)} now, but {label(kept)} is what is known of it: {'; '.join(changed)}. What is done "
            "for users and passwords follows the known one and may fail. Detect it again.",
            evidence,
        )
    if fresh["secret"]["works"] is False:
        return CheckOutcome(
            "warn",
            f"A registration shared secret is set, but {label(fresh)} does not take it: {fresh['secret']['sentence']} "
            "People's accounts have to be made there by other means.",
            evidence,
        )
    if fresh["admin"]["works"] is False:
        return CheckOutcome(
            "warn",
            f"An administrator of {label(fresh)} was named, but cannot be used: {fresh['admin']['sentence']}",
            evidence,
        )
    rest = f" It cannot: {', '.join(sorted(cannot))}." if cannot else ""
    return CheckOutcome("pass", f"{label(fresh)}.{rest}", evidence)


def _plan(work: RepairWork) -> Plan:
    homeserver = opened(work.target)
    kept, fresh = stored_flavour(homeserver.service), homeserver_probe(homeserver)
    if kept and not differences(kept, fresh):
        return Plan(f"What is known of it holds: {label(fresh)}.")
    target = f"service:{homeserver.service.pk}"
    changes = [Change(target, "homeserver", label(kept) if kept else None, label(fresh))]
    before = kept.get("can") or {}
    changes += [
        Change(target, name, before.get(name), yes) for name, yes in fresh["can"].items() if before.get(name) != yes
    ]
    return Plan(f"Keep what the homeserver is: {label(fresh)}.", tuple(changes), {"flavour": fresh}, {"flavour": kept})


def _apply(work: RepairWork) -> dict[str, Any]:
    homeserver = opened(work.target)
    flavour = work.plan.data["flavour"]
    flavour_keep(
        service=homeserver.service, flavour=flavour, actor=work.actor, message=f"The homeserver is {label(flavour)}."
    )
    found = knows_account(homeserver.service.base_url, sender_of(homeserver.service))
    lookup = {True: "found", False: "not there", None: "it does not say"}[found]
    return {"flavour": label(flavour), "cannot": unsupported(flavour), "lookup_of_our_account": lookup}


def _undo(work: RepairWork) -> None:
    homeserver = opened(work.target)
    flavour_keep(
        service=homeserver.service,
        flavour=work.snapshot.get("flavour") or None,
        actor=work.actor,
        message="What was known before is kept again.",
    )


register_repair(
    "matrix.detect",
    title="Detect the homeserver",
    repair_class="A",
    button="Detect again",
    explain="Asks the homeserver what it is and what it can do, and keeps that. Nothing on the homeserver changes.",
    plan=_plan,
    apply=_apply,
    undo=_undo,
    target_kinds=("service",),
)


def _lasting(flavour: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flavour.items() if name not in _PASSING}
