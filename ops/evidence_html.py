"""Evidence for people: JSON of a check or a repair as a table with units and words, not as brackets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from ops import html
from ops.words import counted

# Longer lists and tables are cut, and say so.
MOST_ITEMS = 30
_LONGEST = 600
_DEEPEST = 3
_UNITS = ("B", "kB", "MB", "GB", "TB")
_TIME = re.compile(r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?$")
# What ends in one of these carries its unit in its name.
_SUFFIXES = (
    ("_bytes", "bytes"),
    ("_seconds", "seconds"),
    ("_milliseconds", "milliseconds"),
    ("_ms", "milliseconds"),
    ("_percent", "percent"),
    ("_at", "time"),
)
_WHOLE = {"bytes": "bytes", "seconds": "seconds", "milliseconds": "milliseconds", "percent": "percent"}


def label_of_key(key: str) -> str:
    """``free_bytes`` becomes "Free", ``last_error`` "Last error"; the unit goes to the value."""
    for suffix, _ in _SUFFIXES:
        if key.endswith(suffix) and len(key) > len(suffix):
            key = key.removesuffix(suffix)
            break
    words = key.replace("_", " ").strip() or key
    return words[:1].upper() + words[1:]


def table(evidence: Mapping[str, Any] | Sequence[Any] | None, caption: str = "Evidence") -> SafeString:
    """The whole evidence as a table of two columns, "" when there is none."""
    if not evidence:
        return SafeString("")
    if not isinstance(evidence, Mapping):
        return value_html(list(evidence))
    rows = format_html_join(
        "",
        '<tr><th scope="row">{}</th><td>{}</td></tr>',
        ((label_of_key(str(key)), value_html(value, str(key))) for key, value in list(evidence.items())[:MOST_ITEMS]),
    )
    more = len(evidence) - MOST_ITEMS
    tail = format_html('<p class="sb-quiet sb-small">and {} more</p>', more) if more > 0 else SafeString("")
    return format_html('<table class="dr-facts"><caption>{}</caption><tbody>{}</tbody></table>{}', caption, rows, tail)


def value_html(value: Any, key: str = "", depth: int = 0) -> SafeString:
    """One value: a number with its unit, a time, a list, a table; a long text is folded."""
    if value is None or value == "" or value == [] or value == {}:
        return format_html('<span class="sb-quiet">{}</span>', "none")
    if isinstance(value, bool):
        return format_html("{}", "yes" if value else "no")
    if isinstance(value, (int, float)):
        return format_html('<span class="dr-number">{}</span>', number(value, _unit(key)))
    if isinstance(value, datetime):
        return html.ago(value)
    if isinstance(value, Mapping):
        return _mapping(value, depth)
    if isinstance(value, (list, tuple, set, frozenset)):
        return _list(list(value), key, depth)
    return _text(str(value))


def number(value: float, unit: str = "") -> str:
    """``1.2 GB``, ``340 ms``, ``85 %``, ``12,000``."""
    if unit == "bytes":
        return size(value)
    if unit == "seconds":
        return html.duration(value * 1000)
    if unit == "milliseconds":
        return html.duration(value)
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.2f}".rstrip("0").rstrip(".")
    return f"{text} %" if unit == "percent" else text


def size(count: float) -> str:
    """Bytes in the largest unit that leaves a number above one: ``512 MB``."""
    for unit in _UNITS:
        if abs(count) < 1000 or unit == _UNITS[-1]:
            return f"{count:.0f} {unit}" if unit == "B" or abs(count) >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return ""


def _unit(key: str) -> str:
    if key in _WHOLE:
        return _WHOLE[key]
    return next((unit for suffix, unit in _SUFFIXES if key.endswith(suffix) and unit != "time"), "")


def _text(text: str) -> SafeString:
    if _TIME.match(text):
        moment = _moment(text)
        if moment is not None:
            return html.ago(moment)
    if len(text) > _LONGEST or "\n" in text:
        first = text.strip().splitlines()[0][:80] if text.strip() else ""
        return format_html(
            '<details class="sb-fold"><summary>{}…</summary><pre>{}</pre></details>', first, text[: 20 * _LONGEST]
        )
    return format_html('<span class="dr-text">{}</span>', text)


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def _mapping(value: Mapping[Any, Any], depth: int) -> SafeString:
    if depth >= _DEEPEST:
        return format_html("{}", counted(len(value), "entry", "entries"))
    pairs = list(value.items())[:MOST_ITEMS]
    rows = format_html_join(
        "",
        "<div><dt>{}</dt><dd>{}</dd></div>",
        ((label_of_key(str(key)), value_html(one, str(key), depth + 1)) for key, one in pairs),
    )
    return format_html('<dl class="dr-inner">{}</dl>{}', rows, _more(len(value)))


def _list(values: list[Any], key: str, depth: int) -> SafeString:
    if depth >= _DEEPEST:
        return format_html("{}", counted(len(values), "entry", "entries"))
    shown = values[:MOST_ITEMS]
    if all(isinstance(one, Mapping) for one in shown):
        return _rows(shown, len(values), depth)
    if all(isinstance(one, (str, int, float)) and len(str(one)) < 40 for one in shown):
        words = format_html_join(" ", '<span class="dr-chip">{}</span>', ((str(one),) for one in shown))
        return format_html('<span class="dr-chips">{}</span>{}', words, _more(len(values)))
    items = format_html_join("", "<li>{}</li>", ((value_html(one, key, depth + 1),) for one in shown))
    return format_html('<ul class="dr-items">{}</ul>{}', items, _more(len(values)))


def _rows(values: list[Mapping[str, Any]], count: int, depth: int) -> SafeString:
    columns = list(dict.fromkeys(str(key) for one in values for key in one))[:8]
    head = format_html_join("", '<th scope="col">{}</th>', ((label_of_key(one),) for one in columns))
    body = format_html_join(
        "",
        "<tr>{}</tr>",
        (
            (
                format_html_join(
                    "",
                    '<td data-label="{}">{}</td>',
                    ((label_of_key(name), value_html(row.get(name), name, depth + 1)) for name in columns),
                ),
            )
            for row in values
        ),
    )
    return format_html(
        '<div class="sb-scroll"><table class="sb-table"><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>{}',
        head,
        body,
        _more(count),
    )


def _more(count: int) -> SafeString:
    if count <= MOST_ITEMS:
        return SafeString("")
    return format_html(' <span class="sb-quiet sb-small">and {} more</span>', count - MOST_ITEMS)
