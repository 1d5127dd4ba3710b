"""Corrects one setting: live when it may change live, else its line in the settings file, which counts from the next start."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError

from ops.configuration import edit
from ops.configuration.masks import mask, shown
from ops.configuration.placeholders import why_placeholder
from ops.configuration.schema import configuration
from ops.configuration.trying import try_value
from ops.doctor.repairs import Change, Plan, RepairFailed, RepairRefused, RepairWork
from ops.live import live_clear, live_options, live_row, live_set


def plan(work: RepairWork, name: str) -> Plan:
    """Raises ``RepairRefused`` with the exact line when it cannot be written from here."""
    known = {option.key: option for option in live_options()}
    if name in known:
        return _plan_live(work, name, known[name].parse)
    return _plan_file(work, name)


def apply(work: RepairWork) -> dict[str, Any]:
    data = work.plan.data
    name = str(data["name"])
    if data["half"] == "live":
        _set_live(name, work.snapshot["after"], work.actor)
        return {"setting": name, "counts": "at once"}
    try:
        memory = edit.change(name, work.snapshot["value"], new_name=str(data.get("rename_to", "")))
    except edit.CannotEdit as error:
        raise RepairFailed(str(error)) from error
    work.remember(memory=memory)
    return {"setting": name, "file": memory["file"], "counts": "from the next start"}


def undo(work: RepairWork) -> None:
    snapshot = work.snapshot
    if snapshot.get("half") == "live":
        row = live_row(snapshot["name"])
        now = row.value if row is not None else None
        if now == snapshot["before"]:
            return
        if now != snapshot["after"]:
            raise RepairRefused(f"{snapshot['name']} was changed by somebody since; nothing is taken back.")
        _set_live(snapshot["name"], snapshot["before"], work.actor)
        return
    if "memory" not in snapshot:
        return  # nothing was written
    try:
        edit.restore(snapshot["memory"])
    except edit.CannotEdit as error:
        raise RepairRefused(str(error)) from error


def _given(work: RepairWork) -> str:
    value = work.params.get("secret") or work.params.get("value")
    return "" if value is None else str.__str__(value) if isinstance(value, str) else str(value)


def _plan_live(work: RepairWork, name: str, parse: Any) -> Plan:
    text = _given(work)
    row = live_row(name)
    before = row.value if row is not None else None
    after: Any = None
    if text:
        try:
            after = parse(text)
        except ValueError as error:
            raise RepairRefused(f"{name}: {error}.") from None
    if before == after:
        return Plan(f"{name} has this value already.", data={"half": "live", "name": name})
    words = f"{name} becomes {shown(after)}" if after is not None else f"{name} goes back to the environment's value"
    return Plan(
        f"{words}, at once and in every process.",
        (Change(f"setting:{name}", "value", before, after),),
        {"half": "live", "name": name},
        {"half": "live", "name": name, "before": before, "after": after},
    )


def _set_live(name: str, value: Any, actor: str) -> None:
    try:
        if value is None:
            live_clear(key=name, actor=actor)
        else:
            live_set(key=name, value=value, actor=actor)
    except ValidationError as error:
        raise RepairFailed(" ".join(error.messages)) from error


def _plan_file(work: RepairWork, name: str) -> Plan:
    rename_to = str(work.params.get("rename_to") or "").strip()
    reading = configuration().read()
    setting = configuration().get(rename_to or name)
    # The line that holds the value may have another name: an alias.
    variable = reading.sources.get(setting.name, name) if setting is not None and not rename_to else name
    if variable in ("default", "generated"):
        variable = name
    try:
        before = edit.value_in_file(variable)
    except edit.CannotEdit as error:
        raise RepairRefused(str(error)) from error
    text = _given(work)
    if rename_to and not text:
        text = before or ""
    after = text or None
    if (before == after and not rename_to) or (rename_to and before is None):
        return Plan(f"{configuration().env_file()} says so already.", data={"half": "file", "name": variable})
    if setting is None and after is not None:
        raise RepairRefused(
            f"{name} is not a setting of Switchboard. Remove the line (empty value), or give its right name."
        )
    reason = edit.why_not(variable, text, reading=reading)
    if reason:
        raise RepairRefused(reason)
    tried = _check(setting.name if setting else name, text, bool(work.params.get("override"))) if after else ""
    secret = setting is not None and setting.secret
    old, new = (mask(before or ""), mask(text)) if secret else (before, after)
    what = (
        f"{variable} becomes {rename_to}" if rename_to else f"{variable} is set" if after else f"{variable} is removed"
    )
    changes = [Change(f"setting:{variable}", str(configuration().env_file()), old, None if rename_to else new)]
    if rename_to:
        changes.append(Change(f"setting:{rename_to}", str(configuration().env_file()), None, new))
    return Plan(
        f"{what} in {configuration().env_file()}; it counts from the next start.{tried}",
        tuple(changes),
        {"half": "file", "name": variable, "rename_to": rename_to},
        {"half": "file", "name": variable, "value": after},
    )


def _check(name: str, text: str, override: bool) -> str:
    """Refuses a value that cannot be used, and one that does not work unless it is overridden; a sentence about the test."""
    known = configuration()
    try:
        value = known.parse(name, text)
    except ValueError as error:
        setting = known.get(name)
        quoted = "This value" if setting is not None and setting.secret else repr(text)
        raise RepairRefused(f"{name}: {quoted} cannot be used, {error}.") from None
    why = why_placeholder(value)
    if why and not override:
        raise RepairRefused(f"{name}: that is a placeholder, {why}.")
    tried = try_value(name, value)
    if tried.ok is False and not override:
        raise RepairRefused(
            f"The test of the new value fails: {tried.sentence} Tick the override to save it all the same."
        )
    return f" {tried.sentence}" if tried.ok is not None else ""
