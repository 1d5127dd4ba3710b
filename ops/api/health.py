"""How everything is, in one document."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Router, Schema
from pydantic import Field

from ops.api.answers import answer
from ops.doctor_services.health_probes import health_document

router = Router(tags=["Checks"])


class ComponentHealth(Schema):
    component: str = Field(description="What was asked: a service, a probe; empty for the whole installation.")
    status: str = Field(description="pass, warn or fail.")
    output: str = Field(description="What is wrong, in a sentence; empty when nothing is.")
    time: str
    since: str
    observed_ms: int


class HealthOut(Schema):
    status: str = Field(description="The worst of all: pass, warn or fail.")
    version: str
    time: str
    checks: dict[str, list[ComponentHealth]] = Field(description="By the check's id.")


@router.get("", response=HealthOut, operation_id="health", summary="How everything is, as the checks found it last")
def health(request: HttpRequest) -> HttpResponse:
    document: dict[str, Any] = health_document(detailed=True)
    return answer(document)
