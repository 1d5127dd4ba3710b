"""Something has gone that a backup still has: a good part of it, and nobody removed it through Switchboard."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from agents.models import Agent
from chat.models import Person
from ops.doctor_data.lost_rows import look, lost
from ops.models import Service
from ops.models.backup import Backup, BackupCopy, BackupDestination, BackupState, CopyState
from ops.models.restore import Restore
from ops.services.audit import record

pytestmark = pytest.mark.django_db


def backup(*, days: float = 1, good: bool = True, **rows: int) -> Backup:
    labels = {"people": "chat.Person", "services": "ops.Service", "agents": "agents.Agent"}
    made_at = timezone.now() - timedelta(days=days)
    row = Backup.objects.create(
        name=f"b{days}",
        state=BackupState.COMPLETE,
        made_at=made_at,
        good_at=made_at if good else None,
        manifest={"tables": {labels[name]: {"rows": number} for name, number in rows.items()}},
    )
    place, _ = BackupDestination.objects.get_or_create(name="here", kind="folder", options={"path": str(Path("x"))})
    BackupCopy.objects.create(backup=row, destination=place, state=CopyState.STORED)
    return row


def people(number: int) -> None:
    Person.objects.all().delete()
    Person.objects.bulk_create(Person(username=f"p{one}") for one in range(number))


@pytest.mark.parametrize(
    ("there", "here", "is_lost"),
    [(4, 4, False), (5, 4, True), (6, 5, False), (90, 73, False), (90, 72, True), (200, 181, False), (200, 180, True), (3, 0, True), (4, 9, False)],
)  # fmt: skip
def test_a_good_part_is_a_fifth_or_twenty_or_all(there: int, here: int, is_lost: bool):
    backup(people=there)
    people(here)
    found = look()
    assert bool(found.lost) is is_lost
    assert lost().status == ("fail" if is_lost else "pass")
    if is_lost:
        assert found.lost["chat.Person"] == {"label": "people", "kind": "people", "there": there, "here": here}


def test_what_somebody_removed_through_switchboard_is_not_lost():
    people(10)
    for _ in range(5):
        record(actor="person:ada", action="person.deleted", target=Person.objects.first())
    made = backup(days=0, people=10)  # those are not in it
    gone = list(Person.objects.order_by("pk")[:3])
    for number, person in enumerate(gone):
        event = record(actor="person:ada", action="person.deleted", target=person)
        person.delete()
        assert bool(look().lost) is False, number
        assert event.at > made.made_at
    Person.objects.first().delete()  # type: ignore[union-attr]
    assert look().lost["chat.Person"]["here"] == 6, "one more has gone than was removed"
    record(actor="a", action="agent.deleted", target=Service.objects.create(name="x", kind="demo"))
    record(actor="a", action="person.changed", target=Person.objects.first())
    assert look().lost


@pytest.mark.parametrize("action", ["reset.applied", "restore.applied", "homeserver.renamed"])
def test_whoever_reset_or_restored_since_wanted_what_is_here(action: str):
    record(actor="a", action=action)
    backup(days=0, people=10)
    assert look().lost, "that was before the backup"
    record(actor="a", action=action)
    assert not look().lost


def test_what_is_said_names_how_many_of_what_and_which_backup():
    backup(days=3, people=9, services=1, agents=9)
    backup(days=1, good=False, people=0)
    people(2)
    found = look()
    assert found.kinds == ["mappings", "people", "settings"]
    said = lost()
    assert "7 rows of 9 people" in said.sentence
    assert "that the backup b3 has are gone, and nobody removed them through Switchboard." in said.sentence
    assert Agent.objects.count() == 0
    assert said.evidence["backup"] == "b3", "the last good one before a newer one that was never drilled"
    Backup.objects.filter(name="b3").delete()
    assert lost().status == "pass"
    assert "Nothing is missing that b1 has." in lost().sentence
    Backup.objects.all().delete()
    assert "no backup to compare with" in lost().sentence


def restore(minutes: float, **more: Any) -> Restore:
    values = {"state": "reconciling", "applied_at": timezone.now() - timedelta(minutes=minutes), **more}
    return Restore.objects.create(source=f"of {minutes}", actor="test", **values)


def test_a_restore_that_nobody_finished_is_said_first():
    backup(people=10)
    restore(14)
    restore(16, state="done")
    assert "of 14" not in lost().sentence
    old = restore(16)
    said = lost()
    assert said.status == "fail"
    assert "The restore of of 16 was cut off after its rows were in" in said.sentence
    assert said.evidence["unfinished"] == [{"restore": str(old.pk), "source": "of 16"}]
