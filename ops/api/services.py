"""Services: the outside servers."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Field, Query, Router

from ops.api.answers import answer, nothing
from ops.api.inputs import Body, Text
from ops.api.paging import Paging, page
from ops.api.principals import principal_of
from ops.api.problems import FieldError, Problem, declare, not_found
from ops.api.schemas import ServiceList, ServiceOut, ServiceTestOut
from ops.models import Service
from ops.redaction import redact
from ops.secrets import SecretUnreadable
from ops.services.services import service_delete, service_save, service_test

router = Router(tags=["Services"])

EXISTS = declare("service.exists", 409, "A service of this name exists")


class ServiceIn(Body):
    name: Text = Field(max_length=64, examples=["letta"])
    kind: Text = Field(max_length=32, examples=["letta"], description="letta, openai, anthropic, demo, homeserver, …")
    base_url: Text = Field("", max_length=500, examples=["http://127.0.0.1:8283"])
    credentials: dict[str, Text] = Field(default_factory=dict, description="Write-only.", examples=[{"token": "…"}])
    options: dict[str, Any] = Field(default_factory=dict)
    enabled: bool = True


class ServicePatch(Body):
    """What is left out stays. `credentials` and `options` replace all that are stored."""

    base_url: Text | None = Field(None, max_length=500)
    credentials: dict[str, Text] | None = Field(None, description="Write-only; replaces all of them.")
    options: dict[str, Any] | None = None
    enabled: bool | None = None


class ServiceFilter(Paging):
    kind: Text = Field("", description="Only this kind.")
    status: Text = Field("", description="Only those that are: unknown, ok, degraded, down, off.")


def service_of(name: str) -> Service:
    """The service of this name. Raises ``Problem``."""
    service = Service.objects.filter(name=name).first()
    if service is None:
        raise not_found("service", name)
    return service


def service_dict(service: Service) -> dict[str, Any]:
    """A service without its secrets."""
    try:
        names, readable = sorted(key for key, value in (service.credentials or {}).items() if value), True
    except SecretUnreadable:
        names, readable = [], False
    return {
        "name": service.name,
        "kind": service.kind,
        "base_url": service.base_url,
        "options": redact(dict(service.options or {})),
        "credentials_set": names,
        "credentials_readable": readable,
        "enabled": service.enabled,
        "managed_by": service.managed_by,
        "status": service.status,
        "status_sentence": service.status_sentence,
        "status_changed_at": service.status_changed_at,
        "last_ok_at": service.last_ok_at,
        "checked_at": service.checked_at,
        "version": service.version,
        "capabilities": redact(dict(service.capabilities or {})),
        "latency_ms": service.latency_ms,
        "created_at": service.created_at,
        "updated_at": service.updated_at,
    }


@router.get("", response=ServiceList, operation_id="services_list", summary="List services")
def services_list(request: HttpRequest, query: Query[ServiceFilter]) -> HttpResponse:
    rows = Service.objects.all()
    if query.kind:
        rows = rows.filter(kind=query.kind)
    if query.status:
        rows = rows.filter(status=query.status)
    return page(request, rows, query, render=service_dict)


@router.post("", response={201: ServiceOut}, operation_id="services_create", summary="Add a service")
def services_create(request: HttpRequest, body: ServiceIn) -> HttpResponse:
    """Which credentials and options a kind takes, the admin's form shows. Test it afterwards."""
    if Service.objects.filter(name=body.name).exists():
        sentence = f"There is a service named {body.name} already. Change that one, or choose another name."
        raise Problem(EXISTS, sentence, errors=[FieldError("name", sentence)])
    service = service_save(
        actor=principal_of(request).actor,
        name=body.name,
        kind=body.kind,
        base_url=body.base_url,
        credentials=body.credentials,
        options=body.options,
        enabled=body.enabled,
    )
    return answer(service_dict(service), status=201)


@router.get("/{name}", response=ServiceOut, operation_id="services_get", summary="Get a service")
def services_get(request: HttpRequest, name: Text) -> HttpResponse:
    return answer(service_dict(service_of(name)))


@router.patch("/{name}", response=ServiceOut, operation_id="services_update", summary="Change a service")
def services_update(request: HttpRequest, name: Text, body: ServicePatch) -> HttpResponse:
    """A service that the environment describes follows the environment again at the next start."""
    known = service_of(name)
    service = service_save(
        actor=principal_of(request).actor,
        name=known.name,
        kind=known.kind,
        base_url=known.base_url if body.base_url is None else body.base_url,
        credentials=body.credentials,
        options=body.options,
        enabled=known.enabled if body.enabled is None else body.enabled,
        managed_by=known.managed_by,
    )
    return answer(service_dict(service))


@router.delete("/{name}", response={204: None}, operation_id="services_delete", summary="Remove a service")
def services_delete(request: HttpRequest, name: Text) -> HttpResponse:
    """Refused while agents or rooms belong to it."""
    service_delete(service=service_of(name), actor=principal_of(request).actor)
    return nothing()


@router.post("/{name}/test", response=ServiceTestOut, operation_id="services_test", summary="Test the connection")
def services_test(request: HttpRequest, name: Text) -> HttpResponse:
    """Asks the server now, and keeps what it says. The answer is 200 whatever the server does: read `status`."""
    service = service_of(name)
    result = service_test(service=service, actor=principal_of(request).actor)
    service.refresh_from_db()
    return answer(
        {
            "status": result.status,
            "sentence": service.status_sentence,
            "version": result.version,
            "latency_ms": service.latency_ms,
            "service": service_dict(service),
        }
    )
