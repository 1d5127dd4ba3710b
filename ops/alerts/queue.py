"""Writes down what is to be told, from the issues as they are and the messages that exist: safe to repeat, by any process."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db import IntegrityError, models, transaction
from django.utils import timezone

from ops.alerts import rules, words
from ops.alerts.rules import News, Place, Told, Wishes
from ops.choices import IssueState
from ops.logs import get_logger
from ops.models import AlertChannel, AlertKind, AlertMessage, AlertState, Issue, MaintenanceWindow

logger = get_logger(__name__)

# Recoveries that could not be told at once (quiet hours, maintenance) are looked for so far back.
REMEMBERED = timedelta(days=7)
# Errors of messages that were told in another way; what begins with it counts as told.
IN_DIGEST = "Told in the digest "
_KEPT = {"root": "It follows from another issue, which is told instead.", "window": "Maintenance: "}
_ABOUT = (AlertKind.OPENED, AlertKind.REMINDER, AlertKind.RECOVERED)
# A channel is not told of its own silence: that would only wait in it.
ABOUT_CHANNELS = "alerts.health"


def queue_news(now: datetime | None = None) -> int:
    """Write all messages that are due to be told; returns how many are new. A constant number of queries a channel."""
    now = now or timezone.now()
    channels = list(AlertChannel.objects.filter(enabled=True).defer("url"))
    if not channels:
        return 0
    issues = _issues(now)
    if not issues:
        return 0
    windows = list(MaintenanceWindow.objects.filter(starts_at__lte=now, ends_at__gt=now))
    followers = dict(
        Issue.objects.exclude(state=IssueState.RESOLVED)
        .filter(root__isnull=False)
        .order_by()
        .values_list("root")
        .annotate(models.Count("pk"))
    )
    count = 0
    for channel in channels:
        try:
            count += _queue_for(channel, issues, windows, followers, now)
        except Exception:
            # One channel's settings must not keep the others from being told.
            logger.exception("alerts_not_queued", channel=channel.name)
    return count


def wishes_of(channel: AlertChannel) -> Wishes:
    """The plain values of a channel's settings."""
    return Wishes(
        min_severity=channel.min_severity,
        only_checks=tuple(channel.only_checks or ()),
        tell_recovery=channel.tell_recovery,
        remind_every=timedelta(minutes=channel.remind_every_minutes),
        quiet_from=channel.quiet_from,
        quiet_to=channel.quiet_to,
        timezone=channel.timezone,
    )


def silenced_by(windows: Iterable[MaintenanceWindow], check_id: str) -> MaintenanceWindow | None:
    """The window that keeps a check quiet, None when there is none."""
    return next((w for w in windows if not w.checks or rules.matches(check_id, w.checks)), None)


def _issues(now: datetime) -> dict[tuple[str, str], Issue]:
    """The newest issue of every place that is not well, or was lately."""
    wanted = ~models.Q(state=IssueState.RESOLVED) | models.Q(resolved_at__gt=now - REMEMBERED)
    newest: dict[tuple[str, str], Issue] = {}
    for issue in Issue.objects.filter(wanted).select_related("root").order_by("pk"):
        newest[issue.check_id, issue.target] = issue
    return newest


def _told(channel: AlertChannel, since: datetime) -> dict[tuple[str, str], list[Told]]:
    """What the channel heard of each place, in order."""
    rows = (
        AlertMessage.objects.filter(channel=channel, kind__in=_ABOUT, issue__isnull=False)
        .filter(models.Q(issue__resolved_at__isnull=True) | models.Q(issue__resolved_at__gt=since))
        .order_by("pk")
        .values_list(
            *("issue", "issue__check_id", "issue__target", "kind", "key", "state", "error", "sent_at", "created_at")
        )
    )
    found: dict[tuple[str, str], list[Told]] = defaultdict(list)
    for issue, check_id, target, kind, key, state, error, sent_at, created_at in rows:
        if state == AlertState.SUPPRESSED and not error.startswith(IN_DIGEST):
            continue
        told = Told(issue, kind, key.rpartition(":")[2], sent_at or created_at, failed=state == AlertState.FAILED)
        found[check_id, target].append(told)
    return found


def _queue_for(
    channel: AlertChannel,
    issues: dict[tuple[str, str], Issue],
    windows: list[MaintenanceWindow],
    followers: dict[int, int],
    now: datetime,
) -> int:
    wishes, told = wishes_of(channel), _told(channel, now - REMEMBERED - timedelta(days=1))
    deaf = bool(channel.last_error)
    wanted: list[tuple[News, Issue, MaintenanceWindow | None]] = []
    for place, issue in issues.items():
        if issue.check_id == ABOUT_CHANNELS and deaf and issue.is_open:
            continue
        window = silenced_by(windows, issue.check_id)
        news = rules.news_of(
            _place(issue), told.get(place, ()), wishes, silenced=f"window:{window.pk}" if window else "", now=now
        )
        if news is not None:
            wanted.append((news, issue, window))
    wanted.sort(key=lambda one: (bool(one[0].kept_back), -rules.rank(one[1].severity), one[1].pk))
    known = set(
        AlertMessage.objects.filter(key__in=[_key(channel, news) for news, _, _ in wanted]).values_list(
            "key", flat=True
        )
    )
    fresh = [one for one in wanted if _key(channel, one[0]) not in known]
    if not fresh:
        return 0
    pace = _Pace(channel, wishes, now)
    return sum(_write(channel, news, issue, window, followers, pace, now) for news, issue, window in fresh)


def _place(issue: Issue) -> Place:
    root = issue.root if issue.root_id and issue.root is not None and issue.root.is_open else None
    return Place(
        issue=issue.pk,
        check_id=issue.check_id,
        severity=issue.severity,
        state=issue.state,
        flaps=issue.flaps,
        opened_at=issue.opened_at,
        resolved_at=issue.resolved_at if not issue.is_open else None,
        root=root.pk if root is not None else None,
    )


def _key(channel: AlertChannel, news: News) -> str:
    """The same news has the same key, whoever finds it: the database keeps one."""
    place = f"{channel.pk}:{news.place.issue}"
    if news.kept_back:
        return f"kept:{place}:{news.kept_back}"
    if news.kind == "recovered":
        return f"recovered:{place}"
    number = f"{news.number}:" if news.kind == "reminder" else ""
    return f"{news.kind}:{place}:{number}{news.place.severity}"


class _Pace:
    """How fast a channel is told: single messages up to a number, then digests."""

    def __init__(self, channel: AlertChannel, wishes: Wishes, now: datetime) -> None:
        rows = AlertMessage.objects.filter(channel=channel)
        lately = rows.filter(created_at__gt=now - rules.STORM_WINDOW)
        self.single = lately.filter(
            kind__in=_ABOUT, state__in=(AlertState.QUEUED, AlertState.SENT, AlertState.FAILED)
        ).count()
        self.held = rows.filter(state=AlertState.HELD).aggregate(first=models.Min("due_at"))["first"]
        last = rows.filter(kind=AlertKind.DIGEST).order_by("-pk").values_list("created_at", flat=True).first()
        self.last_digest = last
        self.quiet = rules.quiet_until(wishes, now)
        self.now = now

    def hold(self, severity: str) -> tuple[datetime, str] | None:
        """When it goes into a digest, and why; None: it goes out by itself."""
        if self.quiet is not None and severity != "critical":
            return self.quiet, "Quiet hours."
        due = rules.storm_due(self.now, single=self.single, held=self.held, last_digest=self.last_digest)
        if due is not None:
            self.held = due
            return due, "Many messages at once."
        self.single += 1
        return None


def _write(
    channel: AlertChannel,
    news: News,
    issue: Issue,
    window: MaintenanceWindow | None,
    followers: dict[int, int],
    pace: _Pace,
    now: datetime,
) -> int:
    state, due, note = AlertState.QUEUED, now, ""
    if news.kept_back:
        state = AlertState.SUPPRESSED
        note = f"{_KEPT['window']}{window.reason}" if window is not None else _KEPT["root"]
    else:
        hold = pace.hold(issue.severity)
        if hold is not None:
            state, due, note = AlertState.HELD, hold[0], hold[1]
    if news.kind == "recovered":
        title, body = words.recovered(issue, news.began or issue.opened_at)
    elif news.kind == "reminder":
        title, body = words.reminder(issue, now)
    else:
        count = followers.get(issue.pk, 0)
        title, body = words.opened(issue, worse=news.worse, again=news.again, followers=count)
    try:
        with transaction.atomic():
            AlertMessage.objects.create(
                channel_id=channel.pk, issue=issue, kind=AlertKind(news.kind), key=_key(channel, news), title=title,
                body=body, state=state, due_at=due, error=note[:500],
            )  # fmt: skip
    except IntegrityError:
        # Another process wrote it at this moment, or the channel was just deleted.
        return 0
    return 1
