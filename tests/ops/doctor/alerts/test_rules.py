"""What is told, decided from plain values."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import pytest

from ops.alerts.rules import CALM, STORM, Place, Told, Wishes, news_of, quiet_until, storm_due

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


def place(**fields):
    return Place(
        **{
            "issue": 1,
            "check_id": "db.locked",
            "severity": "error",
            "state": "open",
            "flaps": 0,
            "opened_at": NOW - timedelta(minutes=5),
            **fields,
        }
    )


def told(kind="opened", severity="error", ago=5, issue=1, failed=False):
    return Told(issue, kind, severity, NOW - timedelta(minutes=ago), failed)


def ask(where, heard=(), wishes=None, silenced="", now=NOW):
    return news_of(where, list(heard), wishes or Wishes(), silenced=silenced, now=now)


def test_an_open_issue_is_told_once():
    assert ask(place()).kind == "opened"
    assert ask(place(), [told()]) is None


@pytest.mark.parametrize(
    ("where", "wishes"),
    [
        (place(severity="warning"), Wishes(min_severity="error")),
        (place(), Wishes(only_checks=["matrix.*", "db.low"])),
        (place(state="snoozed"), Wishes()),
        (place(state="ignored"), Wishes()),
    ],
)
def test_what_a_channel_does_not_want_is_not_told(where, wishes):
    assert ask(where, wishes=wishes) is None


def test_a_pattern_lets_through():
    assert ask(place(), wishes=Wishes(only_checks=["db.*"])).kind == "opened"


def test_worse_is_told_again_and_better_is_not():
    assert ask(place(severity="critical"), [told()]).worse
    assert ask(place(severity="warning"), [told()]) is None


def test_what_follows_from_an_open_root_is_kept_back_and_told_later():
    assert ask(place(root=9)).kept_back == "root:9"
    assert ask(place()).kept_back == ""
    assert ask(place(root=9), [told(ago=600)]) is None


def test_maintenance_keeps_back_opening_reminder_and_recovery():
    assert ask(place(), silenced="window:1").kept_back == "window:1"
    assert ask(place(), [told(ago=600)], silenced="window:1") is None
    assert ask(place(resolved_at=NOW, state="resolved"), [told()], silenced="window:1") is None


def test_reminders_while_nobody_has_taken_it_on():
    assert ask(place(), [told(ago=241)]).number == 1
    assert ask(place(), [told(ago=500), told("reminder", ago=241)]).number == 2
    assert ask(place(), [told(ago=500), told("reminder", ago=10)]) is None
    assert ask(place(state="acknowledged"), [told(ago=999)]) is None
    assert ask(place(state="fixing"), [told(ago=999)]) is None
    assert ask(place(), [told(ago=999)], Wishes(remind_every=timedelta(0))) is None


def test_no_reminder_in_quiet_hours_unless_it_is_critical():
    quiet = Wishes(quiet_from=time(11), quiet_to=time(13))
    assert ask(place(), [told(ago=999)], quiet) is None
    assert ask(place(severity="critical"), [told(ago=999, severity="critical")], quiet).kind == "reminder"


def test_a_recovery_is_told_to_whom_the_opening_was():
    over = place(state="resolved", resolved_at=NOW)
    assert ask(over, [told()]).kind == "recovered"
    assert ask(over) is None
    assert ask(over, [told(failed=True)]) is None
    assert ask(over, [told(), told("recovered", ago=1)]) is None
    assert ask(over, [told()], Wishes(tell_recovery=False)) is None


def test_what_comes_and_goes_is_told_once_and_its_end_when_it_lasts():
    again = place(issue=2, flaps=1)
    first = [told(), told("recovered", ago=3)]
    assert ask(again, first).again
    heard = [*first, told(issue=2, ago=2)]
    over = place(issue=2, flaps=1, state="resolved", resolved_at=NOW)
    assert ask(over, heard) is None
    # It comes back three more times: nothing is said of it.
    assert ask(place(issue=3, flaps=2), heard) is None
    assert ask(place(issue=5, flaps=4), heard) is None
    calm = place(issue=5, flaps=4, state="resolved", resolved_at=NOW - CALM)
    news = ask(calm, heard)
    assert (news.kind, news.began) == ("recovered", NOW - timedelta(minutes=5))


@pytest.mark.parametrize(
    ("start", "end", "hour", "ends"),
    [
        (22, 7, 23, datetime(2026, 3, 11, 7, tzinfo=UTC)),
        (22, 7, 6, datetime(2026, 3, 10, 7, tzinfo=UTC)),
        (22, 7, 7, None),
        (12, 13, 12, datetime(2026, 3, 10, 13, tzinfo=UTC)),
        (12, 13, 11, None),
        (12, 12, 12, None),
    ],
)
def test_quiet_hours(start, end, hour, ends):
    wishes = Wishes(quiet_from=time(start), quiet_to=time(end))
    assert quiet_until(wishes, NOW.replace(hour=hour)) == ends


def test_quiet_hours_are_in_the_channel_s_own_zone():
    wishes = Wishes(quiet_from=time(22), quiet_to=time(7), timezone="Asia/Tokyo")
    # 12:00 UTC is 21:00 in Tokyo, 13:00 is 22:00.
    assert quiet_until(wishes, NOW) is None
    assert quiet_until(wishes, NOW + timedelta(hours=1)) == datetime(2026, 3, 10, 22, tzinfo=UTC)


def test_a_storm_goes_into_digests_five_minutes_apart():
    assert storm_due(NOW, single=STORM - 1, held=None, last_digest=None) is None
    assert storm_due(NOW, single=STORM, held=None, last_digest=None) == NOW + timedelta(minutes=1)
    due = NOW + timedelta(seconds=20)
    assert storm_due(NOW, single=STORM, held=due, last_digest=None) == due
    last = NOW - timedelta(minutes=1)
    assert storm_due(NOW, single=STORM, held=None, last_digest=last) == NOW + timedelta(minutes=4)
