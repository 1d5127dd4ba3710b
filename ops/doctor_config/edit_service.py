"""Corrects one value of a service's row: address, switch, option or credential."""

from __future__ import annotations

import copy
from typing import Any

from django.core.exceptions import ValidationError

from ops.configuration import edit
from ops.configuration.masks import mask, mask_address
from ops.configuration.placeholders import why_placeholder
from ops.configuration.schema import configuration
from ops.doctor.repairs import Change, Plan, RepairFailed, RepairRefused, RepairWork
from ops.models import ManagedBy, Service
from ops.registry import service_kind
from ops.secrets import SecretUnreadable
from ops.services.services import service_problems, service_save, service_test, service_try

_SECRET = "credentials"  # noqa: S105 - a field's name


def find(name: str) -> Service | None:
    """The service of this name, or with this number."""
    found = Service.objects.filter(name=name).first()
    return found or (Service.objects.filter(pk=int(name)).first() if name.isdigit() else None)


def plan(work: RepairWork, name: str) -> Plan:
    """Raises ``RepairRefused`` when the environment manages it, or when the new value does not work."""
    service = find(name)
    if service is None:
        raise RepairRefused(f"There is no service {name}.")
    field = str(work.params.get("field") or "base_url").strip()
    value = _value(service, field, work)
    before = _now(service, field)
    if before == value:
        return Plan(f"{service.name}: {field} has this value already.", data={"half": "service"})
    if service.managed_by == ManagedBy.ENVIRONMENT:
        raise RepairRefused(_line(service, field, value))
    tried = _try(service, field, value)
    if not work.params.get("override"):
        why = why_placeholder(value)
        if why:
            raise RepairRefused(f"That is a placeholder: {why}.")
        if tried:
            raise RepairRefused(
                f"The test with the new value fails: {tried} Tick the override to save it all the same."
            )
    change = Change(f"service:{service.name}", field, _shown(field, before), _shown(field, value))
    outcome = f" The test fails: {tried}" if tried else " The test passed." if field != "enabled" else ""
    return Plan(
        f"{service.name}: {field} becomes {_shown(field, value) or 'empty'}.{outcome}",
        (change,),
        {
            "half": "service",
            "service": service.pk,
            "field": field,
            "value": None if field.startswith(_SECRET) else value,
        },
        {"half": "service", "service": service.pk, "field": field, "before": before, "after": value},
    )


def apply(work: RepairWork) -> dict[str, Any]:
    """Save it as an operator's value, and test the service so that its status is the new one."""
    service = _row(work.snapshot.get("service"))
    field, value = str(work.snapshot["field"]), work.snapshot["after"]
    if _now(service, field) != work.snapshot["before"]:
        raise RepairFailed(f"{service.name} was changed by somebody meanwhile; look at it again.")
    _save(service, field, value, work.actor)
    service.refresh_from_db()
    result = service_test(service=service, actor=work.actor) if service.enabled else None
    return {
        "service": service.name,
        "field": field,
        "status": str(service.status),
        "test": result.sentence if result else "",
    }


def undo(work: RepairWork) -> None:
    """The old value comes back, whether it works or not."""
    service = _row(work.snapshot.get("service"))
    field = str(work.snapshot["field"])
    now = _now(service, field)
    if now == work.snapshot["before"]:
        return
    if now != work.snapshot["after"]:
        raise RepairRefused(f"{service.name} was changed by somebody since; nothing is taken back.")
    _save(service, field, work.snapshot["before"], work.actor)
    service.refresh_from_db()
    if service.enabled:
        service_test(service=service, actor=work.actor)


def _row(pk: Any) -> Service:
    service = Service.objects.filter(pk=pk).first()
    if service is None:
        raise RepairFailed("The service is gone.")
    return service


def _value(service: Service, field: str, work: RepairWork) -> Any:
    """The new value as it is stored; None takes it away."""
    place, _, key = field.partition(".")
    text = str.__str__(work.params.get("secret") or "") or work.params.get("value")
    if field == "enabled":
        return str(text).lower() in ("1", "true", "yes", "on")
    if field == "base_url":
        return str(text or "").strip().rstrip("/")
    if place not in (_SECRET, "options") or not key:
        raise RepairRefused(f"A service has no {field!r}: give base_url, enabled, options.NAME or credentials.NAME.")
    known = service_kind(service.kind)
    described = next((one for one in known.fields if one.name == key), None) if known is not None else None
    if key == "proxy" and place == "options":
        # Empty is a value here: go directly, whatever the environment says.
        return str(text or "")
    if text in ("", None):
        return None
    if described is not None and described.kind == "list":
        return [part.strip() for part in str(text).split(",") if part.strip()]
    if described is not None and described.kind == "number":
        try:
            return int(text) if str(text).lstrip("-").isdigit() else float(text)
        except ValueError:
            raise RepairRefused(f"{described.label} has to be a number.") from None
    if described is not None and described.kind == "bool":
        return str(text).lower() in ("1", "true", "yes", "on")
    return str(text)


def _now(service: Service, field: str) -> Any:
    place, _, key = field.partition(".")
    if not key:
        return getattr(service, field)
    try:
        return (getattr(service, place) or {}).get(key)
    except SecretUnreadable:
        return None


def _put(service: Service, field: str, value: Any) -> None:
    place, _, key = field.partition(".")
    if not key:
        setattr(service, field, value)
        return
    try:
        values = dict(getattr(service, place) or {})
    except SecretUnreadable:
        values = {}
    values.pop(key, None)
    setattr(service, place, values if value is None else {**values, key: value})


def _save(service: Service, field: str, value: Any, actor: str) -> None:
    _put(service, field, value)
    try:
        service_save(
            actor=actor,
            name=service.name,
            kind=service.kind,
            base_url=service.base_url,
            credentials=dict(service.credentials or {}) if field.startswith(_SECRET) else None,
            options=dict(service.options or {}),
            enabled=service.enabled,
            managed_by=service.managed_by,
        )
    except ValidationError as error:
        raise RepairFailed(" ".join(error.messages)) from error


def _try(service: Service, field: str, value: Any) -> str:
    """What is wrong with the new value, "" when it works. The server is asked; nothing is stored."""
    candidate = copy.copy(service)
    _put(candidate, field, value)
    problems = service_problems(candidate)
    if problems:
        return " ".join(sentence for sentences in problems.values() for sentence in sentences)
    if not candidate.enabled:
        return ""
    # Whoever keeps connections by the name of the service must not take the candidate for it.
    candidate.name = f"{service.name[:56]}.trial"
    result = service_try(service=candidate)
    return "" if result.status in ("ok", "degraded") else result.sentence


def _shown(field: str, value: Any) -> Any:
    if field.startswith(_SECRET):
        return mask(value)
    return mask_address(value) if isinstance(value, str) and "://" in value else value


def _line(service: Service, field: str, value: Any) -> str:
    name = configuration().service_settings.get(f"{service.name}.{field}")
    if not name:
        return (
            f"The environment manages {service.name}, and no setting holds its {field}. Add a service of your own for it, and take "
            f"{service.name} out of the environment."
        )
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value or "")
    reason = edit.why_not(name, text)
    if reason:
        return f"The environment manages {service.name}. {reason}"
    return (
        f"The environment manages {service.name}. Put this line into {configuration().env_file()} and restart: "
        f"{edit.line_for(name, text)}"
    )
