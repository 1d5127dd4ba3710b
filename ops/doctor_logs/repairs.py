"""Repairs around logs and support: keep lines again, hand them out, change a level for a while, make a bundle, mend its folder."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.utils import timezone

from ops.doctor.repairs import Change, Plan, RepairFailed, RepairRefused, RepairWork, register_repair
from ops.live import forget, live, live_clear, live_row, live_set
from ops.logbook import explorer, reader
from ops.logbook.levels import KEEP_KEY, WELL_KNOWN
from ops.logbook.rows import RANKS
from ops.registry import ServiceField
from ops.services.logbook import current_levels, log_level_clear, log_level_set, log_levels_restore
from ops.services.support import bundle_make, file_remove, logs_export
from ops.support.bundle import BundleWish, parse_messages
from ops.support.folder import folder, why_unusable
from ops.words import counted, verb

ORDINARY = "ordinary"
_LEVELS = tuple((name, name) for name in RANKS)


def _said(error: ValidationError) -> str:
    return " ".join(error.messages)


# Keep lines again.


def _plan_resume(work: RepairWork) -> Plan:
    forget()
    row = live_row(KEEP_KEY)
    if row is None or live(KEEP_KEY) != "off":
        return Plan(f"Lines are kept from level {live(KEEP_KEY)} on.")
    return Plan(
        "Log lines are kept again, from level info on.",
        (Change("setting:log.keep", "kept from level", row.value, "info"),),
        snapshot={"value": row.value},
    )


def _resume(work: RepairWork) -> dict[str, Any]:
    live_clear(key=KEEP_KEY, actor=work.actor)
    return {"sentence": "Every process keeps its lines again within seconds."}


def _stop_again(work: RepairWork) -> None:
    live_set(key=KEEP_KEY, value=work.snapshot["value"], actor=work.actor)


register_repair(
    "logs.resume",
    title="Keep log lines again",
    repair_class="A",
    button="Keep lines again",
    explain="Takes back the operator's word that no log lines are kept.",
    plan=_plan_resume,
    apply=_resume,
    undo=_stop_again,
    atomic=True,
)


# Hand lines out.


def _wanted(work: RepairWork) -> reader.LogFilter:
    try:
        return reader.LogFilter.parse({name: work.params.get(name) or "" for name in _EXPORT_FILTERS})
    except reader.FilterInvalid as error:
        raise RepairRefused(str(error)) from None


_EXPORT_FILTERS = ("level", "agent", "service", "message", "text", "minutes")


def _plan_export(work: RepairWork) -> Plan:
    reason = why_unusable()
    if reason:
        raise RepairRefused(reason)
    count = reader.lines(_wanted(work)).count()
    if not count:
        return Plan("No line fits: there is nothing to hand out.")
    return Plan(
        f"A file with {counted(min(count, reader.MOST_IN_FILE), 'line')} is made.",
        (Change("logs", "exported lines", None, count),),
    )


def _export(work: RepairWork) -> dict[str, Any]:
    try:
        made = logs_export(wanted=_wanted(work), form=str(work.params.get("form") or "jsonl"), actor=work.actor)
    except ValidationError as error:
        raise RepairFailed(_said(error)) from None
    work.remember(file=made.name)
    return {"file": made.name, "lines": made.lines, "bytes": made.size}


def _remove_file(work: RepairWork) -> None:
    name = str(work.snapshot.get("file", ""))
    if name:
        file_remove(name=name, actor=work.actor)


register_repair(
    "logs.export",
    title="Hand out log lines",
    repair_class="A",
    button="Make a file",
    explain="Writes the lines that fit into a file of the data directory, to be fetched from the page of the logs. Without secrets.",
    plan=_plan_export,
    apply=_export,
    undo=_remove_file,
    fields=(
        ServiceField(
            "form", "Form", kind="choice", choices=(("jsonl", "JSON lines"), ("text", "Text")), default="jsonl"
        ),
        ServiceField("level", "From level", kind="choice", choices=_LEVELS, default="info"),
        ServiceField("minutes", "Of the last minutes", kind="number", default=60),
        ServiceField("agent", "Agent"),
        ServiceField("service", "Service"),
        ServiceField("message", "Message id"),
        ServiceField("text", "Text"),
    ),
)


# A level for a while.


def _plan_level(work: RepairWork) -> Plan:
    name, level = str(work.params["logger"]).strip(), str(work.params["level"])
    levels = current_levels()
    known = levels.get(name)
    snapshot = {"levels": levels}
    if level == ORDINARY:
        if known is None:
            return Plan(f"{name} has its ordinary level.")
        return Plan(
            f"{name} gets its ordinary level back.",
            (Change(f"logger:{name}", "level", known["level"], "its ordinary one"),),
            snapshot=snapshot,
        )
    minutes = float(work.params.get("minutes") or 15)
    if known is not None and known["level"] == level and known["until"] is not None:
        return Plan(f"{name} has level {level} until {known['until'][:16]} already.")
    return Plan(
        f"{name} gets level {level} for {minutes:g} {verb(minutes, 'minute', 'minutes')}, in every process, and then falls back.",
        (Change(f"logger:{name}", "level", known["level"] if known else "its ordinary one", level),),
        snapshot=snapshot,
    )


def _set_level(work: RepairWork) -> dict[str, Any]:
    name, level = str(work.params["logger"]).strip(), str(work.params["level"])
    if level == ORDINARY:
        log_level_clear(logger=name, actor=work.actor)
        return {"logger": name, "level": "its ordinary one"}
    try:
        until = log_level_set(
            logger=name, level=level, minutes=float(work.params.get("minutes") or 15), actor=work.actor
        )
    except ValidationError as error:
        raise RepairFailed(_said(error)) from None
    return {"logger": name, "level": level, "until": until}


def _levels_back(work: RepairWork) -> None:
    log_levels_restore(levels=work.snapshot.get("levels", {}), actor=work.actor)


register_repair(
    "debug.set_level",
    title="Change a log level for a while",
    repair_class="A",
    button="Set the level",
    explain="Changes how much one logger says, in every process, within seconds and without a restart. Falls back by itself.",
    plan=_plan_level,
    apply=_set_level,
    undo=_levels_back,
    fields=(
        ServiceField("logger", "Logger", required=True, default="chat", help=f"For example {', '.join(WELL_KNOWN)}."),
        ServiceField(
            "level", "Level", kind="choice", required=True, choices=(*_LEVELS, (ORDINARY, "ordinary")), default="debug"
        ),
        ServiceField("minutes", "For minutes", kind="number", default=15, help="At most 1440; 15 and 60 are usual."),
    ),
    atomic=True,
)


# Search everything again.


def _plan_include(work: RepairWork) -> Plan:
    forget()
    missing = explorer.left_out()
    if not missing:
        return Plan("The search asks every kind of object.")
    return Plan(
        "The search asks every kind of object again.",
        (Change("setting:search.left_out", "left out", missing, []),),
        snapshot={"left_out": missing},
    )


def _include(work: RepairWork) -> dict[str, Any]:
    live_clear(key=explorer.LEFT_OUT_KEY, actor=work.actor)
    return {"kinds": [one.kind for one in explorer.finders()]}


def _leave_out_again(work: RepairWork) -> None:
    live_set(key=explorer.LEFT_OUT_KEY, value=work.snapshot["left_out"], actor=work.actor)


register_repair(
    "explorer.include",
    title="Search every kind of object",
    repair_class="A",
    button="Search everything",
    explain="Takes back the operator's word that the search leaves out kinds of objects.",
    plan=_plan_include,
    apply=_include,
    undo=_leave_out_again,
    atomic=True,
)


# The bundle, and the folder that it needs.


def _plan_bundle(work: RepairWork) -> Plan:
    reason = why_unusable()
    if reason:
        raise RepairRefused(reason)
    wish = _wish(work)
    extra = f", with the traces of {counted(len(wish.messages), 'message')}" if wish.messages else ""
    return Plan(
        f"A support bundle is made{extra}. Secrets are hidden in it; look through it before you hand it on.",
        (Change("support", "bundle", None, "a new file"),),
    )


def _wish(work: RepairWork) -> BundleWish:
    try:
        messages = parse_messages([work.params.get("messages") or ""])
    except ValueError as error:
        raise RepairRefused(str(error)) from None
    return BundleWish(messages, bool(work.params.get("texts")))


def _bundle(work: RepairWork) -> dict[str, Any]:
    try:
        made = bundle_make(wish=_wish(work), actor=work.actor)
    except ValidationError as error:
        raise RepairFailed(_said(error)) from None
    work.remember(file=made.name)
    return {"file": made.name, "bytes": made.size, "parts": list(made.parts), "failed_parts": list(made.failed)}


register_repair(
    "support.bundle",
    title="Make a support bundle",
    repair_class="A",
    button="Make a support bundle",
    explain="Collects versions, findings, log lines, settings and mappings into one file, without secrets.",
    plan=_plan_bundle,
    apply=_bundle,
    undo=_remove_file,
    fields=(
        ServiceField("messages", "Message ids", help="Their traces are added; numbers, separated by commas."),
        ServiceField("texts", "With what was said in them", kind="bool", default=False),
    ),
)


def _plan_folder(work: RepairWork) -> Plan:
    reason = why_unusable()
    if not reason:
        return Plan(f"{folder()} can be written.")
    place = folder()
    if not place.exists() or place.is_dir():
        raise RepairRefused(f"{reason} Only its owner, or whoever administers the machine, can do that.")
    aside = f"{place}.aside-{timezone.now():%Y%m%d%H%M%S}"
    return Plan(
        f"The file {place} is put aside as {aside}, and a folder is made in its place.",
        (Change(str(place), "kind", "a file", "a folder"),),
        data={"aside": aside},
        snapshot={"aside": aside},
    )


def _mend_folder(work: RepairWork) -> dict[str, Any]:
    place = folder()
    try:
        place.rename(work.plan.data["aside"])
        place.mkdir(mode=0o700)
    except OSError as error:
        raise RepairFailed(f"{place} could not be changed: {error.strerror}.") from None
    return {"folder": str(place), "aside": work.plan.data["aside"]}


def _unmend_folder(work: RepairWork) -> None:
    from pathlib import Path

    place, aside = folder(), Path(str(work.snapshot.get("aside", "")))
    if not aside.is_file():
        return
    try:
        if place.is_dir():
            place.rmdir()
        aside.rename(place)
    except OSError:
        raise RepairRefused(f"{place} holds files by now; it stays a folder. The former file is {aside}.") from None


register_repair(
    "support.folder",
    title="Make room for support files",
    repair_class="A",
    button="Make the folder",
    explain="Puts aside whatever stands where the folder for support bundles and exported logs should be, and makes the folder.",
    plan=_plan_folder,
    apply=_mend_folder,
    undo=_unmend_folder,
)
