"""config.edit: corrects one value of a service or of a setting, after it has been tried."""

from __future__ import annotations

from typing import Any

from ops.doctor.repairs import Plan, RepairRefused, RepairWork, register_repair
from ops.doctor_config import edit_service, edit_setting
from ops.registry import ServiceField


def _kind(work: RepairWork) -> Any:
    """Which half does it: the name of a service, or the name of a setting."""
    target = work.target or next(iter(work.affected), "")
    kind, _, name = target.partition(":")
    if not target:
        raise RepairRefused("Say what to change: service:NAME or setting:NAME.")
    if kind in ("setting", "live"):
        return edit_setting, name
    return edit_service, name if kind == "service" else target


def _plan(work: RepairWork) -> Plan:
    half, name = _kind(work)
    if work.params.get("base_url"):
        work.params |= {"field": "base_url", "value": work.params["base_url"]}
    plan: Plan = half.plan(work, name)
    return plan


def _apply(work: RepairWork) -> dict[str, Any]:
    half = edit_service if work.plan.data.get("half") == "service" else edit_setting
    receipt: dict[str, Any] = half.apply(work)
    return receipt


def _undo(work: RepairWork) -> None:
    half = edit_service if work.snapshot.get("half") == "service" else edit_setting
    half.undo(work)


register_repair(
    "config.edit",
    title="Correct a value",
    repair_class="C",
    button="Correct it",
    explain="Tries the new value against the server that it is about, and saves it when that works; the old value is kept, so that it "
    "can be taken back. What the environment sets is not changed from here: you are told the exact line.",
    plan=_plan,
    apply=_apply,
    undo=_undo,
    fields=(
        ServiceField(
            "field",
            "Which value of the service",
            "base_url, enabled, options.NAME or credentials.NAME. Only for services.",
            default="base_url",
        ),
        ServiceField("base_url", "New address", "The same as the field base_url with a new value."),
        ServiceField("value", "New value", "Empty takes the value away; a setting then has its default."),
        ServiceField(
            "secret", "New secret", "Instead of the new value, when it is a credential or a key.", secret=True
        ),
        ServiceField("rename_to", "Right name", "For a setting whose name is mistyped: the line keeps its value."),
        ServiceField("override", "Save although the test fails", kind="bool", default=False),
    ),
    target_kinds=("service", "setting"),
)
