"""Where backups go, who opens them, and when they are made."""

from __future__ import annotations

from datetime import time
from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Field, Query, Router

from ops.api.answers import answer, answer_once_shown, nothing
from ops.api.backup_problems import refused
from ops.api.backup_schemas import (
    DestinationList,
    DestinationOut,
    DestinationTestOut,
    KeyList,
    KeyMadeOut,
    KeyOut,
    PlanOut,
)
from ops.api.inputs import Body, Id, Text
from ops.api.paging import Paging, page
from ops.api.principals import principal_of
from ops.api.problems import not_found
from ops.models import BackupDestination, BackupKey, BackupPlan, DestinationKind
from ops.secrets import SecretUnreadable

destinations = Router(tags=["Backups"])
keys = Router(tags=["Backups"])
plan = Router(tags=["Backups"])

_RULES = ("keep_last", "keep_daily", "keep_weekly", "keep_monthly")


class DestinationIn(Body):
    """Folder: `options.path`. S3: `options.bucket`, `endpoint_url`, `prefix`, `region`, `addressing`; `credentials.access_key`, `secret_key`."""

    name: Text = Field(max_length=64)
    kind: DestinationKind = DestinationKind.FOLDER
    options: dict[str, Text] = Field(default={})
    credentials: dict[str, Text] | None = Field(None, description="Left out: those that are stored stay.")
    enabled: bool = True
    keep_last: int = Field(3, ge=0, le=10_000)
    keep_daily: int = Field(7, ge=0, le=10_000)
    keep_weekly: int = Field(4, ge=0, le=10_000)
    keep_monthly: int = Field(6, ge=0, le=10_000)


class KeyIn(Body):
    label: Text = Field(max_length=100, description="Who keeps it, and where.")
    recipient: Text = Field("", max_length=100, description="`age1…` of a key that you have; empty: one is made.")


class SecretIn(Body):
    secret: Text = Field(
        max_length=200, description="`AGE-SECRET-KEY-1…`. It is tried on a test file and kept nowhere."
    )


class PlanIn(Body):
    enabled: bool = True
    every_hours: int = Field(24, ge=1, le=744)
    at: time | None = Field(None, description="Time of day, for plans of whole days.")
    timezone: Text = Field("UTC", max_length=64)
    jitter_minutes: int = Field(30, ge=0, le=1440)
    contents: list[Text] = Field(default=[], max_length=20)
    drill_every_days: int = Field(7, ge=1, le=365)


def destination_dict(row: BackupDestination) -> dict[str, Any]:
    """A destination as JSON, without its secrets."""
    try:
        stored = sorted(row.credentials or {})
    except SecretUnreadable:
        stored = []
    return {
        "id": row.pk,
        "name": row.name,
        "kind": row.kind,
        "options": row.options,
        "credentials_set": stored,
        "enabled": row.enabled,
        **{name: getattr(row, name) for name in _RULES},
        "last_ok_at": row.last_ok_at,
        "last_error": row.last_error,
        "last_error_at": row.last_error_at,
        "created_at": row.created_at,
    }


def key_dict(row: BackupKey) -> dict[str, Any]:
    """A key's public half as JSON."""
    names = ("label", "recipient", "fingerprint", "created_at", "created_by", "confirmed_at", "retired_at")
    return {"id": row.pk, **{name: getattr(row, name) for name in names}}


def plan_dict(row: BackupPlan) -> dict[str, Any]:
    """The plan as JSON."""
    names = (
        "enabled", "every_hours", "at", "timezone", "jitter_minutes", "contents", "drill_every_days",
        "next_at", "last_attempt_at", "last_complete_at", "last_drill_at",
    )  # fmt: skip
    return {name: getattr(row, name) for name in names}


def _destination(number: int) -> BackupDestination:
    row = BackupDestination.objects.filter(pk=number).first()
    if row is None:
        raise not_found("destination", number)
    return row


def _key(number: int) -> BackupKey:
    row = BackupKey.objects.filter(pk=number).first()
    if row is None:
        raise not_found("recovery key", number)
    return row


def _save(request: HttpRequest, body: DestinationIn, row: BackupDestination | None) -> BackupDestination:
    from ops.services.backup_destinations import destination_save

    return destination_save(
        actor=principal_of(request).actor,
        destination=row,
        name=body.name,
        kind=body.kind,
        options=body.options,
        credentials=body.credentials,
        enabled=body.enabled,
        **{name: getattr(body, name) for name in _RULES},
    )


@destinations.get("", response=DestinationList, operation_id="backup_destinations_list", summary="List destinations")
def destinations_list(request: HttpRequest, query: Query[Paging]) -> HttpResponse:
    return page(request, BackupDestination.objects.all(), query, render=destination_dict, order=("id",))


@destinations.post(
    "", response={201: DestinationOut}, operation_id="backup_destinations_create", summary="Add a destination"
)
def destinations_create(request: HttpRequest, body: DestinationIn) -> HttpResponse:
    return answer(destination_dict(_save(request, body, None)), status=201)


@destinations.get(
    "/{destination_id}", response=DestinationOut, operation_id="backup_destinations_get", summary="Get a destination"
)
def destinations_get(request: HttpRequest, destination_id: Id) -> HttpResponse:
    return answer(destination_dict(_destination(destination_id)))


@destinations.put(
    "/{destination_id}",
    response=DestinationOut,
    operation_id="backup_destinations_change",
    summary="Change a destination",
)
def destinations_change(request: HttpRequest, destination_id: Id, body: DestinationIn) -> HttpResponse:
    return answer(destination_dict(_save(request, body, _destination(destination_id))))


@destinations.delete(
    "/{destination_id}", response={204: None}, operation_id="backup_destinations_delete", summary="Forget a destination"
)
def destinations_delete(request: HttpRequest, destination_id: Id) -> HttpResponse:
    """The files there stay. 409 when the only copy of the last good backup is there."""
    from ops.services.backup_destinations import destination_remove

    try:
        destination_remove(destination=_destination(destination_id), actor=principal_of(request).actor)
    except ValueError as error:
        raise refused(error) from error
    return nothing()


@destinations.post(
    "/{destination_id}/test",
    response=DestinationTestOut,
    operation_id="backup_destinations_test",
    summary="Test a destination",
)
def destinations_test(request: HttpRequest, destination_id: Id) -> HttpResponse:
    """A small file is written, read back and removed."""
    from ops.services.backup_destinations import destination_test

    outcome = destination_test(destination=_destination(destination_id), actor=principal_of(request).actor)
    return answer({"ok": outcome.ok, "sentence": outcome.sentence})


@keys.get("", response=KeyList, operation_id="backup_keys_list", summary="List recovery keys")
def keys_list(request: HttpRequest, query: Query[Paging]) -> HttpResponse:
    return page(request, BackupKey.objects.all(), query, render=key_dict, order=("id",))


@keys.post("", response={201: KeyMadeOut}, operation_id="backup_keys_create", summary="Make or add a recovery key")
def keys_create(request: HttpRequest, body: KeyIn) -> HttpResponse:
    """Without `recipient` a key is made and its secret half shown this once. Either way it counts only after `/confirm`."""
    from ops.services.backup_keys import key_add, key_new

    actor = principal_of(request).actor
    if body.recipient:
        row = key_add(label=body.label, recipient=body.recipient, actor=actor)
        return answer({**key_dict(row), "secret": None}, status=201)
    row, secret = key_new(label=body.label, actor=actor)
    return answer_once_shown({**key_dict(row), "secret": secret})


@keys.post("/{key_id}/confirm", response=KeyOut, operation_id="backup_keys_confirm", summary="Prove a recovery key")
def keys_confirm(request: HttpRequest, key_id: Id, body: SecretIn) -> HttpResponse:
    """A test file is sealed for the key and opened with what you send."""
    from ops.services.backup_keys import key_confirm

    return answer(key_dict(key_confirm(key=_key(key_id), secret=body.secret, actor=principal_of(request).actor)))


@keys.post("/{key_id}/retire", response=KeyOut, operation_id="backup_keys_retire", summary="Retire a recovery key")
def keys_retire(request: HttpRequest, key_id: Id) -> HttpResponse:
    """No new backup is made for it; those that were, it still opens."""
    from ops.services.backup_keys import key_retire

    return answer(key_dict(key_retire(key=_key(key_id), actor=principal_of(request).actor)))


@plan.get("", response=PlanOut, operation_id="backup_plan_get", summary="Get the plan of backups")
def plan_get(request: HttpRequest) -> HttpResponse:
    from ops.services.backup_schedule import plan as present

    return answer(plan_dict(present()))


@plan.put("", response=PlanOut, operation_id="backup_plan_set", summary="Set the plan of backups")
def plan_set(request: HttpRequest, body: PlanIn) -> HttpResponse:
    from ops.services.backup_schedule import plan_save

    return answer(plan_dict(plan_save(actor=principal_of(request).actor, **body.model_dump())))
