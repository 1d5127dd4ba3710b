"""What templates of the portal ask for: the theme, times."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import template
from django.conf import settings
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timezone import localtime

from chat.portal.look import THEMES, theme_of
from ops import disk_guard

register = template.Library()


@register.simple_tag(takes_context=True)
def theme(context: dict[str, Any]) -> str:
    """``light``, ``dark`` or ``auto``, as the reader chose."""
    request = context.get("request")
    return theme_of(request) if request is not None else "auto"


@register.simple_tag
def room_for_files() -> bool:
    """Whether there is room on the disk for files that people send."""
    return not disk_guard.shortage(settings.ATTACHMENTS_DIR)


@register.simple_tag
def themes() -> list[tuple[str, str]]:
    """Every theme with its name."""
    return [(value, str(label)) for value, label in THEMES.items()]


@register.simple_tag
def moment(value: datetime | None) -> SafeString | str:
    """A time that the page shows in the reader's zone, relative, with the exact time on hover."""
    if value is None:
        return ""
    local = localtime(value)
    return format_html(
        '<time datetime="{}" data-moment>{}</time>', value.isoformat(), local.strftime("%Y-%m-%d %H:%M %Z").strip()
    )
