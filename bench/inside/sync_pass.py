"""Passes of sync in a process of their own: statements counted, time and memory taken."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx

from bench.inside.setup import start
from bench.measure import peak_rss_mb

_VERBS = ("INSERT", "UPDATE", "DELETE", "SELECT")


def _table(sql: str) -> str:
    words = sql.replace('"', "").split()
    after = {"INSERT": "INTO", "DELETE": "FROM", "SELECT": "FROM"}.get(words[0].upper())
    if after is None:
        return words[1]
    upper = [word.upper() for word in words]
    return words[upper.index(after) + 1] if after in upper else ""


def main(letta: str, passes: int = 3) -> dict[str, Any]:
    """``passes`` passes, each preceded by a reading of the bare pages (the floor)."""
    from django.db import connection
    from django.db.backends.signals import connection_created

    from agents.services.sync import sync_agents

    statements: Counter[tuple[str, str]] = Counter()

    def count(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        verb = next((verb for verb in _VERBS if sql.lstrip().upper().startswith(verb)), "")
        if verb:
            statements[verb, _table(sql)] += 1
        return execute(sql, params, many, context)

    # Every connection that any thread opens counts.
    connection_created.connect(lambda connection, **_: connection.execute_wrappers.append(count), weak=False)
    connection.close()
    memory_before = peak_rss_mb()
    rounds: list[dict[str, Any]] = []
    for _ in range(passes):
        floor = _read_pages(letta)
        statements.clear()
        began = time.monotonic()
        # As the schedule does it, every time sooner than it would.
        report = sync_agents(actor="bench", trigger="beat")
        seconds = time.monotonic() - began
        rounds.append(
            {
                "seconds": seconds,
                "pages_alone": floor,
                "state": str(report.state),
                "planned": report.plan.counts,
                "looked": report.looked.get("mappings", 0),
                "findings": [finding.sentence for finding in report.findings],
                "statements": {f"{verb} {table}": number for (verb, table), number in sorted(statements.items())},
            }
        )
    return {"rounds": rounds, "peak_mb": peak_rss_mb(), "before_mb": memory_before}


def _read_pages(letta: str) -> float:
    """The same pages with a bare HTTP client: read, decoded, forgotten."""
    began = time.monotonic()
    params: dict[str, Any] = {"limit": 200, "order": "asc", "order_by": "created_at", "include_relationships": "tags"}
    with httpx.Client(base_url=letta, trust_env=False) as client:
        while page := client.get("/v1/agents/", params=params).json():
            params["after"] = page[-1]["id"]
    return time.monotonic() - began


if __name__ == "__main__":
    start(main)
