"""Releases are noted, an upgrade is backed up as the tables were, and the way back reverses what it brought."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from django.conf import settings as running

from ops.doctor_recovery import rollback
from ops.git_revision import _of
from ops.migrating import _KEY
from ops.models import AuditEvent, Backup, Release
from ops.runner import run_checks
from ops.services import releases
from tests.peers.base import PROJECT_ROOT
from tests.peers.postgres import Postgres
from tests.up.running import Up

FORMER = "0006_import_without_payload"
FORMER_CHAT = "0009_desk_restrict_sender"
HEADS = "from ops.services.releases import newest_migrations\nresult=newest_migrations()['agents']"


# The second migration has changed its tables, and dies when it is about to be noted.
DIES = """
import os, signal, django
django.setup()
from django.core.management import call_command
from django.db.migrations.executor import MigrationExecutor
record, seen = MigrationExecutor.record_migration, []
def record_or_die(self, migration):
    if seen:
        os.kill(os.getpid(), signal.SIGKILL)
    seen.append(migration)
    record(self, migration)
MigrationExecutor.record_migration = record_or_die
call_command("migrate")
"""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """An installation that does not run: of the version before the newest migrations of ``agents`` and ``chat``, with a room in it."""
    folder = tmp_path_factory.mktemp("releases")
    if request.param == "sqlite":
        up = Up(folder, DEMO_AGENTS="false")
    else:
        postgres: Postgres = request.getfixturevalue("postgres")
        postgres.drop_database("releases")
        up = Up(folder, fresh=True, DEMO_AGENTS="false", DATABASE_URL=postgres.create_database("releases"))
        up.ask("from django.core.management import call_command\ncall_command('migrate', verbosity=0)\nresult=1")
    up.ask(
        "from ops.models import Service\nfrom agents.models import Room\n"
        "service=Service.objects.create(name='matrix', kind='homeserver', base_url='http://127.0.0.1:1')\n"
        "Room.objects.create(homeserver=service, room_id='!kept:sb.test', name='Kept')\n"
        "from ops.services.releases import note_release\nnote_release()\n"
        "from django.core.management import call_command\n"
        f"call_command('migrate', 'agents', '{FORMER}', verbosity=0)\ncall_command('migrate', 'chat', '{FORMER_CHAT}', verbosity=0)\n"
        "note_release()\nresult=1"
    )
    yield up
    if request.param == "postgresql":
        postgres.drop_database("releases")


def since_the_former() -> set[tuple[str, str]]:
    """The migrations that the version of ``house`` lacks, as a plan names them."""
    found = {
        (f"migration:{app}", path.stem)
        for app, former in (("agents", FORMER), ("chat", FORMER_CHAT))
        for path in (PROJECT_ROOT / app / "migrations").glob("0*.py")
        if path.stem > former
    }
    assert {target for target, _ in found} == {"migration:agents", "migration:chat"}
    return found


@contextmanager
def migrating(house: Up) -> Iterator[None]:
    """Somebody else migrates the database."""
    if url := house.environment.get("DATABASE_URL"):
        folder = url.partition("?host=")[2]
        with psycopg.connect(host=folder, user="postgres", dbname="releases", autocommit=True) as connection:
            connection.execute("SELECT pg_advisory_lock(%s)", [_KEY])
            yield
    else:
        with (house.data / "switchboard.sqlite3.migrating").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield


def test_an_upgrade_is_backed_up_as_it_was_though_it_is_killed_and_begun_twice(house: Up) -> None:
    assert house.ask(HEADS) == FORMER
    killed = subprocess.run(
        [sys.executable, "-c", DIES], cwd=PROJECT_ROOT, env=house.environment, capture_output=True, text=True, timeout=300
    )  # fmt: skip
    assert killed.returncode == -9, killed.stderr
    first = killed.stdout.partition("Backup before the upgrade: ")[2].split()[0]
    heads = "from ops.services.releases import newest_migrations\nheads=newest_migrations()\nresult=[heads['agents'], heads['chat']]"
    assert FORMER in house.ask(heads) or FORMER_CHAT in house.ask(heads), "one of two is not through"
    # Two containers start at once.
    with migrating(house):
        several = [
            subprocess.Popen(
                [sys.executable, "manage.py", "migrate"], cwd=PROJECT_ROOT, env=house.environment, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
            for _ in range(2)
        ]  # fmt: skip
        for one in several:
            assert one.stdout is not None
            assert one.stdout.readline() == "Another process migrates this database: waiting until it has ended.\n"
    said = [one.communicate(timeout=300)[0] for one in several]
    assert [one.returncode for one in several] == [0, 0], said
    made = [text for text in said if "Backup before the upgrade: switchboard-" in text]
    assert len(made) == 1, said
    second = made[0].partition("Backup before the upgrade: ")[2].split()[0]
    assert house.ask(HEADS) != FORMER
    kept = house.ask(
        "from ops.models import Release, Backup\nrow=Release.objects.order_by('-id').first()\n"
        "from ops.services import backups\nfrom ops.backup.read import open_backup\n"
        "reader=open_backup(backups.backup_fetch(row.backup))\n"
        "shape=next(one for one in reader.begin.tables if one.label=='agents.Room')\n"
        "rooms=[list(r) for m in reader.members() if m.kind=='rows' and m.label=='agents.Room' for r in m.rows()]\n"
        "result={'backup': row.backup.name, 'pinned': row.backup.pinned, 'verified': bool(row.backup.verified_at),"
        " 'note': row.backup.note, 'missing': row.backup.missing, 'columns': list(shape.names), 'rooms': [[str(value) for value in row] for row in rooms],"
        " 'agents': reader.begin.migrations['agents'][-1], 'all': sorted(Backup.objects.values_list('name', flat=True))}"
    )
    # The one that the release before can read, and not that of the half-way state; both are listed.
    assert kept["backup"] == first
    assert kept["all"] == sorted([first, second])
    assert kept["pinned"]
    assert kept["verified"]
    assert kept["missing"] == {}
    assert kept["agents"] == FORMER
    assert "history_until" not in kept["columns"]
    assert "!kept:sb.test" in kept["rooms"][0]
    assert sorted(path.name for path in (house.data / "backups").glob("*")) == sorted(
        [f"{first}.sbk", f"{second}.sbk"]
    ), "nothing half written, no note of what waits"
    # Nothing to change is nothing to back up.
    assert "Backup" not in house.manage("migrate")


def test_the_backup_of_the_older_tables_restores_here_and_into_the_other_kind_of_database(
    house: Up, tmp_path: Path, postgres: Postgres
) -> None:
    house.ask("from agents.models import Room\nresult=Room.objects.update(name='Changed since')")
    done = house.ask(
        "from ops.models import Release\nfrom ops.services import restores\n"
        "backup=Release.objects.exclude(backup=None).order_by('-id').first().backup\n"
        "planned=restores.restore_plan(backup=backup, actor='test')\n"
        "rooms=next(one for one in planned.plan['models'] if one['model']=='agents.Room')\n"
        "done=restores.restore_apply(restore=planned, actor='test')\n"
        "result=[rooms['changed'], done.state, Room.objects.get().name]"
    )
    assert done == [1, "done", "Kept"]
    postgres.drop_database("releases_moved")
    url = f"sqlite:///{tmp_path}/moved.sqlite3"
    if house.environment.get("DATABASE_URL") is None:
        url = postgres.create_database("releases_moved")
    moved = house.ask(
        "from ops.services.backups import backup_fetch\nfrom ops.services.restore_fresh import restore_elsewhere\n"
        "from ops.backup.scratch import database_at\n"
        f"loaded=restore_elsewhere(path=backup_fetch(backup), url={url!r}, identities=None)\n"
        f"with database_at({url!r}) as alias:\n"
        "    result=[loaded.report.rows['agents.Room'], list(Room.objects.using(alias).values_list('name', flat=True))]"
    )
    postgres.drop_database("releases_moved")
    assert moved == [1, ["Kept"]]


def test_back_to_the_release_before_and_forward_again(house: Up) -> None:
    newest = house.ask(HEADS)
    planned = json.loads(house.manage("repair", "release.rollback", "--dry-run", "--json"))
    assert {(one["target"], one["what"]) for one in planned["changes"]} == since_the_former()
    assert len(planned["changes"]) == len(since_the_former())
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
