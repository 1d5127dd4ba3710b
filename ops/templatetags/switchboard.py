"""``{% load switchboard %}``: lamps, times, ids and durations in templates."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from django import template
from django.utils.safestring import SafeString

from ops import html
from ops.choices import Lamp

register = template.Library()

_NAMES = {
    "backup destinations": "destinations",
    "backup keys": "recovery keys",
    "object versions": "what it was",
}


@register.simple_tag
def lamp(state: Lamp | str | None, word: str = "") -> SafeString:
    """``{% lamp service.lamp service.get_status_display %}``"""
    return html.lamp(state, str(word))


@register.simple_tag
def ago(moment: datetime | None, empty: str = "never") -> SafeString:
    """``{% ago job.created_at %}``"""
    return html.ago(moment, empty)


@register.simple_tag
def exact(moment: datetime | None, empty: str = "never", shape: str = "minute") -> SafeString:
    """``{% exact backup.made_at %}``, ``{% exact line.at "" "clock" %}``"""
    return html.exact(moment, empty, shape=shape)


@register.filter
def lines(text: object) -> list[str]:
    """The lines of a text, each a paragraph of its own."""
    return [line for line in str(text or "").splitlines() if line.strip()]


@register.filter
def page_name(title: Any) -> Any:
    """What a list of the operator's site is called on its page: the word that the navigation has for it."""
    return _NAMES.get(str(title), title)


@register.simple_tag
def copyable(text: object, label: str = "") -> SafeString:
    """``{% copyable account.user_id %}``"""
    return html.copyable(text, label)


@register.simple_tag
def disk_shortage() -> str:
    """What waits for room on the disk, in a sentence; "" when nothing does. ``{% disk_shortage as sentence %}``"""
    from ops import disk_guard

    short = disk_guard.shortage()
    return f"{short[0].upper()}{short[1:]}. {disk_guard.WAITING}" if short else ""


@register.filter
def duration(milliseconds: float | None) -> str:
    """``{{ hop.after_ms|duration }}``"""
    return html.duration(milliseconds)


@register.filter
def pretty(value: Any) -> str:
    """JSON for people: indented, in the order given."""
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False, default=str)
