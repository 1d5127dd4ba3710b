"""Destinations: folders and S3 take, give, list and lose copies, and say what is wrong in words."""

from __future__ import annotations

import hashlib
import os
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import connection

from ops.backup.destinations import open_destination
from ops.backup.destinations.folder import FolderPlace
from ops.backup.errors import BackupDamaged, DestinationFailed
from ops.models import AuditEvent
from ops.models.backup import Backup, BackupCopy, BackupDestination
from ops.services import backups
from ops.services.backup_copies import copies_store, remove_copy
from ops.services.backup_destinations import destination_save, destination_test
from tests.peers.s3 import ACCESS_KEY, S3, SECRET_KEY

KEYS = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY}


def bucket(s3: S3, name: str, prefix: str = "", **more: str) -> BackupDestination:
    return destination_save(
        actor="test", name=name, kind="s3", options={**s3.options(name, prefix), **more}, credentials=KEYS
    )


class TestS3:
    def test_it_takes_lists_gives_and_lets_go(self, s3: S3, data: Path, tmp_path: Path) -> None:
        s3.bucket("plain")
        place = open_destination(bucket(s3, "plain", "switchboard/prod"))
        source = tmp_path / "source"
        # Larger than one part, so that it goes in several requests.
        source.write_bytes(os.urandom(17 * 1024 * 1024 + 5))
        digest = hashlib.sha256(source.read_bytes()).hexdigest()
        seen: list[int] = []
        assert place.put(source, "one", sha256=digest, progress=lambda done, total: seen.append(done)) == 17 * 2**20 + 5
        assert seen[-1] == 17 * 2**20 + 5
        s3.client().put_object(Bucket="plain", Key="switchboard/prod/deeper/two.sbk", Body=b"x")
        s3.client().put_object(Bucket="plain", Key="other.sbk", Body=b"x")
        assert [(entry.name, entry.size) for entry in place.entries()] == [("one", 17 * 2**20 + 5)]
        assert place.head("one", 100) == source.read_bytes()[:100]
        place.fetch("one", tmp_path / "back")
        assert hashlib.sha256((tmp_path / "back").read_bytes()).hexdigest() == digest
        with pytest.raises(DestinationFailed, match="not what it was"):
            place.put(source, "wrong", sha256="0" * 64)
        place.delete("one")
        assert place.entries() == []
        with pytest.raises(DestinationFailed, match="it is not there"):
            place.fetch("one", tmp_path / "back")

    def test_what_is_wrong_is_said_and_stored(self, s3: S3, data: Path) -> None:
        row = bucket(s3, "nowhere")
        outcome = destination_test(destination=row, actor="test")
        assert not outcome.ok
        assert row.last_error == outcome.sentence
        assert outcome.sentence.startswith("s3://nowhere cannot take switchboard-test-")
        assert outcome.sentence.endswith(": there is no such bucket.")
        s3.bucket("nowhere")
        assert destination_test(destination=row, actor="test").ok
        assert row.last_ok_at is not None
        assert row.last_error == ""
        assert "Contents" not in s3.client().list_objects_v2(Bucket="nowhere")

    def test_a_server_that_does_not_answer(self, data: Path) -> None:
        row = destination_save(
            actor="test",
            name="gone",
            kind="s3",
            options={"endpoint_url": "http://127.0.0.1:9", "bucket": "b", "region": "us-east-1"},
            credentials=KEYS,
        )
        assert not destination_test(destination=row, actor="test").ok
        assert "127.0.0.1:9" in row.last_error

    def test_names_do_not_lead_out_of_it(self, data: Path, tmp_path: Path) -> None:
        place = open_destination(BackupDestination(kind="s3", options={"bucket": "b", "prefix": "mine"}))
        for name in ("../theirs/x", "a/b", ".hidden"):
            for deed in (
                lambda name: place.fetch(name, tmp_path / "x"),
                place.delete,
                lambda name: place.head(name, 9),
            ):
                with pytest.raises(DestinationFailed, match="is no name of a backup"):
                    deed(name)

    def test_an_object_that_came_out_shorter_is_no_copy(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Short:
            content_length = 3

            def upload_file(self, *given: object, **more: object) -> None: ...

            def Object(self, key: str) -> Short:
                return self

        place = open_destination(BackupDestination(kind="s3", options={"bucket": "b"}))
        monkeypatch.setattr(place, "_bucket", Short)
        monkeypatch.setattr(place, "_sweep", lambda: None)
        (tmp_path / "source").write_bytes(b"content")
        with pytest.raises(DestinationFailed, match="has 3 of the 7 bytes"):
            place.put(tmp_path / "source", "one")

    def test_parts_that_a_killed_sending_left_are_given_up(
        self, s3: S3, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        s3.bucket("parts")
        for key in ("mine/dead.sbk", "theirs/dead.sbk"):
            s3.client().create_multipart_upload(Bucket="parts", Key=key)
        place = open_destination(bucket(s3, "parts", "mine"))
        (tmp_path / "source").write_bytes(b"x")
        with monkeypatch.context() as patch:
            # The server says of every upload that it began in 2010.
            patch.setattr("ops.backup.destinations.s3.timedelta", lambda days: timedelta(days=36500 * days))
            place.put(tmp_path / "source", "one")
        assert len(s3.client().list_multipart_uploads(Bucket="parts")["Uploads"]) == 2, "they may still be on their way"
        place.put(tmp_path / "source", "one")
        left = s3.client().list_multipart_uploads(Bucket="parts")["Uploads"]
        assert [one["Key"] for one in left] == ["theirs/dead.sbk"]

    def test_a_whole_life_there(self, s3: S3, data: Path) -> None:
        s3.bucket("life")
        bucket(s3, "life")
        backup = backups.backup_now(actor="test")
        assert [copy.state for copy in backup.copies.all()] == ["stored"]
        assert not (data / "backups" / f"{backup.name}.sbk").exists(), "it lies there only"
        path = backups.backup_fetch(backup)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == backup.sha256
        # The machine and its rows are lost; the destination is entered again.
        Backup.objects.all().delete()
        path.unlink()
        assert [one.code for one in backups.backup_sync_list(actor="test")] == ["backup.found"]
        found = Backup.objects.get()
        assert backups.backup_verify(backup=found, actor="test") == []
        assert found.sha256 == backup.sha256
        backups.backup_delete(backup=found, actor="test")
        assert "Contents" not in s3.client().list_objects_v2(Bucket="life")

    def test_a_copy_that_was_changed_there_counts_as_none_and_is_brought_again(self, s3: S3, data: Path) -> None:
        s3.bucket("tampered")
        destination_save(actor="test", name="here", options={"path": "backups"})
        far = bucket(s3, "tampered")
        backup = backups.backup_now(actor="test")
        s3.client().put_object(Bucket="tampered", Key=f"{backup.name}.sbk", Body=b"x" * backup.size)
        with pytest.raises(BackupDamaged):
            backups.backup_verify(backup=backup, actor="test", destination=far)
        copy = BackupCopy.objects.get(destination=far)
        assert copy.state == "failed"
        assert not list((data / "backups").rglob(".fetched/*")), "what is damaged is not kept"
        assert backups.copies_store(backup=backup, actor="test")
        assert backups.backup_verify(backup=backup, actor="test", destination=far) == []

    def test_its_credentials_are_readable_nowhere(self, s3: S3, data: Path) -> None:
        row = bucket(s3, "safe")
        with connection.cursor() as cursor:
            cursor.execute("SELECT credentials, options FROM ops_backupdestination WHERE id = %s", [row.pk])
            stored = str(cursor.fetchone())
        assert SECRET_KEY not in stored
        assert ACCESS_KEY not in stored
        assert SECRET_KEY not in str([event.after for event in AuditEvent.objects.all()])
        assert BackupDestination.objects.get().credentials == KEYS


class TestFolder:
    def test_a_killed_copying_is_cleared_away(self, data: Path, tmp_path: Path) -> None:
        place = open_destination(BackupDestination(kind="folder", options={"path": "copies"}))
        source = tmp_path / "source"
        source.write_bytes(b"content")
        (data / "copies").mkdir()
        (data / "copies" / ".one.12345678.partial").write_bytes(b"con")
        assert place.entries() == []
        place.put(source, "one")
        assert [path.name for path in (data / "copies").iterdir()] == ["one.sbk"]
        assert (data / "copies" / "one.sbk").stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize(("broken", "said"), [("fetch", "gives back something else"), ("entries", "does not list")])
    def test_a_place_that_lies_does_not_pass_its_test(
        self, data: Path, monkeypatch: pytest.MonkeyPatch, broken: str, said: str
    ) -> None:
        row = destination_save(actor="test", name="odd", options={"path": "copies"})
        lies = {"fetch": lambda place, name, target: target.write_bytes(b"x"), "entries": lambda place: []}
        monkeypatch.setattr(FolderPlace, broken, lies[broken])
        outcome = destination_test(destination=row, actor="test")
        assert not outcome.ok
        assert said in outcome.sentence
        assert list((data / "copies").iterdir()) == []

    def test_what_is_not_what_was_made_is_not_taken(self, data: Path, tmp_path: Path) -> None:
        place = open_destination(BackupDestination(kind="folder", options={"path": "copies"}))
        (tmp_path / "source").write_bytes(b"content")
        with pytest.raises(DestinationFailed, match="not what it was"):
            place.put(tmp_path / "source", "one", sha256="0" * 64)
        assert list((data / "copies").iterdir()) == []

    def test_names_do_not_lead_out_of_it(self, data: Path, tmp_path: Path) -> None:
        place = open_destination(BackupDestination(kind="folder", options={"path": "copies"}))
        for name in ("../escape", "a/b", ".hidden"):
            with pytest.raises(DestinationFailed, match="no name"):
                place.fetch(name, tmp_path / "x")

    def test_a_folder_that_takes_nothing(self, data: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("not a folder")
        row = destination_save(actor="test", name="odd", options={"path": str(tmp_path / "file")})
        assert not destination_test(destination=row, actor="test").ok
        assert "There is no folder" in row.last_error


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"name": "", "options": {"path": "x"}}, "name"),
        ({"name": "a", "options": {}}, "options"),
        ({"name": "a", "kind": "s3", "options": {"endpoint_url": "https://x"}}, "options"),
        ({"name": "a", "kind": "s3", "options": {"bucket": "b", "endpoint_url": "https://me:pw@x"}}, "options"),
        ({"name": "a", "kind": "s3", "options": {"bucket": "b"}, "credentials": {"access_key": "x"}}, "credentials"),
        ({"name": "a", "kind": "ftp", "options": {}}, "kind"),
        ({"name": "a", "options": {"path": "x"}, "keep_last": -1}, "keep_last"),
        ({"name": "a", "options": {"path": "x"}, "keep_last": 0, "keep_daily": 0, "keep_weekly": 0, "keep_monthly": 0}, "keep_last"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_its_field(given: dict, field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        destination_save(actor="test", **given)
    assert list(caught.value.message_dict) == [field]


def test_the_command_knows_them(s3: S3, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    s3.bucket("by-command")
    secret = tmp_path / "secret"
    secret.write_text(f"# the key of the robot\n{SECRET_KEY}\n")
    call_command(
        "backup", "destination", "add", "far", bucket="by-command", endpoint_url=s3.url, region="us-east-1",
        addressing="path", access_key=ACCESS_KEY, secret_file=str(secret), keep_last=9,
    )  # fmt: skip
    assert "Written, read back, listed and removed at s3://by-command" in capsys.readouterr().out
    row = BackupDestination.objects.get()
    assert (row.keep_last, row.credentials["secret_key"]) == (9, SECRET_KEY)
    call_command("backup", "destination", "off", "far")
    assert not BackupDestination.objects.get().enabled
    call_command("backup", "destination", "remove", "far")
    assert not BackupDestination.objects.exists()
    assert not BackupCopy.objects.exists()


@pytest.mark.django_db
def test_what_another_place_does_not_give_is_no_fault_of_this_one(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = destination_save(actor="test", name="nas", kind="folder", options={"path": str(tmp_path)}, credentials={})
    backup = Backup.objects.create(name="switchboard-x", state="complete", actor="test", made_at=place.created_at)
    copy = BackupCopy.objects.create(backup=backup, destination=place)

    def lost(row: Backup) -> Path:
        raise DestinationFailed("offsite does not answer.")

    monkeypatch.setattr("ops.services.backup_copies.backup_fetch", lost)
    assert not copies_store(backup=backup, actor="test")
    place.refresh_from_db()
    copy.refresh_from_db()
    assert copy.error == "offsite does not answer."
    assert (place.last_error, place.last_error_at) == ("", None)


class TestFoldersThatAreNotTheOne:
    """The same path on a machine that does not share it, and a mount point without its disk: copies are elsewhere, and not gone."""

    def test_the_data_directory_of_another_machine(self, data: Path, settings, tmp_path: Path) -> None:
        backup = backups.backup_now(actor="test")
        settings.DATA_DIR = tmp_path / "other"
        settings.DATA_DIR.mkdir()
        (finding,) = backups.backup_sync_list(actor="test")
        assert finding.code == "backup.destination_failed"
        assert "do not share the folder" in finding.sentence
        assert BackupCopy.objects.get().state == "stored"
        with pytest.raises(DestinationFailed, match="do not share the folder"):
            backups.backup_fetch(backup)
        with pytest.raises(DestinationFailed, match="do not share the folder"):
            remove_copy(BackupCopy.objects.get())
        second = backups.backup_now(actor="test")
        assert second.state == "partial"
        assert "do not share the folder" in second.copies.get().error
        assert backups.backup_fetch(second).is_file(), "it stays where it was made"
        settings.DATA_DIR = data
        assert backups.backup_sync_list(actor="test") == []
        backups.backup_fetch(backup).unlink()
        assert [one.code for one in backups.backup_sync_list(actor="test")] == ["backup.copy_missing"], "gone is gone"

    def test_a_mount_point_without_its_disk(self, data: Path, tmp_path: Path) -> None:
        away = tmp_path / "away"
        away.mkdir()
        destination_save(actor="test", name="away", options={"path": str(away)})
        backup = backups.backup_now(actor="test")
        away.rename(tmp_path / "disk")
        away.mkdir()
        second = backups.backup_now(actor="test")
        assert "its disk is not mounted" in second.copies.get().error
        assert list(away.iterdir()) == [], "nothing is written beside the disk"
        assert [one.code for one in backups.backup_sync_list(actor="test")] == ["backup.destination_failed"]
        assert backup.copies.get().state == "stored"
        away.rmdir()
        (tmp_path / "disk").rename(away)
        assert copies_store(backup=second, actor="test")
