"""Writes services and tests them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from ops.logs import bind, get_logger
from ops.models import ManagedBy, Service, ServiceStatus
from ops.models.service import SERVICE_NAME
from ops.redaction import redact_text
from ops.registry import ServiceKind, TestResult, service_kind, service_kinds
from ops.secrets import SecretUnreadable
from ops.services import audit

logger = get_logger(__name__)

_REACHED_BY = ("kind", "base_url", "credentials", "options")


def service_save(
    *,
    actor: str,
    name: str,
    kind: str,
    base_url: str = "",
    credentials: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    enabled: bool = True,
    managed_by: str = ManagedBy.OPERATOR,
) -> Service:
    """Create the service of this name, or change it; writes nothing when nothing changes.

    ``credentials`` None keeps those that are stored (a form that shows no secrets sends none back); so does ``options`` None.
    Raises ``ValidationError`` with one entry a field.
    """
    base_url = base_url.strip().rstrip("/")
    with transaction.atomic():
        service = Service.objects.select_for_update().filter(name=name).first()
        fresh = service is None
        if service is None:
            service = Service(name=name)
        old = {} if fresh else _state(service)
        new = {
            "kind": kind,
            "base_url": base_url,
            "credentials": dict(credentials) if credentials is not None else old.get("credentials", {}),
            "options": dict(options) if options is not None else old.get("options", {}),
            "enabled": enabled,
            "managed_by": str(managed_by),
        }
        _validate(name, new)
        changed = [field for field, value in new.items() if fresh or old[field] != value]
        if not changed:
            return service
        for field in changed:
            # None: the stored credentials cannot be read and nobody gave new ones; they stay as they are.
            if new[field] is not None:
                setattr(service, field, new[field])
        if not enabled:
            _set_status(service, ServiceStatus.OFF, "Switched off.")
        elif fresh or service.status == ServiceStatus.OFF or any(field in changed for field in _REACHED_BY):
            _set_status(service, ServiceStatus.UNKNOWN, "Not tested since it was changed.")
        service.save()
        before, after = audit.changes(_public(old), _public(new))
        action = "service.created" if fresh else "service.changed"
        if "credentials" in changed:
            after["credentials_changed"] = True
        audit.record(actor=actor, action=action, target=service, before=before, after=after)
    return service


def service_ensure_from_environment(
    *,
    name: str,
    kind: str,
    base_url: str = "",
    credentials: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Service:
    """Make the service that the environment describes exist. Writes nothing when it is unchanged.

    A service of this name that an operator manages is left alone; one that an operator switched off stays off. Raises
    ``ValidationError`` when the environment's values cannot be used.
    """
    known = Service.objects.filter(name=name).first()
    if known is not None and known.managed_by == ManagedBy.OPERATOR:
        logger.info("service_kept", service=name, reason="an operator manages it")
        return known
    return service_save(
        actor="environment",
        name=name,
        kind=kind,
        base_url=base_url,
        credentials=credentials or {},
        options=options or {},
        enabled=known.enabled if known is not None else True,
        managed_by=ManagedBy.ENVIRONMENT,
    )


def service_delete(*, service: Service, actor: str) -> None:
    """Remove a service. Raises ``django.db.models.ProtectedError`` while agents or a homeserver's rooms hang on it."""
    with transaction.atomic():
        audit.record(actor=actor, action="service.deleted", target=service, before=_public(_state(service)))
        service.delete()


def service_test(*, service: Service, actor: str) -> TestResult:
    """Run the tester of the service's kind and store what it says; never raises for what the server does.

    A result is not stored when the service was changed while it was tested, and a service that is off stays off.
    """
    known = service_kind(service.kind)
    started = time.monotonic()
    with bind(service=service.name):
        if known is None:
            result = TestResult("down", f"Nothing here knows the kind {service.kind!r}.")
        elif known.tester is None:
            result = TestResult("ok", "There is no test for this kind.")
        else:
            result = _ask(known, service)
    latency = result.latency_ms if result.latency_ms is not None else round((time.monotonic() - started) * 1000)
    _store(service, result, latency)
    if actor != "system":
        audit.record(
            actor=actor,
            action="service.tested",
            target=service,
            message=result.sentence,
            after={"status": result.status},
        )
    return result


def service_note(*, service: Service, result: TestResult) -> None:
    """Store what somebody else found out about a service (a check that looked closer), as ``service_test`` does."""
    _store(service, result, result.latency_ms if result.latency_ms is not None else 0)


def service_try(*, service: Service) -> TestResult:
    """Run the tester of the kind on a row as it is in memory, and store nothing: for values that are not saved yet."""
    known = service_kind(service.kind)
    if known is None:
        return TestResult("down", f"Nothing here knows the kind {service.kind!r}.")
    return _ask(known, service) if known.tester is not None else TestResult("ok", "There is no test for this kind.")


def service_problems(service: Service) -> dict[str, list[str]]:
    """What is wrong with the row by itself, by field: nothing is asked of the server. Empty when it can be used."""
    try:
        _validate(service.name, _state(service))
    except ValidationError as error:
        return error.message_dict
    return {}


def _ask(known: ServiceKind, service: Service) -> TestResult:
    assert known.tester is not None
    try:
        return known.tester(service)
    except SecretUnreadable as error:
        return TestResult("down", str(error))
    except Exception as error:
        logger.warning("service_test_failed", kind=service.kind, exc_info=True)
        text = " ".join(redact_text(str(error)).split())
        return TestResult("down", f"{type(error).__name__}: {text}" if text else type(error).__name__)


def _store(service: Service, result: TestResult, latency_ms: int) -> None:
    now = timezone.now()
    fields: dict[str, Any] = {
        "checked_at": now,
        "status_sentence": redact_text(result.sentence)[:500],
        "latency_ms": max(0, latency_ms),
    }
    if service.enabled:
        fields["status"] = result.status
        if service.status != result.status:
            fields["status_changed_at"] = now
            logger.info("service_status", service=service.name, status=result.status, sentence=result.sentence)
    if result.status == ServiceStatus.OK:
        fields["last_ok_at"] = now
    if result.version:
        fields["version"] = result.version[:100]
    if result.capabilities is not None:
        fields["capabilities"] = result.capabilities
    # ``updated_at`` moves with every change of the configuration and with nothing else.
    if Service.objects.filter(pk=service.pk, updated_at=service.updated_at).update(**fields):
        for name, value in fields.items():
            setattr(service, name, value)


def _set_status(service: Service, status: ServiceStatus, sentence: str) -> None:
    if service.status != status:
        service.status, service.status_changed_at = status, timezone.now()
    service.status_sentence = sentence


def _state(service: Service) -> dict[str, Any]:
    try:
        credentials: dict[str, Any] | None = dict(service.credentials or {})
    except SecretUnreadable:
        # Unlike anything that could be given, so that new credentials always count as a change.
        credentials = None
    return {
        "kind": service.kind,
        "base_url": service.base_url,
        "credentials": credentials,
        "options": dict(service.options or {}),
        "enabled": service.enabled,
        "managed_by": service.managed_by,
    }


def _public(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if name != "credentials"}


def _validate(name: str, new: Mapping[str, Any]) -> None:
    problems: dict[str, list[str]] = {}
    try:
        SERVICE_NAME(name)
    except ValidationError as error:
        problems["name"] = list(error.messages)
    if len(name) > 64:
        problems["name"] = ["A service's name has at most 64 characters."]
    known = service_kind(new["kind"])
    if known is None:
        kinds = ", ".join(sorted(k.kind for k in service_kinds())) or "none are registered"
        problems["kind"] = [f"There is no kind {new['kind']!r}; known are: {kinds}."]
    address = _address_problem(new["base_url"], required=known is not None and known.needs_address)
    if address:
        problems["base_url"] = [address]
    for field in known.fields if known is not None else ():
        place = "credentials" if field.secret else "options"
        if field.required and new[place] is not None and new[place].get(field.name) in (None, ""):
            problems.setdefault(place, []).append(f"{field.label} ({field.name}) is missing.")
    if problems:
        raise ValidationError(problems)


def _address_problem(address: str, *, required: bool) -> str:
    if not address:
        return "An address is missing, for example http://127.0.0.1:8283." if required else ""
    if len(address) > 500:
        return "An address has at most 500 characters."
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError as error:
        return f"This is not an address: {error}."
    if parts.scheme not in {"http", "https", "ws", "wss"} or not parts.hostname:
        return "An address starts with http:// or https:// (or ws://, wss://) and names a host."
    if parts.username is not None or parts.password is not None:
        return "Put user name and password into the credentials, not into the address."
    if parts.query or parts.fragment:
        return "An address has no '?' and no '#'. Put keys into the credentials."
    return ""
