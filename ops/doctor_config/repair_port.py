"""config.port: gives a server of ours the next free port."""

from __future__ import annotations

from typing import Any

from ops.doctor.repairs import Change, Plan, RepairFailed, RepairRefused, RepairWork, register_repair
from ops.network import ports
from ops.registry import ServiceField


def _use(work: RepairWork) -> ports.PortUse:
    name = work.target.partition(":")[2] or work.target
    uses = [use for use in ports.port_uses() if not name or use.name == name]
    if not uses:
        raise RepairRefused(
            f"There is no port {name!r} of ours; there are: {', '.join(u.name for u in ports.port_uses())}."
        )
    if name or len(uses) == 1:
        return uses[0]
    for use in uses:
        address = use.address()
        if address and not ports.is_free(*address) and not _is_ours(use, address):
            return use
    return uses[0]


def _is_ours(use: ports.PortUse, address: tuple[str, int]) -> bool:
    holder = ports.holder_of(*address)
    return holder is not None and holder.pid in use.owners()


def _plan(work: RepairWork) -> Plan:
    use = _use(work)
    address = use.address()
    if address is None:
        raise RepairRefused(f"{use.label} has no port here.")
    host, port = address
    if ports.is_free(host, port) or _is_ours(use, address):
        return Plan(f"Port {port} on {host} is {use.label}'s to use; nothing has to change.")
    wanted = work.params.get("port")
    try:
        free = ports.next_free(host, port)
    except ports.PortFixed as error:
        raise RepairRefused(str(error)) from error
    chosen = int(wanted) if wanted else free
    if not 0 < chosen < 65536:
        raise RepairRefused(f"{chosen} is no port: a port is a number from 1 to 65535.")
    if not ports.is_free(host, chosen):
        raise RepairRefused(f"Port {chosen} on {host} is taken as well. Free is {free}.")
    reason = use.can_write(chosen)
    if reason:
        raise RepairRefused(reason)
    sentence = f"{use.label[0].upper()}{use.label[1:]} gets port {chosen} instead of {port}. {use.restart}".strip()
    return Plan(sentence, (Change(f"port:{use.name}", "port", port, chosen),), {"port": chosen, "use": use.name})


def _apply(work: RepairWork) -> dict[str, Any]:
    use = ports.port_use(work.plan.data["use"])
    if use is None:
        raise RepairFailed("The port is not ours any more.")
    port = int(work.plan.data["port"])
    try:
        memory = use.write(port)
    except ports.PortFixed as error:
        raise RepairFailed(str(error)) from error
    work.remember(use=use.name, memory=memory)
    return {"port": port, "restart": use.restart}


def _undo(work: RepairWork) -> None:
    use = ports.port_use(work.snapshot.get("use", ""))
    if use is None or "memory" not in work.snapshot:
        return  # nothing was written
    try:
        use.restore(work.snapshot["memory"])
    except ports.PortFixed as error:
        raise RepairRefused(str(error)) from error


register_repair(
    "config.port",
    title="Use another port",
    repair_class="C",
    button="Take the next free port",
    explain="Writes a free port into the configuration of the server whose port somebody else has. It counts from the next start; "
    "whoever has the port is left alone.",
    plan=_plan,
    apply=_apply,
    undo=_undo,
    fields=(ServiceField("port", "Port", "The next free one when empty.", kind="number"),),
)
