"""``letta.client_drift``: does the server still speak as the adapter listens?

Two witnesses. The adapter names every message type that it does not know, and each answer with one is counted. And the server's own
description (``/openapi.json``, FastAPI) is compared with what the adapter uses; it is read again when the version changes.
"""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any

from django.utils import timezone

from agents.backends.errors import BackendError
from agents.backends.letta import LettaBackend
from agents.backends.letta.decode import PASSED_OVER, READ
from agents.doctor.letta.common import letta_targets, named
from agents.services.backends import backend_for
from agents.services.troubles import UNKNOWN_MESSAGE
from ops.doctor.guides import Guide, GuideStep, register_guide
from ops.models import Service, Sighting
from ops.registry import CheckOutcome, register_check
from ops.words import counted

WITHIN = timedelta(hours=24)
KNOWN_GOOD = "0.16.8"
_AGAIN_AFTER = 6 * 3600.0

# What the adapter asks for: (path, method).
CALLS = (
    ("/v1/health/", "get"),
    ("/v1/agents/", "get"),
    ("/v1/agents/{agent_id}", "get"),
    ("/v1/agents/{agent_id}", "patch"),
    ("/v1/agents/{agent_id}/messages", "get"),
    ("/v1/agents/{agent_id}/messages/stream", "post"),
    ("/v1/agents/{agent_id}/messages/cancel", "post"),
    ("/v1/agents/{agent_id}/core-memory/blocks", "get"),
    ("/v1/agents/{agent_id}/core-memory/blocks/{block_label}", "patch"),
    ("/v1/runs/{run_id}", "get"),
    ("/v1/models/", "get"),
)
# What it reads out of messages: (schema, any of these properties).
FIELDS = (
    ("AssistantMessage", ("content",)),
    ("ReasoningMessage", ("reasoning",)),
    ("ToolCallMessage", ("tool_call", "tool_calls")),
    ("ToolReturnMessage", ("tool_return", "tool_returns")),
    ("LettaStopReason", ("stop_reason",)),
    ("LettaUsageStatistics", ("prompt_tokens",)),
    ("LettaErrorMessage", ("error_type",)),
)

_read: dict[tuple[str, str], tuple[float, dict[str, list[str]] | None]] = {}
_lock = threading.Lock()


@register_check(
    "letta.client_drift",
    title="Letta speaks as its adapter listens",
    tags=["letta"],
    interval=300,
    severity="error",
    timeout=30,
    scope="service",
    targets=letta_targets,
    depends_on=["backend.reachable"],
)
def client_drift(target: str) -> CheckOutcome:
    """Red when the server lacks a call or field that the adapter uses, or says things in answers that the adapter does not know;
    a warning when its description merely names unknown message types.
    """
    service = named(target)
    if service is None:
        return CheckOutcome("skip", "The service is switched off or was removed.")
    seen = unknown_messages(service.name)
    described = description_of(service)
    evidence: dict[str, Any] = {"version": service.version, "seen": seen[:10], "described": described is not None}
    if described is not None:
        evidence |= described
    if seen:
        worst = seen[0]
        return CheckOutcome(
            "fail",
            f"Unknown message type {worst['type']!r} was seen in {counted(worst['answers'], 'answer')} within a day. "
            "Its text is shown where an "
            f"answer has no other; whatever else it says is lost. Letta {service.version or 'here'} is newer than its adapter.",
            evidence,
        )
    if described is None:
        return CheckOutcome(
            "pass", "No unknown message type was seen within a day. The server does not describe itself.", evidence
        )
    lacking = [*described["missing_calls"], *described["missing_fields"]]
    if lacking:
        return CheckOutcome(
            "fail",
            f"Letta {service.version} lacks what the adapter uses: {', '.join(lacking[:5])}. Answers may be lost; use {KNOWN_GOOD}.",
            evidence,
        )
    if described["unknown_types"]:
        return CheckOutcome(
            "warn",
            f"Letta {service.version} names message types that the adapter does not know: {', '.join(described['unknown_types'])}. "
            "None was seen in an answer yet.",
            evidence,
        )
    return CheckOutcome(
        "pass",
        f"Letta {service.version} has all {len(CALLS)} calls and {len(FIELDS)} fields that are used, and no unknown message type.",
        evidence,
    )


def unknown_messages(service: str) -> list[dict[str, Any]]:
    """Unknown message types of the last day: ``[{type, answers, since, sample}]``, the most frequent first."""
    rows = Sighting.objects.filter(
        service=service, kind=UNKNOWN_MESSAGE, settled_at=None, last_at__gt=timezone.now() - WITHIN
    ).values_list("label", "count", "first_at", "sample")
    found: dict[str, dict[str, Any]] = {}
    for label, count, first_at, sample in rows:
        entry = found.setdefault(label, {"type": label, "answers": 0, "since": first_at, "sample": sample})
        entry["answers"] += count
        entry["since"] = min(entry["since"], first_at)
    for entry in found.values():
        entry["since"] = entry["since"].isoformat(timespec="seconds")
    return sorted(found.values(), key=lambda entry: -entry["answers"])


def description_of(service: Service) -> dict[str, list[str]] | None:
    """``{missing_calls, missing_fields, unknown_types}`` by the server's description; None when it has none. Asked rarely."""
    place = (service.base_url, service.version)
    with _lock:
        held = _read.get(place)
    if held is not None and time.monotonic() - held[0] < _AGAIN_AFTER:
        return held[1]
    backend = backend_for(service)
    if not isinstance(backend, LettaBackend):
        return None
    try:
        document = backend.server.json("GET", "/openapi.json", read_seconds=20)
    except BackendError as error:
        if error.status != 404:
            return None  # asked again at the next run
        document = None
    found = compare(document) if isinstance(document, dict) and document.get("paths") else None
    with _lock:
        _read[place] = (time.monotonic(), found)
    return found


def compare(document: dict[str, Any]) -> dict[str, list[str]]:
    """What the adapter uses and the description lacks, and message types that it names and the adapter does not know."""
    paths = document.get("paths") or {}
    schemas = (document.get("components") or {}).get("schemas") or {}
    missing_calls = [f"{method.upper()} {path}" for path, method in CALLS if method not in (paths.get(path) or {})]
    missing_fields = []
    for schema, names in FIELDS:
        properties = (schemas.get(schema) or {}).get("properties") or {}
        if not any(name in properties for name in names):
            missing_fields.append(f"{schema}.{names[0]}")
    types = {
        str(kind)
        for union in ("LettaStreamingResponse", "LettaMessageUnion")
        for kind in ((schemas.get(union) or {}).get("discriminator") or {}).get("mapping") or {}
    }
    return {
        "missing_calls": missing_calls,
        "missing_fields": missing_fields,
        "unknown_types": sorted(types - READ - PASSED_OVER),
    }


def forget_descriptions() -> None:
    """Read them again at the next question: for tests."""
    with _lock:
        _read.clear()


@register_guide("letta.client_drift")
def guide(target: str, evidence: dict[str, Any]) -> Guide:
    """Pin the server to the version that is known to work, until the adapter knows the newer one."""
    version = evidence.get("version") or "the newer version"
    return Guide(
        "Pin Letta to a version that the adapter knows",
        f"Letta {version} says things that this version of Switchboard does not understand. Plain text of unknown messages is shown "
        "as the answer where there is no other, so nobody waits in silence; tool calls and reasoning in them are not understood.",
        (
            GuideStep("In a Python environment:", f'pip install "letta[server]=={KNOWN_GOOD}"'),
            GuideStep(
                "Or in a compose file:", f"image: letta/letta:{KNOWN_GOOD}", "yaml", "compose.yaml, service letta"
            ),
            GuideStep("Restart Letta. Back up its database first: an older version may not read a newer one's tables."),
            GuideStep("Or upgrade Switchboard; its change log says which versions of Letta it knows."),
        ),
    )
