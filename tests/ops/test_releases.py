"""Releases are noted, an upgrade is backed up as the tables were, and the way back reverses what it brought."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from django.conf import settings as running

from ops.doctor_recovery import rollback
from ops.git_revision import _of
from ops.models import AuditEvent, Backup, Release
from ops.runner import run_checks
from ops.services import releases
from tests.up.running import Up

FORMER = "0006_import_without_payload"
HEADS = "from ops.services.releases import newest_migrations\nresult=newest_migrations()['agents']"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Up:
    """An installation that does not run: of the version before the newest migration of ``agents``, with a room in it."""
    up = Up(tmp_path_factory.mktemp("releases"), DEMO_AGENTS="false")
    up.ask(
        "from ops.models import Service\nfrom agents.models import Room\n"
        "service=Service.objects.create(name='matrix', kind='homeserver', base_url='http://127.0.0.1:1')\n"
        "Room.objects.create(homeserver=service, room_id='!kept:sb.test', name='Kept')\n"
        "from ops.services.releases import note_release\nnote_release()\nresult=1"
    )
    up.manage("migrate", "agents", FORMER, "-v0")
    up.ask("from ops.services.releases import note_release\nnote_release()\nresult=1")
    return up


def test_an_upgrade_is_backed_up_as_it_was(house: Up) -> None:
    assert house.ask(HEADS) == FORMER
    said = house.manage("migrate")
    assert "Backup before the upgrade: switchboard-" in said
    assert house.ask(HEADS) != FORMER
    kept = house.ask(
        "from ops.models import Release, Backup\nrow=Release.objects.order_by('-id').first()\n"
        "from ops.services import backups\nfrom ops.backup.read import open_backup\n"
        "reader=open_backup(backups.backup_fetch(row.backup))\n"
        "shape=next(one for one in reader.begin.tables if one.label=='agents.Room')\n"
        "rooms=[list(r) for m in reader.members() if m.kind=='rows' and m.label=='agents.Room' for r in m.rows()]\n"
        "result={'backup': row.backup.name, 'pinned': row.backup.pinned, 'verified': bool(row.backup.verified_at),"
        " 'note': row.backup.note, 'missing': row.backup.missing, 'columns': list(shape.names), 'rooms': [[str(value) for value in row] for row in rooms],"
        " 'agents': reader.begin.migrations['agents'][-1]}"
    )
    assert kept["pinned"]
    assert kept["verified"]
    assert kept["missing"] == {}
    assert kept["agents"] == FORMER
    assert "history_until" not in kept["columns"]
    assert "!kept:sb.test" in kept["rooms"][0]
    # Nothing to change is nothing to back up.
    assert "Backup" not in house.manage("migrate")


def test_back_to_the_release_before_and_forward_again(house: Up) -> None:
    newest = house.ask(HEADS)
    planned = json.loads(house.manage("repair", "release.rollback", "--dry-run", "--json"))
    assert [(one["target"], one["what"]) for one in planned["changes"]] == [("migration:agents", newest)]
    done = house.manage("repair", "release.rollback", "--typed", "roll back", "--json")
    run = json.loads(done)
    assert run["state"] == "succeeded", run
    assert house.ask(HEADS) == FORMER
    assert (
        house.ask(
            "from ops.models import Backup\nresult=Backup.objects.filter(note__startswith='Before going back').count()"
        )
        == 1
    )
    house.manage("undo", run["id"])
    assert house.ask(HEADS) == newest
    assert house.ask("from agents.models import Room\nresult=Room.objects.get().room_id") == "!kept:sb.test"


@pytest.mark.django_db(transaction=True)
class TestRows:
    def test_a_start_that_differs_is_written_down(self, monkeypatch, settings):
        first = releases.note_release()
        assert first is not None
        assert releases.note_release().pk == first.pk
        settings.VERSION = "9.9.9"
        second = releases.note_release()
        assert second.pk != first.pk
        assert releases.previous().pk == first.pk
        told = releases.Difference.between(first, second)
        assert told.sentences == [
            f"Version {running.VERSION if running.VERSION != '9.9.9' else first.version} became 9.9.9."
        ]
        assert told.reverse == []
        assert "became 9.9.9" in AuditEvent.objects.filter(action="release.started").first().message

    def test_settings_are_named_and_not_shown(self, monkeypatch):
        from ops.processes import facts

        first = releases.note_release()
        seen = facts.settings_seen()
        monkeypatch.setattr(facts, "settings_seen", lambda values=None: {**seen, "LOG_LEVEL": "another"})
        second = releases.note_release()
        assert releases.Difference.between(first, second).settings == ["LOG_LEVEL"]
        assert not any(str(value).startswith("AGE-SECRET") for value in second.config.values())

    def test_a_database_of_a_newer_version_is_seen_and_has_a_guide(self):
        from ops.doctor.guides import guide_for
        from ops.doctor.repairs import RepairRefused
        from ops.doctor_recovery import faults
        from ops.services.repairs import repair_plan

        releases.note_release()
        assert [run.status for run in run_checks([rollback.CHECK]) if run.check.id == rollback.CHECK] == ["pass"]
        memory = faults.migrate_by_a_newer_version()
        try:
            (run,) = [run for run in run_checks([rollback.CHECK]) if run.check.id == rollback.CHECK]
            assert run.status == "fail"
            assert run.evidence["unknown"] == ["ops.9999_of_a_newer_version"]
            assert "release.rollback" in str(guide_for(rollback.CHECK).to_dict())
            with pytest.raises(RepairRefused, match=r"does not know ops\.9999"):
                repair_plan(repair_id="release.rollback", actor="test")
        finally:
            faults.forget_the_newer_version(memory)

    def test_what_cannot_be_reversed_is_refused_with_the_backup(self, monkeypatch):
        from django.utils import timezone

        from ops.doctor.repairs import RepairRefused
        from ops.services.repairs import repair_plan

        before = releases.note_release()
        backup = Backup.objects.create(name="switchboard-before", made_at=timezone.now(), actor="test")
        heads = dict(before.migrations)
        Release.objects.filter(pk=before.pk).update(migrations={**heads, "ops": "0005_desk_sealed_answers"})
        Release.objects.create(version="2", migrations=heads, last_seen_at=timezone.now(), backup=backup)
        monkeypatch.setattr(rollback, "irreversible", lambda nodes: [f"{app}.{name}" for app, name in nodes[:1]])
        with pytest.raises(RepairRefused, match=r"manage\.py restore switchboard-before"):
            repair_plan(repair_id="release.rollback", actor="test")


def test_the_commit_is_read_from_a_checkout(tmp_path: Path) -> None:
    sha = "a" * 40
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "refs" / "heads" / "main").write_text(f"{sha}\n")
    assert _of(git) == sha
    (git / "refs" / "heads" / "main").unlink()
    (git / "packed-refs").write_text(f"# pack-refs\n{'b' * 40} refs/heads/main\n")
    assert _of(git) == "b" * 40
    (git / "HEAD").write_text(f"{'c' * 40}\n")
    assert _of(git) == "c" * 40
