"""Alerts: channels and what they were told; and maintenance, in which nobody is told."""

from __future__ import annotations

from datetime import datetime, time
from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Field, Query, Router, Schema

from ops.alerts.transports import label_of
from ops.alerts.words import reference
from ops.api.answers import answer, nothing
from ops.api.inputs import Body, Id, Text
from ops.api.paging import Paging, page
from ops.api.principals import principal_of
from ops.api.problems import not_found
from ops.models import AlertChannel, AlertKind, AlertMessage, AlertState, MaintenanceWindow
from ops.secrets import SecretUnreadable
from ops.services.alerts import (
    channel_delete,
    channel_save,
    channel_test,
    maintenance_end,
    maintenance_start,
    message_retry,
)

router = Router(tags=["Alerts"])
maintenance = Router(tags=["Alerts"])


class ChannelIn(Body):
    name: Text = Field(max_length=100, examples=["on call"])
    url: Text = Field(
        max_length=2000, description="Write-only. Any address that Apprise knows, or room://#alias:server."
    )
    enabled: bool = True
    min_severity: Text = Field("warning", description="info, warning, error or critical")
    only_checks: list[Text] = Field(default_factory=list, description="Ids or patterns; empty: all.", max_length=200)
    tell_recovery: bool = True
    remind_every_minutes: int = Field(240, ge=0, description="0: never.")
    quiet_from: time | None = None
    quiet_to: time | None = None
    timezone: Text = Field("UTC", max_length=64, description="Of the quiet hours.")


class ChannelPatch(Body):
    """What is left out stays."""

    name: Text | None = Field(None, max_length=100)
    url: Text | None = Field(None, max_length=2000, description="Write-only.")
    enabled: bool | None = None
    min_severity: Text | None = None
    only_checks: list[Text] | None = Field(None, max_length=200)
    tell_recovery: bool | None = None
    remind_every_minutes: int | None = Field(None, ge=0)
    quiet_from: time | None = None
    quiet_to: time | None = None
    timezone: Text | None = Field(None, max_length=64)


class ChannelOut(Schema):
    """A channel. Its address is never shown: `goes_to` says what it is."""

    id: int
    name: str
    goes_to: str = Field(examples=["JSON at hooks.example.org"])
    enabled: bool
    min_severity: str
    only_checks: list[str]
    tell_recovery: bool
    remind_every_minutes: int
    quiet_from: time | None
    quiet_to: time | None
    timezone: str
    last_ok_at: datetime | None
    last_error: str
    last_error_at: datetime | None
    created_at: datetime


class ChannelList(Schema):
    items: list[ChannelOut]
    next: str | None


class AlertMessageOut(Schema):
    """One message to one channel. `reference` stands at the end of what was sent, the same at every attempt."""

    id: int
    channel: str
    issue: int | None
    kind: str = Field(description="opened, recovered, reminder, digest or test")
    title: str
    body: str
    state: str = Field(description="queued, held, sent, suppressed or failed")
    error: str
    attempts: int
    reference: str
    due_at: datetime
    created_at: datetime
    sent_at: datetime | None


class AlertMessageList(Schema):
    items: list[AlertMessageOut]
    next: str | None


class MessageFilter(Paging):
    channel: Text = Field("", description="Only of this channel (its name).")
    state: AlertState | None = None
    kind: AlertKind | None = None


class MaintenanceIn(Body):
    reason: Text = Field(max_length=300, examples=["New disk in the database server"])
    ends_at: datetime
    starts_at: datetime | None = Field(None, description="Now when left out.")
    checks: list[Text] = Field(default_factory=list, description="Ids or patterns; empty: any.", max_length=200)


class MaintenanceOut(Schema):
    """A time in which nobody is told."""

    id: int
    reason: str
    starts_at: datetime
    ends_at: datetime
    checks: list[str]
    created_by: str
    created_at: datetime


class MaintenanceList(Schema):
    items: list[MaintenanceOut]
    next: str | None


_COLUMNS = (
    *("id", "name", "enabled", "min_severity", "only_checks", "tell_recovery", "remind_every_minutes"),
    *("quiet_from", "quiet_to", "timezone", "last_ok_at", "last_error", "last_error_at", "created_at"),
)


def _channel(id: int) -> AlertChannel:
    row = AlertChannel.objects.filter(pk=id).first()
    if row is None:
        raise not_found("alert channel", id)
    return row


def _window(id: int) -> MaintenanceWindow:
    row = MaintenanceWindow.objects.filter(pk=id).first()
    if row is None:
        raise not_found("maintenance window", id)
    return row


def _message(id: int) -> AlertMessage:
    row = AlertMessage.objects.select_related("channel").filter(pk=id).first()
    if row is None:
        raise not_found("alert message", id)
    return row


def _channel_dict(row: AlertChannel) -> dict[str, Any]:
    try:
        goes_to = label_of(row.url)
    except SecretUnreadable:
        goes_to = "unreadable"
    return {"goes_to": goes_to, **{name: getattr(row, name) for name in _COLUMNS}}


def _message_dict(row: AlertMessage) -> dict[str, Any]:
    names = ("id", "kind", "title", "body", "state", "error", "attempts", "due_at", "created_at", "sent_at")
    return {
        "channel": row.channel.name,
        "issue": row.issue_id,
        "reference": reference(row.key),
        **{name: getattr(row, name) for name in names},
    }


def _window_dict(row: MaintenanceWindow) -> dict[str, Any]:
    names = ("id", "reason", "starts_at", "ends_at", "checks", "created_by", "created_at")
    return {name: getattr(row, name) for name in names}


@router.get("/channels", response=ChannelList, operation_id="alert_channels_list", summary="List channels of alerts")
def channels_list(request: HttpRequest, query: Query[Paging]) -> HttpResponse:
    return page(request, AlertChannel.objects.all(), query, render=_channel_dict)


@router.post("/channels", response={201: ChannelOut}, operation_id="alert_channels_create", summary="Add a channel")
def channels_create(request: HttpRequest, body: ChannelIn) -> HttpResponse:
    """Send a test afterwards."""
    row = channel_save(actor=principal_of(request).actor, **body.dict())
    return answer(_channel_dict(row), status=201)


@router.get("/channels/{id}", response=ChannelOut, operation_id="alert_channels_get", summary="Get a channel")
def channels_get(request: HttpRequest, id: Id) -> HttpResponse:
    return answer(_channel_dict(_channel(id)))


@router.patch("/channels/{id}", response=ChannelOut, operation_id="alert_channels_update", summary="Change a channel")
def channels_update(request: HttpRequest, id: Id, body: ChannelPatch) -> HttpResponse:
    """`null` for `quiet_from` and `quiet_to` ends the quiet hours."""
    row = _channel(id)
    present = {name: getattr(row, name) for name in ChannelIn.model_fields if name != "url"}
    given = body.dict(exclude_unset=True)
    empty = {name for name, value in given.items() if value is None and not name.startswith("quiet_")}
    changed = {name: value for name, value in given.items() if name not in empty}
    row = channel_save(actor=principal_of(request).actor, channel=row, **{**present, **changed})
    return answer(_channel_dict(row))


@router.delete("/channels/{id}", response={204: None}, operation_id="alert_channels_delete", summary="Remove a channel")
def channels_delete(request: HttpRequest, id: Id) -> HttpResponse:
    """With the log of what it was told."""
    channel_delete(channel=_channel(id), actor=principal_of(request).actor)
    return nothing()


@router.post("/channels/{id}/test", response=AlertMessageOut, operation_id="alert_channels_test", summary="Send a test")
def channels_test(request: HttpRequest, id: Id) -> HttpResponse:
    """Sends it now. The answer is 200 whatever the other side does: read `state` (sent or failed) and `error`."""
    message = channel_test(channel=_channel(id), actor=principal_of(request).actor)
    return answer(_message_dict(_message(message.pk)))


@router.get("/messages", response=AlertMessageList, operation_id="alert_messages_list", summary="List what was told")
def messages_list(request: HttpRequest, query: Query[MessageFilter]) -> HttpResponse:
    """Newest first."""
    rows = AlertMessage.objects.select_related("channel")
    if query.channel:
        rows = rows.filter(channel__name=query.channel)
    if query.state:
        rows = rows.filter(state=query.state)
    if query.kind:
        rows = rows.filter(kind=query.kind)
    return page(request, rows, query, render=_message_dict, order=("-id",))


@router.post(
    "/messages/{id}/retry",
    response=AlertMessageOut,
    operation_id="alert_messages_retry",
    summary="Try a failed message again",
)
def messages_retry(request: HttpRequest, id: Id) -> HttpResponse:
    """Does nothing to one that has not failed."""
    row = _message(id)
    message_retry(message=row, actor=principal_of(request).actor)
    return answer(_message_dict(_message(id)))


@maintenance.get("", response=MaintenanceList, operation_id="maintenance_list", summary="List maintenance windows")
def windows_list(request: HttpRequest, query: Query[Paging]) -> HttpResponse:
    """Newest first."""
    return page(request, MaintenanceWindow.objects.all(), query, render=_window_dict, order=("-id",))


@maintenance.post("", response={201: MaintenanceOut}, operation_id="maintenance_start", summary="Announce maintenance")
def windows_start(request: HttpRequest, body: MaintenanceIn) -> HttpResponse:
    """Nobody is told of issues while it lasts. What is still wrong when it ends is told then."""
    return answer(_window_dict(maintenance_start(actor=principal_of(request).actor, **body.dict())), status=201)


@maintenance.post("/{id}/end", response={204: None}, operation_id="maintenance_end", summary="End maintenance now")
def windows_end(request: HttpRequest, id: Id) -> HttpResponse:
    """One that has not begun is taken back. Does nothing to one that is over."""
    maintenance_end(window=_window(id), actor=principal_of(request).actor)
    return nothing()
