"""What messages say: a title that is enough on a phone's lock screen, and a body with what to do and where."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256

from django.conf import settings
from django.urls import NoReverseMatch, reverse

from ops.doctor.repairs import get_repair
from ops.doctor.targets import label_of
from ops.models import AlertKind, AlertMessage, Issue
from ops.registry import get_check
from ops.words import counted

_TITLE = 250
_NAMED = 5
_TONES = {"info": "info", "warning": "warning", "error": "failure", "critical": "failure"}


def title_of_issue(issue: Issue) -> str:
    """The check's title, with the target it is about."""
    check = get_check(issue.check_id)
    title = check.title if check is not None else issue.check_id
    return f"{title} ({label_of(issue.target)})" if issue.target else title


def opened(issue: Issue, *, worse: bool = False, again: bool = False, followers: int = 0) -> tuple[str, str]:
    """Title and body of the news that something is wrong."""
    head = "Worse now" if worse else "Back again" if again else "Not well"
    lines = [issue.sentence, *_affected(issue), f"Severity: {issue.severity}. Since {_time(issue.opened_at)}."]
    if again:
        lines.append("It comes and goes. Its recovery is told when it has lasted ten minutes.")
    if followers:
        lines.append(f"{counted(followers, 'other issue follows', 'other issues follow')} from it.")
    return _title(f"{head} ({issue.severity}): {title_of_issue(issue)}"), _body([*lines, *_remedy(issue)])


def reminder(issue: Issue, now: datetime) -> tuple[str, str]:
    """Title and body of the reminder that something is still wrong."""
    lasts = span(now - issue.opened_at)
    lines = [issue.sentence, *_affected(issue), f"Severity: {issue.severity}. Since {_time(issue.opened_at)}."]
    return _title(f"Still not well after {lasts}: {title_of_issue(issue)}"), _body([*lines, *_remedy(issue)])


def recovered(issue: Issue, began: datetime) -> tuple[str, str]:
    """Title and body of the news that it is over; ``began``: when it was first told."""
    ended = issue.resolved_at or issue.last_failed_at
    lines = [
        f"It was not well from {_time(began)} to {_time(ended)}.",
        f"It had said: {issue.sentence}",
    ]
    return _title(f"Well again after {span(ended - began)}: {title_of_issue(issue)}"), _body([*lines, _address(issue)])


def digest(messages: Sequence[AlertMessage]) -> tuple[str, str]:
    """Title and body for many at once, one line an issue: what is wrong still comes first."""
    last: dict[int, AlertMessage] = {}
    for message in messages:
        last[message.issue_id or -message.pk] = message
    over = [one for one in last.values() if _is_over(one)]
    wrong = [one for one in last.values() if not _is_over(one)]
    lines = [f"- {one.title}" for one in wrong]
    for one in over:
        line = one.title
        if one.kind != AlertKind.RECOVERED and one.issue is not None and one.issue.resolved_at is not None:
            lasted = span(one.issue.resolved_at - one.issue.opened_at)
            line = f"Well again after {lasted}: {title_of_issue(one.issue)}"
        lines.append(f"- {line}")
    title = f"{counted(len(wrong), 'thing is', 'things are')} not well"
    if over:
        title += f", {counted(len(over), 'is', 'are')} well again"
    return _title(title), _body([*lines, _list_address()])


def test_words(channel_name: str, actor: str) -> tuple[str, str]:
    """Title and body of a test."""
    return "Switchboard: test", _body(
        [f"This is a test of the channel {channel_name}, sent by {actor}.", "Alerts will look like this.", _home()]
    )


def tone_of(message: AlertMessage) -> str:
    """info, success, warning or failure: what transports colour a message by."""
    if message.kind == AlertKind.RECOVERED:
        return "success"
    if message.kind in (AlertKind.OPENED, AlertKind.REMINDER) and message.issue is not None:
        return _TONES.get(message.issue.severity, "warning")
    return "warning" if message.kind == AlertKind.DIGEST else "info"


def reference(key: str) -> str:
    """A short mark of a message, the same at every attempt: a receiver can tell a repetition by it."""
    return sha256(key.encode()).hexdigest()[:10]


def span(duration: timedelta) -> str:
    """``12 s``, ``5 min``, ``3 h 5 min``, ``2 d 4 h``."""
    seconds = max(0, round(duration.total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    minutes = seconds // 60
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def _is_over(message: AlertMessage) -> bool:
    return message.kind == AlertKind.RECOVERED or (message.issue is not None and not message.issue.is_open)


def _affected(issue: Issue) -> list[str]:
    if not issue.affected_count:
        return []
    names = [label_of(target) for target in issue.affected.values_list("target", flat=True)[:_NAMED]]
    rest = issue.affected_count - len(names)
    return [f"It concerns {', '.join(names)}{f' and {rest} more' if rest > 0 else ''}."] if names else []


def _remedy(issue: Issue) -> list[str]:
    repair = get_repair(str((issue.fix or {}).get("repair", "")))
    lines = [f"A repair is offered: {repair.title}."] if repair is not None else []
    return [*lines, _address(issue)]


def _address(issue: Issue) -> str:
    try:
        return settings.PUBLIC_URL + reverse("admin:ops_issue_change", args=[issue.pk])
    except NoReverseMatch:
        return _home()


def _list_address() -> str:
    try:
        return settings.PUBLIC_URL + reverse("admin:ops_issue_changelist")
    except NoReverseMatch:
        return _home()


def _home() -> str:
    return settings.PUBLIC_URL + reverse("admin:index")


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _title(text: str) -> str:
    return text if len(text) <= _TITLE else f"{text[: _TITLE - 1]}…"


def _body(lines: Sequence[str]) -> str:
    return "\n".join(line for line in lines if line)
