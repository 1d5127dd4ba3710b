"""Checks of our own addresses: our ports, the address that people use, and every process's own way to every server."""

from __future__ import annotations

import socket
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from ops.models import Process, Service, ServiceStatus
from ops.network import ports
from ops.network.places import PUBLIC, place, public_url, service_names, stores
from ops.network.probe import Probe, probe
from ops.processes.queries import alive, label
from ops.registry import Affected, CheckOutcome, Fix, register_check
from ops.words import verb

# A process asks everything about once a minute.
FRESH = timedelta(minutes=4)


@register_check(
    "net.port_conflict",
    title="Nobody else has our ports",
    tags=("network", "start"),
    interval=120,
    severity="error",
    timeout=15,
    scope="port",
    targets=lambda: [use.name for use in ports.port_uses()],
    repairs=("config.port",),
)
def port_conflict(name: str) -> CheckOutcome:
    """Tries to bind each port of ours as the next start would; when it is taken, by whom: one of our processes, or another."""
    use = ports.port_use(name)
    address = use.address() if use is not None else None
    if use is None or address is None:
        return CheckOutcome("skip", "Nothing of ours listens on a port of this kind here.")
    host, port = address
    evidence: dict[str, Any] = {"host": host, "port": port}
    if ports.is_free(host, port):
        return CheckOutcome("pass", f"Port {port} on {host} is free for {use.label}.", evidence)
    holder = ports.holder_of(host, port) or ports.Holder()
    evidence |= {"process": holder.pid, "program": holder.name, "command": holder.command}
    if holder.pid in use.owners() or (not holder.pid and _reported(port)):
        return CheckOutcome("pass", f"{use.label} listens on port {port} of {host}.", evidence)
    free = ports.next_free(host, port)
    return CheckOutcome(
        "fail",
        f"Port {port} on {host} is taken by {holder}, so {use.label} cannot listen there. The next free one is {free}.",
        {**evidence, "next_free": free},
        (),
        Fix("config.port", name, {"port": free}),
    )


def _reported(port: int) -> bool:
    """Whether a process of ours on this machine says that it listens there."""
    return any(row.host == socket.gethostname() and port in _ports_of(row) for row in alive())


def _ports_of(row: Process) -> list[int]:
    found = []
    for one in row.ports or ():
        value = one.get("port") if isinstance(one, dict) else str(one).rpartition(":")[2]
        if str(value).isdigit():
            found.append(int(str(value)))
    return found


@register_check(
    "net.host_unreachable",
    title="People reach Switchboard at its address",
    tags=("network", "web"),
    interval=60,
    severity="error",
    timeout=20,
    scope="service",
    targets=lambda: [PUBLIC],
    opens_after=2,
    depends_on=("net.dns", "net.firewall"),
)
def host_unreachable(name: str) -> CheckOutcome:
    """Two legs: where the web server listens, and ``PUBLIC_URL``. The first green and the second red is a missing or wrong
    publish, or a proxy that leads elsewhere. When the first is red, other checks tell why."""
    inside = inside_leg()
    evidence: dict[str, Any] = {"public_url": public_url()}
    if inside is None:
        return CheckOutcome(
            "skip", "The web server does not answer where it listens; whether people reach it is no question.", evidence
        )
    evidence["inside"] = inside.to_dict()
    outside = probe(public_url(), path="/livez")
    evidence["outside"] = outside.to_dict()
    if outside.ok and is_us(outside):
        return CheckOutcome("pass", f"{public_url()} leads to Switchboard.", evidence)
    if outside.ok:
        why = (
            f"something else answers there ({outside.status})"
            if outside.status != 502
            else "the proxy does not reach us (502)"
        )
        sentence = f"Inside OK at {inside.hop}, outside wrong: at {public_url()} {why}."
    else:
        words = "refused" if outside.kind == "refused" else f"ends at {outside.stage}"
        sentence = f"Inside OK at {inside.hop}, outside {words}: {outside.sentence}"
    return CheckOutcome("fail", f"{sentence} Publish the port, or correct PUBLIC_URL.", evidence)


def is_us(found: Probe) -> bool:
    """Whether the answer to /livez is ours."""
    return found.status == 200 and found.body.strip() == b"ok"


def inside_leg() -> Probe | None:
    """The first address at which our web server answers from within; None when it answers nowhere."""
    for address in inside_addresses():
        found = probe(address, path="/livez", timeout=2.0)
        if found.ok and is_us(found):
            return found
    return None


def inside_addresses() -> list[str]:
    """Where the web server listens: what its process reports, what the homeserver uses, what is configured."""
    found = []
    for row in alive(("up", "web")):
        host = "127.0.0.1" if row.host == socket.gethostname() else row.host
        found += [f"http://{host}:{port}" for port in _ports_of(row)]
    host = "127.0.0.1" if settings.HOST in ports.ANY else settings.HOST
    found.append(f"http://{f'[{host}]' if ':' in host else host}:{settings.PORT}")
    if settings.MATRIX_APPSERVICE_URL != settings.PUBLIC_URL:
        found.append(settings.MATRIX_APPSERVICE_URL)
    return list(dict.fromkeys(found))[:4]


@register_check(
    "net.service_to_service",
    title="Every process reaches the server from where it runs",
    tags=("network", "processes"),
    interval=60,
    severity="error",
    timeout=15,
    scope="service",
    targets=lambda: [*service_names(), *stores()],
    opens_after=2,
    # Whom this worker does not reach either, those checks are about.
    depends_on=(
        "db.reachable",
        "net.dns",
        "net.firewall",
        "homeserver.reachable",
        "backend.reachable",
        "service.reachable",
    ),
)
def service_to_service(name: str) -> CheckOutcome:
    """Each process asks each server about once a minute and reports name and connection. Red when some reach it and some do not."""
    service = Service.objects.filter(name=name).only("name", "status", "updated_at", "status_changed_at").first()
    since = timezone.now() - FRESH
    if service is not None:
        # What was asked before the row changed, or before it was up again, says nothing about now.
        since = max(moment for moment in (since, service.updated_at, service.status_changed_at) if moment is not None)
    now = place(name)
    asked = now.asked if now is not None else ""
    cells = {row: cell for row in alive() if (cell := (row.reach or {}).get(name)) and _counts(row, cell, since, asked)}
    if not cells:
        return CheckOutcome("skip", f"No process has asked {name} lately.")
    good = [row for row, cell in cells.items() if cell.get("ok")]
    bad = {row: cell for row, cell in cells.items() if not cell.get("ok")}
    evidence = {"cells": {row.name: {"role": row.role, **cell} for row, cell in list(cells.items())[:50]}}
    if not bad:
        words = "the one process reaches" if len(good) == 1 else f"all {len(good)} processes reach"
        return CheckOutcome("pass", f"{words[0].upper()}{words[1:]} {name}.", evidence)
    answers_here = service is not None and service.status in (ServiceStatus.OK, ServiceStatus.DEGRADED)
    if not good and not answers_here:
        return CheckOutcome("skip", f"No process reaches {name}: that is no matter of where one runs.", evidence)
    row, cell = next(iter(bad.items()))
    sentence = f"{label(row)} does not reach {name}, it ends at {cell.get('stage')}: {cell.get('sentence')}"
    more = f" So {verb(len(bad) - 1, 'does', 'do')} {len(bad) - 1} more." if len(bad) > 1 else ""
    affected = tuple(Affected(f"process:{one.name}", str(known.get("sentence", ""))) for one, known in bad.items())
    return CheckOutcome("fail", f"{sentence[0].upper()}{sentence[1:]}{more} Others do.", evidence, affected)


def _counts(row: Process, cell: dict[str, Any], since: datetime, asked: str) -> bool:
    """Whether a cell says something: it is fresh and about the address of now, the process had started up by then, and a failure was no
    single one."""
    if cell.get("asked", asked) != asked:
        return False
    ready = row.started_at + timedelta(seconds=row.ready_after_seconds or 0.0)
    return _at(cell) >= max(since, ready) and (bool(cell.get("ok")) or int(cell.get("failures", 0)) >= 2)


def _at(cell: dict[str, Any]) -> datetime:
    try:
        return datetime.fromisoformat(str(cell.get("at")))
    except ValueError:
        return timezone.now() - 2 * FRESH


def reach_grid() -> dict[str, dict[str, Any]]:
    """Who reaches what: ``{process label: {server: cell}}`` of the processes that live, for pages."""
    return {label(row): dict(row.reach or {}) for row in alive()}
