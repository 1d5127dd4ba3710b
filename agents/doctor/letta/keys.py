"""``llm.key_missing`` and ``llm.key_invalid``: the keys of model providers, tried with a request that costs nothing.

Switchboard never dies for want of a key: it starts, its demo agents answer, and these checks say what to enter where.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from agents.doctor.letta.common import ADDRESSES, ask_provider, key_of, named, provider_targets, shown
from ops.doctor.guides import Guide, GuideStep, register_guide
from ops.models import Service
from ops.registry import CheckOutcome, Fix, register_check
from ops.services.services import service_test
from ops.words import counted

# Hosts that never answer without a key.
_NEED_A_KEY = (
    "api.openai.com",
    "api.anthropic.com",
    "openrouter.ai",
    "api.groq.com",
    "api.mistral.ai",
    "api.together.xyz",
    "api.deepseek.com",
    "generativelanguage.googleapis.com",
)
_PLACES = {
    "sk-ant-": ("api.anthropic.com", "Anthropic"),
    "sk-or-": ("openrouter.ai", "OpenRouter"),
    "gsk_": ("api.groq.com", "Groq"),
    "sk-proj-": ("api.openai.com", "OpenAI"),
}
_VARIABLES = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}


@register_check(
    "llm.key_missing",
    title="Every model provider has its key",
    tags=["llm", "config", "start"],
    interval=120,
    severity="critical",
    timeout=15,
    scope="service",
    targets=provider_targets,
    depends_on=["db.reachable"],
    repairs=["config.edit"],
)
def key_missing(target: str) -> CheckOutcome:
    """Red when no key is stored for a provider that does not answer without one. A local server (Ollama, vLLM) needs none."""
    service = named(target)
    if service is None:
        return CheckOutcome("skip", "The service is switched off or was removed.")
    if key_of(service):
        return CheckOutcome("pass", "A key is stored.")
    host = urlsplit(service.base_url or ADDRESSES[service.kind]).hostname or ""
    evidence = {"host": host, "variable": _VARIABLES[service.kind]}
    if host not in _NEED_A_KEY:
        answer = ask_provider(service.kind, service.base_url, "", name=service.name)
        if answer.code == "ok":
            return CheckOutcome("pass", f"{host} needs no key.", evidence)
        if answer.code not in ("refused", "forbidden"):
            return CheckOutcome(
                "skip", f"No key is stored; whether {host} needs one cannot be told: {answer.sentence}", evidence
            )
    # backend.reachable is not asked while this is red: the service's lamp is set here.
    service_test(service=service, actor="system")
    return CheckOutcome(
        "fail",
        f"{service.name} has no key, and {host} does not answer without one. Enter it in the service, or set "
        f"{_VARIABLES[service.kind]}; everything else goes on working meanwhile.",
        evidence,
        fix=_fix(service),
    )


@register_check(
    "llm.key_invalid",
    title="Model providers accept their keys",
    tags=["llm", "config"],
    interval=120,
    severity="error",
    timeout=15,
    scope="service",
    targets=provider_targets,
    depends_on=["db.reachable", "llm.key_missing"],
    repairs=["config.edit"],
)
def key_invalid(target: str) -> CheckOutcome:
    """Asks for the list of models with the stored key: refused (401), not allowed (403), or accepted. What else goes wrong is
    ``backend.reachable``'s. Providers do not say when a key expires.
    """
    service = named(target)
    if service is None:
        return CheckOutcome("skip", "The service is switched off or was removed.")
    key = key_of(service)
    if not key:
        return CheckOutcome("skip", "No key is stored, and none is needed.")
    evidence: dict[str, Any] = {"shown_as": shown(key), "length": len(key)}
    if service.last_ok_at is not None:
        evidence["last_ok"] = service.last_ok_at.isoformat(timespec="seconds")
    flaw = flaw_of(key, service)
    if flaw:
        evidence["flaw"] = flaw
    answer = ask_provider(service.kind, service.base_url, key, name=service.name)
    evidence["answer"] = answer.code
    if answer.code in ("refused", "forbidden") or (answer.code == "odd" and flaw):
        service_test(service=service, actor="system")
        what = "is refused by" if answer.code != "forbidden" else "is known to, but may not be used for this at,"
        hint = f" {flaw}" if flaw else " It may have been revoked, or belong to another provider."
        return CheckOutcome(
            "fail", f"The key {shown(key)} of {service.name} {what} its provider.{hint}", evidence, fix=_fix(service)
        )
    if answer.code == "ok":
        return CheckOutcome(
            "pass", f"The provider accepts the key and offers {counted(len(answer.models), 'model')}.", evidence
        )
    return CheckOutcome("skip", f"Whether the key is good cannot be told now: {answer.sentence}", evidence)


def flaw_of(key: str, service: Service) -> str:
    """What is wrong with how a key looks, in a sentence; "" when nothing is."""
    if key != key.strip() or any(char.isspace() for char in key):
        return "There is white space in it: copy it again without line breaks."
    if key[:1] in "\"'" or key[-1:] in "\"'":
        return "It stands in quotation marks: store it without them."
    if key.lower().startswith("bearer "):
        return "It begins with 'Bearer': store only what follows."
    host = urlsplit(service.base_url or ADDRESSES[service.kind]).hostname or ""
    for prefix, (home, name) in _PLACES.items():
        if key.startswith(prefix):
            # Gateways take any provider's key, so only a known provider's own address is wrong for another one's.
            return f"It looks like a key of {name}, and {host} is not." if host in _NEED_A_KEY and host != home else ""
    return ""


def _fix(service: Service) -> Fix:
    return Fix("config.edit", f"service:{service.name}", {"field": "credentials.api_key"})


@register_guide("llm.key_missing", "llm.key_invalid")
def guide(target: str, evidence: dict[str, Any]) -> Guide:
    """Where a key may be entered, with the variable of this service's kind."""
    service = named(target)
    kind = service.kind if service is not None else "anthropic"
    address = (service.base_url if service is not None else "") or ADDRESSES.get(kind, "")
    address = address.rstrip("/").removesuffix("/v1")
    variable = _VARIABLES.get(kind, "ANTHROPIC_API_KEY")
    header = (
        '-H "x-api-key: $KEY" -H "anthropic-version: 2023-06-01"'
        if kind == "anthropic"
        else '-H "Authorization: Bearer $KEY"'
    )
    return Guide(
        "Enter the provider's key",
        "The provider answers only with a key that it knows. It is stored encrypted and shown to nobody.",
        (
            GuideStep(
                "Try the key by hand: 200 means that it is good.",
                f"curl -s -o /dev/null -w '%{{http_code}}\\n' {header} {address}/v1/models",
            ),
            GuideStep(
                f"Enter it in the service {target or kind} (Services → {target or kind} → Key or token) and press 'Test connection'."
            ),
            GuideStep(
                "Or set it in the environment, when the environment manages the service, and restart.",
                f"{variable}=…",
                "ini",
                ".env",
            ),
        ),
    )
