"""The operator's pages about agents and the lists of the API, asked one after the other through the whole of Django."""

from __future__ import annotations

import time
from typing import Any

from bench.inside.setup import start


def main(rounds: int) -> dict[str, Any]:
    """For each page its times in milliseconds, its number of queries and its size in bytes."""
    from django.db import connection, reset_queries
    from django.test import Client

    from chat.models import Person

    operator = Person.objects.filter(username="bench").first() or Person.objects.create_user(
        "bench", password="x" * 20, is_staff=True
    )
    client = Client(SERVER_NAME="127.0.0.1")
    client.force_login(operator)
    client.get("/admin/")
    found: dict[str, Any] = {}
    for name, address in _addresses().items():
        connection.force_debug_cursor = True
        reset_queries()
        answer = client.get(address)
        queries = len(connection.queries)
        connection.force_debug_cursor = False
        assert answer.status_code == 200, f"{name} ({address}): {answer.status_code}"
        times = []
        for _ in range(rounds):
            began = time.perf_counter()
            client.get(address)
            times.append((time.perf_counter() - began) * 1000)
        found[name] = {"ms": times, "queries": queries, "bytes": len(answer.content)}
    return found


def _addresses() -> dict[str, str]:
    from django.contrib import admin
    from django.urls import reverse

    from agents.models import Agent, Drift, Mapping, MappingImport, Room, SyncRun
    from ops.models import AuditEvent, Issue, Service

    admin.autodiscover()
    number = Agent.objects.count()
    middle = Agent.objects.order_by("pk")[number // 2]
    found = {"dashboard": reverse("admin:index")}
    lists = {
        "agents_agent": ("connection=incomplete", "connection=trouble", "answers=quiet", "drift=open"),
        "agents_mapping": ("connection=incomplete", "connection=trouble", "drift=open"),
        "agents_account": ("way__exact=session",),
        "agents_room": ("kind__exact=agent", "in_space__exact=0"),
        "agents_drift": ("standing=all", "kind__exact=room.name"),
        "agents_syncrun": (),
        "agents_mappingimport": (),
        "ops_auditevent": ("about=agent", "target_type=agents.agent"),
        "ops_issue": ("state=resolved",),
        "ops_service": (),
    }
    known = {f"{model._meta.app_label}_{model._meta.model_name}" for model in admin.site._registry}
    for name, filters in lists.items():
        if name not in known:
            continue
        address, short = reverse(f"admin:{name}_changelist"), name.partition("_")[2]
        found[f"{short} list"] = address
        found[f"{short} list, searched"] = f"{address}?q={middle.name[-4:]}"
        found[f"{short} list, nothing found"] = f"{address}?q=nothing-of-this-name"
        found[f"{short} list, deep"] = f"{address}?p={number // 100}"
        for one in filters:
            found[f"{short} list, {one}"] = f"{address}?{one}"
        for column in range(1, 8):
            found[f"{short} list, sorted {column}"] = f"{address}?o=-{column}"
    rows: dict[str, Any] = {
        "agents_agent": middle.pk,
        "agents_mapping": Mapping.objects.order_by("pk").first(),
        "agents_room": Room.objects.order_by("pk").first(),
        "agents_drift": Drift.objects.filter(mended_at=None).first(),
        "agents_syncrun": SyncRun.objects.exclude(plan=[]).first(),
        "agents_mappingimport": MappingImport.objects.first(),
        "ops_auditevent": AuditEvent.objects.first(),
        "ops_issue": Issue.objects.filter(state="open").first(),
        "ops_service": Service.objects.get(name="homeserver"),
    }
    for name, row in rows.items():
        if name in known and row is not None and name != "agents_mapping":
            found[f"{name.partition('_')[2]} page"] = reverse(f"admin:{name}_change", args=[getattr(row, "pk", row)])
    found["search"] = reverse("admin:search") + f"?s={middle.name}&extended=1"
    for place in ("agents", "mappings", "rooms", "drift", "imports", "sync/runs", "issues", "audit"):
        found[f"API {place}"] = f"/api/v1/{place}?limit=200"
    found["API agents, searched"] = "/api/v1/agents?search=brarian"
    from django.urls import Resolver404, resolve

    def known_place(address: str) -> bool:
        try:
            resolve(address.partition("?")[0])
        except Resolver404:
            return False
        return True

    return {name: address for name, address in found.items() if known_place(address)}


if __name__ == "__main__":
    start(main)
