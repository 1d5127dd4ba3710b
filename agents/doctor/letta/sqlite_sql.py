"""``letta.pg_insert_or_ignore``: Letta speaks SQLite's SQL to PostgreSQL, because nobody told it that it has PostgreSQL.

From Letta's ``settings.py`` and ``orm/message.py`` (read at 0.14.0 to 0.16.8): the engine counts as PostgreSQL only when
``LETTA_PG_URI`` (or all of ``LETTA_PG_DB, _USER, _PASSWORD, _HOST, _PORT``, or the file ``~/.letta/pg_uri``) is given, while the
connection falls back to ``postgresql://letta:letta@localhost:5432/letta``. Without the variable the server therefore connects and
then fails with every write: 0.16.8 answers ``500 {"detail": "A database error occurred."}`` when an agent is made, while it lists
agents and calls itself healthy (seen on a real server). Installed without its ``sqlite`` extra it does not start at all. The remedy is the variable, not a patch of site-packages.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agents.doctor.letta.common import letta_targets, named
from agents.doctor.letta.database import read_uri, uri_of
from agents.doctor.letta.process import ServerProcess, server_process
from agents.doctor.letta.sightings import WITHIN, standing
from agents.services.troubles import DATABASE_ERROR, SQLITE_MARKS
from ops.doctor.guides import Guide, GuideStep, register_guide
from ops.registry import CheckOutcome, register_check
from ops.words import counted

_PARTS = frozenset({"LETTA_PG_DB", "LETTA_PG_USER", "LETTA_PG_PASSWORD", "LETTA_PG_HOST", "LETTA_PG_PORT"})


@register_check(
    "letta.pg_insert_or_ignore",
    title="Letta knows that its database is PostgreSQL",
    tags=["letta", "database", "config"],
    interval=300,
    severity="critical",
    timeout=15,
    scope="service",
    targets=letta_targets,
    depends_on=["backend.reachable"],
)
def pg_insert_or_ignore(target: str) -> CheckOutcome:
    """Two witnesses: database errors in what Letta answered to messages, and the environment of its process where that can be
    looked at. No canary agent is made: a check must not create anything. The remedy lies in Letta's own environment, which nobody
    can edit from here: so there is a guide with the exact lines, and no repair.
    """
    service = named(target)
    if service is None:
        return CheckOutcome("skip", "The service is switched off or was removed.")
    process, why = server_process(service.base_url)
    told = None if process is None else knows_postgres(process)
    errors = standing(service, DATABASE_ERROR, process)
    signed = [row for row in errors if any(mark in row.sample.lower() for mark in SQLITE_MARKS)]
    count = sum(row.count for row in errors)
    evidence: dict[str, Any] = {
        "variable_known": told is not None,
        "LETTA_PG_URI": {True: "is set", False: "is not set", None: f"unknown: {why}"}[told],
        "database_errors": count,
    }
    if errors:
        evidence["sample"] = errors[0].sample
    if signed or (errors and told is False):
        return CheckOutcome(
            "fail",
            "Letta runs SQLite SQL against PostgreSQL: LETTA_PG_URI is not set in its environment. No message is answered until it "
            "is set and Letta restarted.",
            evidence,
        )
    if told is False:
        return CheckOutcome(
            "fail",
            "LETTA_PG_URI is not set in the environment of Letta's process: it takes its database for SQLite, and writing messages "
            "to PostgreSQL fails. Set it and restart Letta.",
            evidence,
        )
    if errors:
        return CheckOutcome(
            "warn",
            f"Letta's database refused {counted(count, 'statement')} within {counted(WITHIN.seconds // 3600, 'hour')}. "
            + (
                "LETTA_PG_URI is set, so the reason is in Letta's log."
                if told
                else "Look whether LETTA_PG_URI is set for Letta."
            ),
            evidence,
        )
    if told is None:
        return CheckOutcome(
            "pass", f"No database error was seen in Letta's answers. Its environment is unknown: {why}", evidence
        )
    return CheckOutcome("pass", "LETTA_PG_URI is set, and no database error was seen in Letta's answers.", evidence)


def knows_postgres(process: ServerProcess) -> bool:
    """Whether this Letta process was told that it has PostgreSQL."""
    if "LETTA_PG_URI" in process.environment or process.environment >= _PARTS:
        return True
    try:
        return bool(process.home) and bool((Path(process.home) / ".letta" / "pg_uri").read_text().strip())
    except OSError:
        return False


@register_guide("letta.pg_insert_or_ignore")
def guide(target: str, evidence: dict[str, Any]) -> Guide:
    """The exact variable for this installation, in the three places where it may have to stand."""
    service = named(target)
    uri = "postgresql://letta:PASSWORD@127.0.0.1:5432/letta"
    if service is not None and uri_of(service):
        try:
            known = read_uri(uri_of(service))
            host = "" if known.host.startswith("/") else f"{known.host}:{known.port}"
            tail = f"?host={known.host}" if known.host.startswith("/") else ""
            uri = f"postgresql://{known.user}:PASSWORD@{host or 'localhost:5432'}/{known.name}{tail}"
        except ValueError:
            pass
    port = urlsplit(service.base_url).port or 8283 if service is not None else 8283
    return Guide(
        "Tell Letta that it has PostgreSQL",
        "Without LETTA_PG_URI Letta connects to PostgreSQL and still writes SQLite's 'INSERT OR IGNORE'. Upgrading does not change "
        "that, and a patch of site-packages is lost with the next upgrade.",
        (
            GuideStep(
                "In a compose file:", f'environment:\n  LETTA_PG_URI: "{uri}"', "yaml", "compose.yaml, service letta"
            ),
            GuideStep(
                "Or in an env file or systemd unit:",
                f"LETTA_PG_URI={uri}",
                "ini",
                "Letta's .env, or Environment= of its unit",
            ),
            GuideStep("Or when you start it by hand:", f"LETTA_PG_URI='{uri}' letta server --port {port}"),
            GuideStep("Restart Letta, then press 'Check again'. Write to an agent: it answers."),
        ),
    )
