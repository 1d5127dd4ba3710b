"""Causes the failures of this package for real: in rows, in files below the data directory, through the adapters themselves."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from typing import Any

from django.conf import settings

from agents.backends.errors import BackendError
from agents.backends.letta.decode import Decoder, error_from_message
from agents.doctor.letta.package import find_site
from agents.models import Agent, AgentState
from agents.services.troubles import DATABASE_ERROR, NO_CREDIT, PROVIDER_REFUSED, UNKNOWN_MESSAGE
from ops.doctor.faults import FaultRefused, register_fault
from ops.models import ManagedBy, Service, Sighting
from ops.services.services import service_save
from ops.services.sightings import sighting_count

ACTOR = "fault"


def free_port() -> int:
    """A port of this machine at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def a_letta() -> Service:
    """The first Letta service. Raises ``FaultRefused`` when there is none."""
    service = Service.objects.filter(kind="letta", enabled=True).order_by("pk").first()
    if service is None:
        raise FaultRefused("There is no Letta service here.")
    return service


def _save(service: Service, **changed: Any) -> Service:
    return service_save(
        actor=ACTOR,
        name=service.name,
        kind=service.kind,
        **{"base_url": service.base_url, "enabled": service.enabled, "managed_by": service.managed_by, **changed},
    )


def _restore(memory: dict[str, Any]) -> None:
    service = Service.objects.filter(name=memory["service"]).first()
    if service is not None:
        _save(
            service,
            **{key: memory[key] for key in ("base_url", "managed_by", "options") if key in memory},
        )


def _target(memory: dict[str, Any]) -> str:
    return str(memory["service"])


def _repair_target(memory: dict[str, Any]) -> str:
    return f"service:{memory['service']}"


# A wrong address: nothing listens there, and the right one is among the known other addresses.


def _move_away() -> dict[str, Any]:
    service = a_letta()
    memory = {
        "service": service.name,
        "base_url": service.base_url,
        "managed_by": str(service.managed_by),
        "options": dict(service.options),
    }
    others = [service.base_url, *(service.options.get("other_addresses") or [])]
    _save(
        service,
        base_url=f"http://127.0.0.1:{free_port()}",
        options={**service.options, "other_addresses": list(dict.fromkeys(others))},
    )
    return memory


register_fault(
    "letta.endpoint_wrong",
    title="Letta's service gets an address at which nothing listens",
    cause=_move_away,
    heal=_restore,
    needs=("letta",),
    target=_target,
    repair_target=_repair_target,
    evidence=("address", "answers"),
)


def _go_dark() -> dict[str, Any]:
    service = a_letta()
    memory = {"service": service.name, "base_url": service.base_url, "options": dict(service.options)}
    _save(service, base_url=f"http://127.0.0.1:{free_port()}", options={**service.options, "other_addresses": []})
    return memory


register_fault(
    "backend.reachable",
    title="Letta's service gets an address at which nothing listens, and nobody knows another one",
    cause=_go_dark,
    heal=_restore,
    needs=("letta",),
    target=_target,
    repair="letta.set_endpoint",
    repair_target=_repair_target,
    repair_params=lambda memory: {"address": memory["base_url"]},
    evidence=("base_url",),
)


# Counters, as the adapter and a turn leave them behind.


def _count(service: Service, kind: str, words: BackendError | str, label: str = "") -> dict[str, Any]:
    agent = Agent.objects.filter(service=service).exclude(state=AgentState.ARCHIVED).order_by("pk").first()
    sample = words.reason if isinstance(words, BackendError) else words
    sighting_count(
        service=service.name,
        kind=kind,
        label=label or (agent.model if agent is not None else ""),
        agent=f"agent:{agent.pk}" if agent is not None else "",
        sample=sample,
    )
    return {"service": service.name, "kind": kind}


def _forget(memory: dict[str, Any]) -> None:
    Sighting.objects.filter(service=memory["service"], kind=memory["kind"]).delete()


def _run_error(kind: str, message: str) -> BackendError:
    """The error that the adapter makes of an error in Letta's stream."""
    return error_from_message({"error_type": kind, "message": message}, "POST /v1/agents/…/messages/stream", ())


def _provider_refuses() -> dict[str, Any]:
    error = _run_error("llm_authentication", "Authentication failed with the LLM model provider.")
    return _count(a_letta(), PROVIDER_REFUSED, error)


register_fault(
    "letta.provider_401",
    title="Letta's model provider has refused its key",
    cause=_provider_refuses,
    heal=_forget,
    needs=("letta",),
    target=_target,
    evidence=("refusals",),
)


def _sqlite_sql() -> dict[str, Any]:
    error = _run_error(
        "internal_error", 'syntax error at or near "OR": INSERT OR IGNORE INTO message_sequence (id, next_val)'
    )
    return _count(a_letta(), DATABASE_ERROR, error)


register_fault(
    "letta.pg_insert_or_ignore",
    title="Letta has answered a message with SQLite's SQL on PostgreSQL",
    cause=_sqlite_sql,
    heal=_forget,
    needs=("letta",),
    target=_target,
    evidence=("database_errors",),
)


def _speak_strangely() -> dict[str, Any]:
    found = list(
        Decoder("POST /v1/agents/…/messages/stream").feed({"message_type": "mood_message", "mood": "x", "id": "m"})
    )
    return _count(a_letta(), UNKNOWN_MESSAGE, getattr(found[0], "sample", ""), getattr(found[0], "type", ""))


register_fault(
    "letta.client_drift",
    title="Letta has sent a message of a type that nobody knows",
    cause=_speak_strangely,
    heal=_forget,
    needs=("letta",),
    target=_target,
    evidence=("seen",),
)


def _spend_everything() -> dict[str, Any]:
    service = (
        Service.objects.filter(enabled=True, agents__isnull=False, agents__paused=False)
        .exclude(kind="homeserver")
        .order_by("pk")
        .first()
    )
    if service is None:
        raise FaultRefused("There is no service with agents here.")
    return _count(service, NO_CREDIT, _run_error("llm_insufficient_credits", "Insufficient credits for LLM request."))


register_fault(
    "llm.quota",
    title="The model provider's credit is used up",
    cause=_spend_everything,
    heal=_forget,
    needs=("backend",),
    target=_target,
    repair_target=_repair_target,
    evidence=("refusals_last_hour", "agents"),
)


# Files.


def _patch_package() -> dict[str, Any]:
    """A copy of the installed package, one file of which is patched: the installed one is left alone."""
    service = a_letta()
    site, why = find_site(service)
    if site is None:
        raise FaultRefused(f"Where Letta is installed is not known: {why}")
    folder = Path(settings.DATA_DIR) / "doctor" / "patched-letta"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copytree(site / "letta", folder / "letta", ignore=shutil.ignore_patterns("__pycache__"))
    for info in site.glob("letta-*.dist-info"):
        shutil.copytree(info, folder / info.name)
    with (folder / "letta" / "orm" / "message.py").open("a", encoding="utf-8") as file:
        file.write("\n# patched by hand\n")
    memory = {"service": service.name, "options": dict(service.options), "folder": str(folder)}
    _save(service, options={**service.options, "package_path": str(folder)})
    return memory


def _unpatch(memory: dict[str, Any]) -> None:
    _restore(memory)
    shutil.rmtree(memory["folder"], ignore_errors=True)


register_fault(
    "letta.local_patch_lost",
    title="A file of the installed Letta was changed by hand",
    cause=_patch_package,
    heal=_unpatch,
    needs=("letta",),
    target=_target,
    evidence=("changed", "version"),
)


# Letta's database.


def _lose_database() -> dict[str, Any]:
    service = a_letta()
    credentials = dict(service.credentials or {})
    if credentials.get("database_url"):
        raise FaultRefused(
            "The address of Letta's database is set here; it would have to be written down to bring it back."
        )
    address = f"postgresql://letta:a-password@127.0.0.1:{free_port()}/letta"
    # As if an operator had entered it: what the environment manages is not corrected from here.
    _save(service, credentials={**credentials, "database_url": address}, managed_by=ManagedBy.OPERATOR)
    return {"service": service.name, "managed_by": str(service.managed_by)}


def _forget_database(memory: dict[str, Any]) -> None:
    service = Service.objects.filter(name=memory["service"]).first()
    if service is not None:
        kept = {key: value for key, value in (service.credentials or {}).items() if key != "database_url"}
        _save(service, credentials=kept, managed_by=memory["managed_by"])


register_fault(
    "letta.db_unreachable",
    title="Nothing listens at the address of Letta's database",
    cause=_lose_database,
    heal=_forget_database,
    needs=("letta",),
    target=_target,
    repair="config.edit",
    repair_target=_repair_target,
    # The wrong address is taken away; entering the right one is the operator's.
    repair_params=lambda memory: {"field": "credentials.database_url", "value": ""},
    evidence=("host", "port", "cause"),
)
