"""Small pieces of HTML that every page of the operator's site shares: lamps, times, ids, durations."""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from ops.choices import Lamp, lamp_for


def lamp(state: Lamp | str | None, word: str = "") -> SafeString:
    """A lamp: colour, shape and word together, so that no status is told by colour alone."""
    found = lamp_for(state)
    return format_html(
        '<span class="sb-lamp sb-lamp-{}"><span class="sb-lamp-shape" aria-hidden="true">{}</span>{}</span>',
        found.value,
        found.shape,
        word or found.label,
    )


def ago(moment: datetime | None, empty: str = "never") -> SafeString:
    """A time as "5 min ago"; the exact one, in the reader's own zone, comes with the pointer (and in ``datetime``)."""
    if moment is None:
        return format_html('<span class="sb-quiet">{}</span>', empty)
    iso = moment.isoformat(timespec="milliseconds")
    return format_html(
        '<time datetime="{}" title="{}" data-ago>{}</time>', iso, f"{moment:%Y-%m-%d %H:%M:%S} UTC", relative(moment)
    )


def exact(moment: datetime | None, empty: str = "never", *, shape: str = "minute") -> SafeString:
    """The time itself, for those who have no pointer to hover with. Said in UTC here, and in the reader's own zone by the page's script.

    ``shape``: ``minute`` (date and time), ``clock`` (time with seconds).
    """
    if moment is None:
        return format_html('<span class="sb-quiet">{}</span>', empty)
    text = f"{moment:%H:%M:%S}" if shape == "clock" else f"{moment:%Y-%m-%d %H:%M} UTC"
    iso = moment.isoformat(timespec="milliseconds")
    return format_html(
        '<time datetime="{}" title="{}" data-exact="{}">{}</time>', iso, f"{moment:%Y-%m-%d %H:%M:%S} UTC", shape, text
    )


def relative(moment: datetime, now: datetime | None = None) -> str:
    """``just now``, ``12 s ago``, ``5 min ago``, ``3 h ago``, ``2 days ago``; ``in 5 min`` for what is to come."""
    seconds = ((now or timezone.now()) - moment).total_seconds()
    size = abs(seconds)
    if size < 2:
        return "just now"
    for limit, unit, word in ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h"), (float("inf"), 86400, "days")):
        if size < limit:
            number = int(size // unit)
            text = f"{number} {'day' if word == 'days' and number == 1 else word}"
            break
    return f"{text} ago" if seconds > 0 else f"in {text}"


def quiet(text: object) -> SafeString:
    """Text that stands back."""
    return format_html('<span class="sb-quiet">{}</span>', text)


def copyable(text: object, label: str = "") -> SafeString:
    """An id that a click copies. Without JavaScript it is text that can be selected."""
    value = str(text or "")
    if not value:
        return format_html('<span class="sb-quiet">{}</span>', "none")
    return format_html(
        '<button type="button" class="sb-copy" data-copy="{}" title="Copy {}"><code>{}</code></button>',
        value,
        value,
        label or value,
    )


def duration(milliseconds: float | None) -> str:
    """``4 ms``, ``1.2 s``, ``3 min 5 s``."""
    if milliseconds is None:
        return ""
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def link(address: str, text: object) -> SafeString:
    """A link within the site."""
    return format_html('<a class="sb-link" href="{}">{}</a>', address, text)


def outside(address: str, text: str) -> SafeString:
    """A link that leaves the site, in a tab of its own."""
    return format_html('<a class="sb-link" href="{}" target="_blank" rel="noopener noreferrer">{} ↗</a>', address, text)
