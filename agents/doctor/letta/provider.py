"""``letta.provider_401``: Letta's model provider refuses it, or Letta has no models: is the key bad, or has Letta not got it?"""

from __future__ import annotations

from typing import Any

from agents.backends.errors import BackendError
from agents.backends.letta import LettaBackend
from agents.doctor.letta.common import ask_provider, letta_targets, named, shown
from agents.doctor.letta.process import server_process
from agents.doctor.letta.sightings import standing
from agents.services.backends import backend_for
from agents.services.troubles import PROVIDER_REFUSED
from ops.adapters.base import adapter_for, part_of
from ops.doctor.guides import Guide, GuideStep, register_guide
from ops.models import Service
from ops.registry import CheckOutcome, Fix, register_check
from ops.words import counted

# Letta's own free model, which needs no key: with it alone no provider is loaded.
_OWN = "letta/"
_VARIABLES = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}


@register_check(
    "letta.provider_401",
    title="Letta's model provider accepts Letta's key",
    tags=["letta", "llm"],
    interval=180,
    severity="error",
    timeout=25,
    scope="service",
    targets=letta_targets,
    depends_on=["backend.reachable"],
)
def provider_401(target: str) -> CheckOutcome:
    """Compares three witnesses: the models that Letta lists, what its provider said to its agents' messages, and the provider
    itself, asked directly with the key that is stored here for that purpose (field 'Provider key'). Letta 0.16 keeps its list of
    models in its database, so the list alone proves nothing about the key. A restart is proposed where something here may
    restart Letta; entering the key into its environment is the operator's, and the guide has the exact lines.
    """
    service = named(target)
    if service is None:
        return CheckOutcome("skip", "The service is switched off or was removed.")
    process, _ = server_process(service.base_url)
    models, listed = _models(service)
    refused = standing(service, PROVIDER_REFUSED, process)
    evidence: dict[str, Any] = {"models": len(models), "refusals": sum(row.count for row in refused)}
    kind, url, key = provider_of(service)
    if process is not None:
        evidence["variable"] = (
            f"{_VARIABLES[kind]} {'is set' if _VARIABLES[kind] in process.environment else 'is not set'}"
        )
    if not listed and models and not refused:
        return CheckOutcome(
            "pass", f"Letta offers {counted(len(models), 'model')}, and none of them refused it.", evidence
        )
    if refused:
        evidence["sample"] = refused[0].sample
        what = "Letta's model provider refuses its key"
    elif listed:
        evidence["said"] = listed
        what = "Letta cannot list its models"
    else:
        what = "Letta offers no model of any provider"
    if not key:
        return CheckOutcome(
            "fail",
            f"{what}: it has no good key. Give Letta the key and restart it. (With the provider's key stored in the service, this "
            "check tells a bad key from one that Letta has not got.)",
            evidence,
            fix=_restart(service),
        )
    answer = ask_provider(kind, url, key, name=service.name)
    evidence |= {"direct": answer.code, "shown_as": shown(key), "direct_models": len(answer.models)}
    if answer.code == "ok":
        return CheckOutcome(
            "fail",
            f"{what}, and the key that is stored here is good: Letta does not have it. Set it in Letta's environment and restart Letta.",
            evidence,
            fix=_restart(service),
        )
    if answer.code in ("refused", "forbidden"):
        return CheckOutcome(
            "fail",
            f"{what}, and the provider refuses the key {shown(key)} that is stored here too: it takes another key.",
            evidence,
            fix=Fix("config.edit", f"service:{service.name}", {"field": "credentials.provider_key"}),
        )
    return CheckOutcome(
        "fail", f"{what}. Asked directly, the provider gave no clear answer: {answer.sentence}", evidence
    )


def _restart(service: Service) -> Fix | None:
    """A restart, where the means for it were named (a unit, a container)."""
    part = part_of(f"service:{service.name}")
    if adapter_for(part).why_not(part):
        return None
    return Fix("service.restart", f"service:{service.name}", {"force": True})


def provider_of(service: Service) -> tuple[str, str, str]:
    """Kind, address and key of the provider that this Letta uses, as stored here; the key is "" when none is."""
    options, credentials = service.options or {}, service.credentials or {}
    url = str(options.get("provider_url") or "")
    kind = (
        "anthropic"
        if "anthropic" in url or str(credentials.get("provider_key", "")).startswith("sk-ant-")
        else "openai"
    )
    return kind, url, str(credentials.get("provider_key") or "")


def _models(service: Service) -> tuple[list[str], str]:
    """The models of providers that Letta offers, and what went wrong when they could not be listed."""
    backend = backend_for(service)
    if not isinstance(backend, LettaBackend):
        return [], "not a Letta server"
    try:
        return [handle for handle in backend.list_models() if not handle.startswith(_OWN)], ""
    except BackendError as error:
        return [], error.reason


@register_guide("letta.provider_401")
def guide(target: str, evidence: dict[str, Any]) -> Guide:
    """The exact block for Letta's environment."""
    service = named(target)
    kind, url, _ = provider_of(service) if service is not None else ("openai", "", "")
    variable = _VARIABLES[kind]
    block = [f"{variable}=the-key"]
    if url and kind == "openai":
        base = url.rstrip("/")
        block.append(f"OPENAI_BASE_URL={base if base.endswith('/v1') else base + '/v1'}")
    compose = "environment:\n" + "\n".join(f"  {line.replace('=', ': ', 1)}" for line in block)
    address = service.base_url.rstrip("/").removesuffix("/v1") if service is not None else "http://127.0.0.1:8283"
    why = "Letta asks its model provider with a key of its own, from its own environment. Switchboard cannot hand it over."
    if evidence.get("direct") == "ok":
        why = "The key is good, and Letta does not have it: it must stand in the environment of Letta's own process."
    return Guide(
        "Give Letta the provider's key",
        why,
        (
            GuideStep("In a compose file:", compose, "yaml", "compose.yaml, service letta"),
            GuideStep("Or in an env file:", "\n".join(block), "ini", "Letta's .env, or EnvironmentFile= of its unit"),
            GuideStep("Restart Letta: it reads the key only when it starts."),
            GuideStep(
                "Its list of models must hold more than letta/letta-free.",
                f"curl -s {address}/v1/models/ | head -c 600",
            ),
        ),
    )
