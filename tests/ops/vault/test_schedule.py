"""When backups are made by themselves."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from ops.models import AuditEvent, Job
from ops.models.backup import Backup, BackupCopy, BackupDestination, BackupDrill, BackupPlan
from ops.services import backup_schedule
from ops.services.backup_schedule import FIRST_AFTER, drill_due, next_run, plan, plan_save, tick

pytestmark = pytest.mark.django_db


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def daily(zone: str = "Europe/Berlin", hour: int = 3, minute: int = 15, **more: object) -> BackupPlan:
    fields = {"every_hours": 24, "at": time(hour, minute), "timezone": zone, "jitter_minutes": 30, **more}
    return BackupPlan(**fields)


class TestNextRun:
    def test_a_time_of_day_stays_the_same_over_a_change_of_the_clocks(self) -> None:
        row, runs = daily(), []
        moment = at("2026-10-23T12:00:00")
        for _ in range(3):
            moment = next_run(row, moment)
            runs.append(f"{moment:%d %H:%M}")
        # 03:15 in Berlin is 01:15 UTC in summer, 02:15 in winter (from 25 October 2026 on).
        assert runs == ["24 01:15", "25 02:15", "26 02:15"]

    def test_a_time_that_the_clocks_jump_over_comes_as_much_later(self) -> None:
        # On 29 March 2026 02:30 does not exist in Berlin.
        run = next_run(daily(hour=2, minute=30), at("2026-03-28T12:00:00"))
        assert run == at("2026-03-29T01:30:00")
        assert next_run(daily(hour=2, minute=30), run) == at("2026-03-30T00:30:00")

    def test_a_time_that_the_clocks_show_twice_counts_once(self) -> None:
        # On 25 October 2026 02:30 in Berlin is 00:30 and 01:30 UTC.
        first = next_run(daily(hour=2, minute=30), at("2026-10-24T12:00:00"))
        assert first == at("2026-10-25T00:30:00")
        assert next_run(daily(hour=2, minute=30), first) == at("2026-10-26T01:30:00")

    def test_jitter_is_added_and_does_not_skip_a_day(self) -> None:
        row = daily()
        first = next_run(row, at("2026-06-01T12:00:00"), spread=1.0)
        assert first == at("2026-06-02T01:45:00")
        assert next_run(row, first, spread=0.0) == at("2026-06-03T01:15:00")

    def test_the_day_is_that_of_the_people(self) -> None:
        """In Los Angeles it is still the first of June, and its 22:15 is to come."""
        row = daily("America/Los_Angeles", hour=22)
        assert next_run(row, at("2026-06-02T03:00:00")) == at("2026-06-02T05:15:00")

    def test_jitter_never_makes_it_earlier_and_has_an_end(self) -> None:
        row, noon = daily(), at("2026-06-01T12:00:00")
        assert next_run(row, noon, spread=-3.0) == next_run(row, noon, spread=0.0) == at("2026-06-02T01:15:00")
        assert next_run(row, noon, spread=3.0) == at("2026-06-02T01:45:00")

    def test_without_a_time_of_day_it_is_counted_from_the_last(self) -> None:
        row = BackupPlan(every_hours=6, jitter_minutes=10)
        assert next_run(row, at("2026-06-01T12:00:00"), spread=0.5) == at("2026-06-01T18:05:00")

    def test_every_third_day(self) -> None:
        row = daily(every_hours=72)
        run = next_run(row, at("2026-06-01T01:15:00"))
        assert run == at("2026-06-04T01:15:00")


class TestTick:
    def jobs(self) -> int:
        return Job.objects.filter(kind="backup.create").count()

    def test_a_new_installation_makes_its_first_one_after_an_hour(self) -> None:
        now = at("2026-06-01T12:00:00")
        assert tick(now=now) == {}
        assert plan().next_at == now + FIRST_AFTER
        assert tick(now=now + timedelta(minutes=59)) == {}
        assert tick(now=now + timedelta(minutes=61)) == {"backup": 1}

    def test_of_missed_runs_one_is_made_up_for_at_once(self) -> None:
        now = at("2026-06-10T12:00:00")
        BackupPlan.objects.update_or_create(pk=1, defaults={"every_hours": 24, "next_at": now - timedelta(days=5)})
        assert tick(now=now, spread=0.0) == {"backup": 1}
        assert plan().next_at == now + timedelta(hours=24)
        assert tick(now=now + timedelta(minutes=1)) == {}
        assert self.jobs() == 1

    def test_two_beats_begin_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = at("2026-06-10T12:00:00")
        row, _ = BackupPlan.objects.update_or_create(pk=1, defaults={"next_at": now - timedelta(hours=1)})
        stale = BackupPlan.objects.get(pk=row.pk)
        assert tick(now=now, spread=0.0) == {"backup": 1}
        # The other has read the row before.
        monkeypatch.setattr(backup_schedule, "plan", lambda: stale)
        assert tick(now=now, spread=0.0) == {}
        assert self.jobs() == 1

    def test_switched_off_nothing_is_made(self) -> None:
        now = at("2026-06-10T12:00:00")
        BackupPlan.objects.update_or_create(pk=1, defaults={"enabled": False, "next_at": now - timedelta(days=1)})
        row = Backup.objects.create(name="b", actor="test", made_at=now, state="complete", finished_at=now)
        place = BackupDestination.objects.create(name="here", enabled=False, options={"path": "backups"})
        BackupCopy.objects.create(backup=row, destination=place, state="stored")
        assert drill_due(plan(), now) == (row, None)
        assert tick(now=now) == {}

    def test_a_step_that_fails_leaves_the_others(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fails(now: datetime) -> int:
            raise RuntimeError("The destination is on fire.")

        now = at("2026-06-10T12:00:00")
        BackupPlan.objects.update_or_create(pk=1, defaults={"next_at": now + timedelta(hours=1)})
        BackupDestination.objects.create(name="here", options={"path": "backups"})
        monkeypatch.setattr(backup_schedule, "_copies", fails)
        assert tick(now=now) == {"look": 1}

    def test_every_six_hours_destinations_are_looked_at(self) -> None:
        now = timezone.now()
        BackupPlan.objects.update_or_create(pk=1, defaults={"next_at": now + timedelta(days=1)})
        assert tick(now=now) == {}, "there is none"
        BackupDestination.objects.create(name="here", options={"path": "backups"})
        assert tick(now=now) == {"look": 1}
        assert tick(now=now) == {}, "one is open"
        Job.objects.update(state="succeeded")
        assert tick(now=now + timedelta(hours=5)) == {}
        assert tick(now=now + timedelta(hours=7)) == {"look": 1}

    def test_a_run_that_failed_is_tried_again_soon(self) -> None:
        now = timezone.now()
        BackupPlan.objects.update_or_create(pk=1, defaults={"next_at": now + timedelta(hours=20)})
        backup_schedule.after_run(complete=False)
        assert plan().next_at - now < timedelta(minutes=31)
        # A regular run that is nearer stays where it is.
        near = now + timedelta(minutes=3)
        BackupPlan.objects.update(next_at=near)
        backup_schedule.after_run(complete=False)
        assert plan().next_at == near


class TestDrills:
    def made(self, places: int, now: datetime) -> Backup:
        row = Backup.objects.create(name="b", actor="test", made_at=now, state="complete")
        for number in range(places):
            place = BackupDestination.objects.create(name=f"place {number}", options={"path": f"p{number}"})
            BackupCopy.objects.create(backup=row, destination=place, state="stored")
        return row

    def drilled(self, row: Backup, destination: BackupDestination | None, at: datetime, state: str = "passed") -> None:
        drill = BackupDrill.objects.create(backup=row, destination=destination, state=state, actor="test")
        BackupDrill.objects.filter(pk=drill.pk).update(started_at=at)

    def test_weekly_and_after_a_failure_sooner(self) -> None:
        now = at("2026-06-10T12:00:00")
        row = self.made(1, now)
        assert drill_due(plan(), now) == (row, None)
        self.drilled(row, None, now, "failed")
        assert drill_due(plan(), now + timedelta(hours=1)) is None
        assert drill_due(plan(), now + timedelta(hours=7)) == (row, None)
        self.drilled(row, None, now + timedelta(hours=7))
        assert drill_due(plan(), now + timedelta(days=6)) is None
        assert drill_due(plan(), now + timedelta(days=8)) == (row, None)

    def test_each_destination_has_its_turn(self) -> None:
        now = at("2026-06-10T12:00:00")
        row = self.made(3, now)
        turns = []
        for week in range(6):
            due = drill_due(plan(), now + timedelta(days=8 * week))
            assert due is not None
            turns.append(str(due[1]))
            self.drilled(row, due[1], now + timedelta(days=8 * week))
        assert turns == ["place 0", "place 1", "place 2"] * 2


def test_while_rows_are_put_back_nothing_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    now = at("2026-06-10T12:00:00")
    BackupPlan.objects.update_or_create(pk=1, defaults={"next_at": now - timedelta(hours=1)})
    monkeypatch.setattr(backup_schedule, "is_quiet", lambda: "A restore is being applied")
    assert tick(now=now) == {}
    monkeypatch.undo()
    assert tick(now=now) == {"backup": 1}


def test_a_plan_says_what_is_wrong_with_it_field_by_field() -> None:
    with pytest.raises(ValidationError) as caught:
        plan_save(
            actor="test", every_hours=5, at=time(3), timezone="Mars/Olympus", contents=["gold"], jitter_minutes=-1
        )
    assert set(caught.value.message_dict) == {"at", "timezone", "contents", "jitter_minutes"}


def test_a_changed_plan_runs_at_its_new_time() -> None:
    row = plan_save(actor="test", at=time(4, 0), timezone="Europe/Berlin", jitter_minutes=0)
    assert row.next_at is not None
    from zoneinfo import ZoneInfo

    assert row.next_at.astimezone(ZoneInfo("Europe/Berlin")).time() == time(4, 0)
    event = AuditEvent.objects.get(action="backupplan.changed")
    assert event.after["timezone"] == "Europe/Berlin"
    # Counted from the last one, it would be long past: it is due now, and not in the past.
    BackupPlan.objects.update(last_complete_at=timezone.now() - timedelta(days=9))
    before = timezone.now()
    assert plan_save(actor="test", every_hours=6, jitter_minutes=0).next_at >= before
    assert (
        plan_save(actor="test", enabled=False, at=time(4, 0), timezone="Europe/Berlin", jitter_minutes=0).next_at
        is None
    )
