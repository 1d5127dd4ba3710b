"""The parts of a support bundle that the ground floor makes: versions, the doctor, processes, logs, errors, settings, migrations."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from typing import Any

from django.conf import settings
from django.db import connection
from django.utils import timezone

from ops.logbook import reader
from ops.logbook.rows import STATUS_LOGGER
from ops.logbook.signatures import Dictionary, groups_since
from ops.logbook.status import statuses
from ops.models import CheckState, Issue, Job, LogLine, Process, RepairRun, Service
from ops.support.bundle import BundleWish, register_part


@register_part("versions.json", what="Versions of Switchboard, Python, the database, and the packages.")
def versions(wish: BundleWish) -> dict[str, Any]:
    packages = sorted(f"{one.metadata['Name']}=={one.version}" for one in metadata.distributions())
    return {
        "switchboard": settings.VERSION,
        "python": sys.version,
        "platform": platform.platform(),
        "mode": "embedded" if settings.EMBEDDED else "scaled",
        "database": {"vendor": connection.vendor, "version": _database_version()},
        "made_at": timezone.now(),
        "packages": packages,
    }


def _database_version() -> str:
    with connection.cursor() as cursor:
        cursor.execute("select sqlite_version()" if connection.vendor == "sqlite" else "show server_version")
        return str(cursor.fetchone()[0])


@register_part("doctor.json", what="What the checks found last, the open issues, and the last repairs.")
def doctor(wish: BundleWish) -> dict[str, Any]:
    states = CheckState.objects.order_by("check_id", "target").values(
        "check_id", "target", "status", "sentence", "evidence", "since", "checked_at", "duration_ms"
    )
    issues = Issue.objects.exclude(state="resolved").values(
        "check_id", "target", "state", "severity", "sentence", "opened_at", "affected_count", "note"
    )
    runs = RepairRun.objects.order_by("-created_at").values(
        "repair_id", "target", "state", "sentence", "changes_count", "error", "created_at"
    )
    return {"checks": list(states[:2000]), "issues": list(issues[:500]), "repairs": list(runs[:50])}


@register_part("processes.json", what="The processes, what they use, and how their logbooks fare.")
def processes(wish: BundleWish) -> dict[str, Any]:
    rows = Process.objects.order_by("-seen_at").values(
        "name", "role", "host", "version", "python", "rss_bytes", "memory_limit_bytes", "oom_kills", "cpu_percent",
        "open_files", "threads", "ready_after_seconds", "started_at", "seen_at", "ended_at", "end_reason", "reach",
    )  # fmt: skip
    logbooks = [{"process": one.process, "role": one.role, "at": one.at, **one.facts} for one in statuses()]
    return {"processes": list(rows[:100]), "logbooks": logbooks}


@register_part("logs", what="The last lines of each process.", many=True)
def logs(wish: BundleWish) -> dict[str, str]:
    names = LogLine.objects.exclude(logger=STATUS_LOGGER).order_by("-id").values_list("role", "process")[:20_000]
    found: dict[str, str] = {}
    for number, (role, process) in enumerate(dict.fromkeys(names)):
        if number >= 20:
            break
        rows = reader.lines(reader.LogFilter(process=process))[: wish.lines]
        text = "\n".join(reader.as_text(line) for line in reader.oldest_first(rows))
        found[f"{role or 'process'}-{number + 1}.txt"] = f"# {process}\n{text}\n"
    return found


@register_part("errors.txt", what="Errors of the last day in groups, with what they mean where that is known.")
def errors(wish: BundleWish) -> str:
    from datetime import timedelta

    rows = []
    for one in groups_since(timedelta(days=1), dictionary=Dictionary())[:200]:
        known = f"\n    {one.signature.meaning} [{one.signature.check}]" if one.signature else "\n    (new error)"
        rows.append(
            f"{one.count:>6} x  {one.first_at:%m-%d %H:%M:%S} - {one.last_at:%m-%d %H:%M:%S}  {one.sample}{known}"
        )
    return "\n".join(rows) or "No errors in the last day."


@register_part("settings.json", what="The settings: where each comes from; secrets only as set or not set.")
def settings_part(wish: BundleWish) -> list[dict[str, Any]]:
    from ops.configuration.masks import shown
    from ops.configuration.schema import configuration

    handed = configuration()
    reading = handed.running()
    return [
        {
            "name": one.name,
            "value": ("set" if reading.values.get(one.name) else "not set")
            if one.secret
            else shown(reading.values.get(one.name)),
            "from": reading.places.get(one.name) or reading.sources.get(one.name, ""),
        }
        for one in handed.settings
    ]


@register_part("services.json", what="The outside servers with their state; credentials only by name.")
def services(wish: BundleWish) -> list[dict[str, Any]]:
    found = []
    for row in Service.objects.order_by("name"):
        try:
            names = sorted(dict(row.credentials or {}))
        except Exception:
            names = ["(unreadable)"]
        found.append(
            {
                "name": row.name,
                "kind": row.kind,
                "base_url": row.base_url,
                "enabled": row.enabled,
                "options": row.options,
                "credentials_set": names,
                "status": row.status,
                "sentence": row.status_sentence,
                "version": row.version,
                "capabilities": row.capabilities,
                "latency_ms": row.latency_ms,
                "checked_at": row.checked_at,
            }
        )
    return found


@register_part("migrations.txt", what="Migrations of the database, applied or not.")
def migrations(wish: BundleWish) -> str:
    from django.db.migrations.loader import MigrationLoader

    loader = MigrationLoader(connection)
    rows = []
    for app, name in sorted(loader.disk_migrations):
        rows.append(f"[{'X' if (app, name) in loader.applied_migrations else ' '}] {app}.{name}")
    unknown = sorted(set(loader.applied_migrations) - set(loader.disk_migrations))
    return "\n".join([*rows, *(f"[?] {app}.{name} (applied, unknown to this version)" for app, name in unknown)])


@register_part("jobs.json", what="The last jobs, those that failed with their reason.")
def jobs(wish: BundleWish) -> list[dict[str, Any]]:
    rows = Job.objects.order_by("-created_at").values(
        "id", "kind", "title", "state", "progress_done", "progress_total", "error", "created_at", "finished_at"
    )
    return [dict(row) for row in rows[:50]]
