"""Small drawings for the board: strips of bars, and the line of a latency. Inline SVG, told apart by height as well as by colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from ops import html
from ops.uptime import Level, Slot, Window
from ops.words import counted

HEIGHT = 26
_STEP, _BAR = 8, 6
# Well is tall, attention is lower, trouble is a stub at the foot, and nothing known is a dot.
_SHAPES: dict[Level, tuple[str, int]] = {0: ("good", 26), 1: ("attention", 17), 2: ("trouble", 9), None: ("off", 3)}
_WORDS: dict[Level, str] = {0: "well", 1: "needed attention", 2: "trouble", None: "nothing known"}


def bars_of(slots: Sequence[Slot], window: Window, name: str) -> SafeString:
    """A strip of bars, oldest first, with a sentence for those who do not see it."""
    if not slots:
        return SafeString("")
    bars = format_html_join(
        "",
        '<rect class="{}" x="{}" y="{}" width="{}" height="{}" rx="1.5"><title>{}</title></rect>',
        (_bar(number, slot) for number, slot in enumerate(slots)),
    )
    return format_html(
        '<svg class="dr-bars" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>',
        len(slots) * _STEP - (_STEP - _BAR),
        HEIGHT,
        spoken(slots, window, name),
        bars,
    )


def spoken(slots: Sequence[Slot], window: Window, name: str) -> str:
    """The strip in a sentence."""
    bad = sum(slot.level == 2 for slot in slots)
    unknown = sum(slot.level is None for slot in slots)
    parts = [f"{bad} of {counted(len(slots), 'stretch', 'stretches')} with trouble" if bad else "no trouble"]
    if unknown:
        parts.append(f"{unknown} unknown")
    return f"{name} in the last {window.label}: {', '.join(parts)}"


def sparkline(values: Sequence[int], width: int = 120, height: int = 28) -> SafeString:
    """The line of the last latencies with the newest as a dot; "" for fewer than two."""
    if len(values) < 2:
        return SafeString("")
    top = max(max(values), 1)
    step = width / (len(values) - 1)
    points = [(round(i * step, 1), round(height - 3 - value / top * (height - 6), 1)) for i, value in enumerate(values)]
    x, y = points[-1]
    label = f"Latency: now {html.duration(values[-1])}, at most {html.duration(max(values))} in the last hours"
    return format_html(
        '<svg class="dr-spark" viewBox="0 0 {} {}" role="img" aria-label="{}"><polyline points="{}"/>'
        '<circle cx="{}" cy="{}" r="2.4"/><title>{}</title></svg>',
        width,
        height,
        label,
        " ".join(f"{px},{py}" for px, py in points),
        x,
        y,
        label,
    )


def percent(share: float | None) -> str:
    """``100 %``, ``99.98 %``; a dash where nobody asked. Never rounded up to a hundred."""
    if share is None:
        return "–"
    if share >= 1:
        return "100 %"
    number = min(share * 100, 99.99)
    return f"{number:.2f} %" if number >= 99 else f"{number:.1f} %"


def _bar(number: int, slot: Slot) -> tuple[Any, ...]:
    shape, height = _SHAPES[slot.level]
    form = "%a %d %b %H:%M"
    text = f"{slot.start:{form}} to {slot.end:%H:%M} UTC: {_WORDS[slot.level]}"
    if slot.share is not None and slot.share < 1:
        text += f", {percent(slot.share)} without trouble"
    return shape, number * _STEP, HEIGHT - height, _BAR, height, text
