"""``{% load doctor %}``: evidence as tables, values of a difference, what class a repair has."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from ops import evidence_html, html
from ops.choices import RepairClass
from ops.doctor import targets

register = template.Library()

CLASS_WORDS: dict[str, str] = {
    RepairClass.AUTOMATIC: "Safe, may run by itself",
    RepairClass.CONFIRM: "Asks first",
    RepairClass.GUIDED: "Steps for you",
    RepairClass.DESTRUCTIVE: "Removes something",
}


@register.simple_tag
def evidence(facts: Any, caption: str = "Evidence") -> SafeString:
    """``{% evidence issue.evidence %}``: a table, "" for nothing."""
    return evidence_html.table(facts, caption)


@register.simple_tag
def value(one: Any, key: str = "") -> SafeString:
    """``{% value change.before %}``: one value of a difference."""
    return evidence_html.value_html(one, key)


@register.simple_tag
def repair_class(letter: str) -> SafeString:
    """``{% repair_class repair.repair_class %}``: the letter and what it means."""
    known = str(getattr(letter, "value", letter))
    words = CLASS_WORDS.get(known, known)
    return format_html('<span class="dr-class dr-class-{}"><abbr title="Class {}">{}</abbr> {}</span>', known.lower(), known, known, words)  # fmt: skip


@register.simple_tag
def target(text: str, label: str = "") -> SafeString:
    """``{% target "agent:42" %}``: a link to the object's page where it has one."""
    if not text:
        return SafeString("")
    address = targets.address_of(text)
    words = label or text
    return html.link(address, words) if address else format_html("<code>{}</code>", words)


@register.filter
def bytes_size(count: float | None) -> str:
    """``{{ process.rss_bytes|bytes_size }}``: 512 MB."""
    return evidence_html.size(count) if count is not None else ""


@register.filter
def lasted(start: datetime | None, end: datetime | None = None) -> str:
    """``{{ issue.opened_at|lasted:issue.resolved_at }}``: how long between the two, or until now."""
    if start is None:
        return ""
    return html.duration(((end or timezone.now()) - start).total_seconds() * 1000)
