"""Ways to cause the failures of this part: all in rows and files, so that every process of the installation meets them."""

from __future__ import annotations

import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.utils import timezone

from ops import live
from ops.doctor.faults import register_fault
from ops.logbook import errands, explorer
from ops.logbook.levels import KEEP_KEY, KEY
from ops.models import Capture, ErrorSignature, LiveSetting, LogLine
from ops.support.folder import folder

_ACTOR = "fault"


def _set(key: str, value: Any) -> dict[str, Any]:
    before = LiveSetting.objects.filter(pk=key).values("value", "expires_at").first()
    LiveSetting.objects.update_or_create(pk=key, defaults={"value": value, "expires_at": None, "changed_by": _ACTOR})
    live.forget()
    kept = None if before is None else {"value": before["value"]}
    return {"key": key, "before": kept}


def _unset(memory: dict[str, Any]) -> None:
    if memory["before"] is None:
        LiveSetting.objects.filter(pk=memory["key"]).delete()
    else:
        LiveSetting.objects.filter(pk=memory["key"]).update(value=memory["before"]["value"])
    live.forget()


register_fault(
    "logs.search",
    title="Nobody keeps log lines any more",
    cause=lambda: _set(KEEP_KEY, "off"),
    heal=_unset,
    evidence=("kept_from_level",),
)
register_fault(
    "debug.level",
    title="A logger is set to debug for ever",
    cause=lambda: _set(KEY, {"switchboard.fault": {"level": "debug", "until": None}}),
    heal=_unset,
    evidence=("endless", "levels"),
)
register_fault(
    "debug.explorer",
    title="The search leaves out a kind of object",
    cause=lambda: _set(explorer.LEFT_OUT_KEY, [explorer.finders()[0].kind]),
    heal=_unset,
    evidence=("left_out",),
)


def _endless_capture() -> dict[str, Any]:
    row = Capture.objects.create(
        service="", agent="nobody-has-this-name", until=timezone.now() + timedelta(days=30), started_by=_ACTOR
    )
    return {"capture": str(row.pk)}


register_fault(
    "debug.wire",
    title="A capture of calls goes on for a month",
    cause=_endless_capture,
    heal=lambda memory: (Capture.objects.filter(pk=memory["capture"]).delete(), None)[1],
    evidence=("endless",),
)


def _deaf_process() -> dict[str, Any]:
    errand = uuid.uuid4().hex
    errands.ask(errand=errand, process="nowhere:1:1", seconds=1, actor=_ACTOR)
    LiveSetting.objects.filter(pk=f"{errands.ASK}{errand}").update(
        expires_at=timezone.now() + errands.KEPT - timedelta(minutes=5)
    )
    return {"errand": errand}


register_fault(
    "debug.profile",
    title="A process that is gone was asked for a profile",
    cause=_deaf_process,
    heal=lambda memory: errands.withdraw(memory["errand"]),
    evidence=("asked_of", "errands"),
)


_NEW_ERROR = "flux condenser overflowed"


def _new_errors() -> dict[str, Any]:
    now = timezone.now()
    mark = uuid.uuid4().hex
    for number in range(4):
        LogLine.objects.create(
            at=now,
            level="error",
            role="up",
            process=f"fault:{mark}",
            logger="switchboard.fault",
            event=f"{_NEW_ERROR} by {number * 17} units",
        )
    return {"process": f"fault:{mark}"}


def _heal_new_errors(memory: dict[str, Any]) -> None:
    LogLine.objects.filter(process=memory["process"]).delete()
    ErrorSignature.objects.filter(pattern=_NEW_ERROR).delete()


register_fault(
    "logs.signatures",
    title="An error that nobody knows",
    cause=_new_errors,
    heal=_heal_new_errors,
    repair="signature.add",
    repair_params=lambda memory: {
        "pattern": _NEW_ERROR,
        "meaning": "The flux condenser holds less than it is given.",
        "remedy": "Give it less.",
    },
    evidence=("new", "unknown_errors"),
)


def _file_in_the_way() -> dict[str, Any]:
    place = folder()
    aside = Path(f"{place}.fault-{uuid.uuid4().hex[:8]}")
    existed = place.exists()
    if existed:
        place.rename(aside)
    place.write_text("This file stands where a folder should be.\n")
    return {"aside": str(aside) if existed else ""}


def _clear_the_way(memory: dict[str, Any]) -> None:
    place = folder()
    for left in place.parent.glob(f"{place.name}.aside-*"):
        left.unlink(missing_ok=True)
    if place.is_file():
        place.unlink()
    if memory["aside"] and Path(memory["aside"]).is_dir():
        if place.is_dir() and not any(place.iterdir()):
            place.rmdir()
        if not place.exists():
            Path(memory["aside"]).rename(place)


register_fault(
    "support.bundle",
    title="A file stands where support bundles are kept",
    cause=_file_in_the_way,
    heal=_clear_the_way,
    evidence=("folder",),
)
