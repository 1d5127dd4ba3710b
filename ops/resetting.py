"""Beginning anew with settings: what operators changed while everything ran goes back to what the environment says."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import models

from ops.findings import Finding
from ops.models import AlertChannel, ErrorSignature, LiveSetting, MaintenanceWindow, RepairPolicy, Service
from ops.resets import ResetLine, ResetScope, ResetWork, delete_rows, line_of, register_reset
from ops.words import counted


def _settings() -> models.QuerySet[LiveSetting]:
    """Rows of settings; others of the table are notes that parts of the program leave for each other."""
    from ops.live import live_options

    return LiveSetting.objects.filter(key__in=[option.key for option in live_options()])


def _lines() -> list[ResetLine]:
    return [
        line_of(_settings(), "settings that were changed live"),
        line_of(AlertChannel.objects.all(), "alert channels"),
        line_of(MaintenanceWindow.objects.all(), "maintenance windows"),
        line_of(ErrorSignature.objects.all(), "known errors of your own"),
        line_of(RepairPolicy.objects.all(), "repairs that may run unattended, or may not"),
    ]


def _outside() -> Iterable[Finding]:
    channels = AlertChannel.objects.count()
    if channels:
        yield Finding(
            "warning",
            "reset.no_alerts",
            f"{counted(channels, 'alert channel')} would go: nobody is told of troubles until one is set up again.",
        )
    services = Service.objects.count()
    yield Finding(
        "info",
        "reset.services_stay",
        f"{counted(services, 'service')} with credentials, backup keys, destinations and the plan of backups stay: without them neither the "
        "outside nor a backup could be reached.",
    )


def _remove(work: ResetWork) -> dict[str, int]:
    from ops.live import forget

    gone = delete_rows(
        _settings(),
        AlertChannel.objects.all(),
        MaintenanceWindow.objects.all(),
        ErrorSignature.objects.all(),
        RepairPolicy.objects.all(),
    )
    forget()
    return gone


register_reset(
    ResetScope(
        name="settings",
        label="Settings",
        sentence="Settings that were changed live, alert channels, maintenance windows, your own known errors. Services stay.",
        kind="settings",
        lines=_lines,
        outside=_outside,
        remove=_remove,
        order=90,
    )
)
