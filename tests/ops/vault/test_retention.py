"""What goes and what stays, by the rules of a destination."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from ops.backup.retention import Kept, Known, verdicts

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


def copies(*days: float, **facts: object) -> list[Known]:
    return [Known(name=f"b{day}", made_at=NOW - timedelta(days=day), **facts) for day in days]  # type: ignore[arg-type]


def stays(found: list[Known], rules: Kept, zone: str = "UTC") -> dict[str, str]:
    return {one.copy.name: one.why for one in verdicts(found, rules, now=NOW, zone=ZoneInfo(zone)) if not one.goes}


def test_the_newest_and_one_of_each_day_week_and_month() -> None:
    two_a_day = copies(*[number / 2 for number in range(240)])  # four months
    kept = stays(two_a_day, Kept(last=3, daily=5, weekly=3, monthly=3))
    days = sorted({(NOW - timedelta(days=float(name[1:]))).date() for name in kept})
    # 28 to 24 November by day; Sundays by week (22, 15 beside this week's); the last of October and September by month.
    assert [f"{day:%m-%d}" for day in days] == [
        "09-30",
        "10-31",
        "11-15",
        "11-22",
        "11-24",
        "11-25",
        "11-26",
        "11-27",
        "11-28",
    ]
    assert kept["b0.0"] == "the newest"
    assert kept["b1.0"] == "one of the newest 3"
    assert kept["b28.0"].startswith("the newest of the month 2026-10")
    # The later one of a day, not the earlier.
    assert "b3.0" in kept
    assert "b3.5" not in kept


def test_days_begin_where_people_live() -> None:
    late = [
        Known("before_midnight_utc", datetime(2026, 11, 27, 23, 30, tzinfo=UTC)),
        Known("evening", datetime(2026, 11, 27, 20, 0, tzinfo=UTC)),
    ]
    rules = Kept(last=0, daily=2, weekly=0, monthly=0)
    assert set(stays(late, rules)) == {"before_midnight_utc"}
    assert set(stays(late, rules, "Europe/Berlin")) == {"before_midnight_utc", "evening"}


def test_never_go_the_last_good_one_the_newest_pinned_ones_those_of_others_and_those_before_a_change() -> None:
    rules = Kept(last=1, daily=0, weekly=0, monthly=0)
    found = [
        *copies(0, 1, 2),
        *copies(50, good=True),
        *copies(60, good=True),
        *copies(70, pinned=True),
        *copies(80, ours=False),
        *copies(20, safety=True),
        *copies(40, safety=True),
    ]
    kept = stays(found, rules)
    assert set(kept) == {"b0", "b50", "b70", "b80", "b20"}
    assert kept["b50"] == "the last good one"


def test_what_is_damaged_takes_no_ones_place() -> None:
    found = [
        *copies(0, well=False),
        *copies(1),
        *copies(2, good=True),
        *copies(3, good=True, well=False),
        *copies(4, 5),
    ]
    kept = stays(found, Kept(last=3, daily=0, weekly=0, monthly=0))
    assert set(kept) == {"b0", "b1", "b2", "b4"}


def test_of_damaged_ones_and_well_ones_the_newest_stays() -> None:
    assert set(stays([*copies(0, well=False), *copies(1, 2)], Kept(0, 0, 0, 0))) == {"b0", "b1"}


def test_all_rules_at_zero_keep_the_newest() -> None:
    assert set(stays(copies(0, 1, 2), Kept(0, 0, 0, 0))) == {"b0"}
