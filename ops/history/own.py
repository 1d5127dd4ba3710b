"""The ground floor's own objects that keep versions: services, live settings, alert channels."""

from __future__ import annotations

from datetime import datetime, time

from django.utils import timezone

from ops.history.registry import CannotBringBack, Done, Wanted, register_versioned


def _service(wanted: Wanted) -> Done:
    from ops.services.services import service_save

    state = wanted.state
    row = service_save(
        actor=wanted.actor,
        name=state["name"],
        kind=state["kind"],
        base_url=state["base_url"],
        credentials=None if wanted.secret is None else wanted.secret.get("credentials", {}),
        options=state["options"],
        enabled=state["enabled"],
        managed_by=state["managed_by"],
    )
    said = [f"The service {row.name} is set up as it was."]
    if wanted.secret is None:
        said.append(
            "Its credentials of that time cannot be read; those of now stay. Enter them again if they are not right."
        )
    if row.managed_by == "environment":
        said.append("The environment has the last word on it at the next start.")
    return Done(" ".join(said), str(row.pk))


def _live_setting(wanted: Wanted) -> Done:
    from ops.live import live_set

    expires = _moment(wanted.state["expires_at"])
    if expires is not None and expires <= timezone.now():
        raise CannotBringBack(
            f"{wanted.label} held until {expires:%Y-%m-%d %H:%M} UTC only. Set it anew if it is wanted.",
            code="version.expired",
        )
    live_set(key=wanted.state["key"], value=wanted.state["value"], expires_at=expires, actor=wanted.actor)
    return Done(f"{wanted.label} is set as it was.")


def _channel(wanted: Wanted) -> Done:
    from ops.models import AlertChannel
    from ops.services.alerts import channel_save

    state = wanted.state
    url = None if wanted.secret is None else wanted.secret.get("url")
    if wanted.present is None and not url:
        raise CannotBringBack(
            f"The address of {wanted.label} cannot be read any more. Make the channel anew and enter it.",
            code="version.secret_unreadable",
        )
    present: AlertChannel | None = wanted.present
    if present is not None and url == str.__str__(present.url):
        url = None
    row = channel_save(
        actor=wanted.actor,
        channel=present,
        name=state["name"],
        url=url,
        enabled=state["enabled"],
        min_severity=state["min_severity"],
        only_checks=state["only_checks"],
        tell_recovery=state["tell_recovery"],
        remind_every_minutes=state["remind_every_minutes"],
        quiet_from=_clock(state["quiet_from"]),
        quiet_to=_clock(state["quiet_to"]),
        timezone=state["timezone"],
    )
    return Done(f"The alert channel {row.name} is as it was.", str(row.pk))


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _clock(text: str | None) -> time | None:
    return time.fromisoformat(text) if text else None


register_versioned(
    "ops.Service",
    label="Service",
    fields=("name", "kind", "base_url", "options", "enabled", "managed_by"),
    secret_fields=("credentials",),
    gone_by=("service.deleted",),
    labels={"base_url": "address", "managed_by": "who says how it is reached"},
    bring_back=_service,
)
register_versioned(
    "ops.LiveSetting",
    label="Setting",
    fields=("key", "value", "expires_at"),
    gone_by=("setting.cleared",),
    target="setting",
    bring_back=_live_setting,
)
register_versioned(
    "ops.AlertChannel",
    label="Alert channel",
    fields=(
        *("name", "enabled", "min_severity", "only_checks", "tell_recovery", "remind_every_minutes"),
        *("quiet_from", "quiet_to", "timezone"),
    ),
    secret_fields=("url",),
    gone_by=("alertchannel.deleted",),
    labels={"url": "address"},
    bring_back=_channel,
)
