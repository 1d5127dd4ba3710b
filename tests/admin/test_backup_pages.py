"""Pages of backups: the answer on top, a constant number of queries, files as streams for whoever has just shown who they are, keys once."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from ops.backup.spool import path_of
from ops.models import (
    AuditEvent,
    Backup,
    BackupCopy,
    BackupDestination,
    BackupKey,
    BackupPlan,
    CopyState,
    DestinationKind,
    DrillState,
    Job,
)
from tests.admin.backups import SECRET_KEY, make_backup, make_drill, make_key, make_place
from tests.admin.conftest import World

LIST = "admin:ops_backup_changelist"


def text_of(client: Any, address: str, status: int = 200, **query: Any) -> str:
    answer = client.get(address, query)
    assert answer.status_code == status
    return str(answer.content.decode())


def test_the_list_says_whether_anything_could_be_lost(world: World, client: Any) -> None:
    assert "No backup has been made" in text_of(client, reverse(LIST))
    place = make_place()
    fresh = make_backup(1, place=place, good=False, age=timedelta(hours=1))
    text = text_of(client, reverse(LIST))
    assert "no drill has shown yet that it restores" in text
    assert "Nobody holds a recovery key" in text
    Backup.objects.filter(pk=fresh.pk).update(made_at=timezone.now() - timedelta(days=3))
    assert "No backup is known to restore" in text_of(client, reverse(LIST))
    make_key()
    make_backup(2, place=place, age=timedelta(hours=3))
    text = text_of(client, reverse(LIST))
    assert "The last good backup was made 3 h ago." in text
    assert "Ada, in the safe" in text
    assert "Nobody holds a recovery key" not in text
    assert "broken disk" in text


def test_a_backup_that_lies_nowhere_any_more_makes_nothing_safe(world: World, client: Any) -> None:
    place = make_place()
    older, newer = make_backup(1, place=place, age=timedelta(days=2)), make_backup(2, place=place)
    BackupCopy.objects.filter(backup=newer).update(state=CopyState.MISSING)
    assert "The last good backup was made 2 days ago." in text_of(client, reverse(LIST))
    gone = text_of(client, reverse("admin:ops_backup_change", args=[newer.pk]))
    assert "No destination has it any more" in gone
    assert reverse("admin:ops_backup_change", args=[older.pk]) in gone
    # Of those that may be restored, the one that can be is chosen.
    chosen = re.search(r'value="([0-9a-f-]+)" checked', text_of(client, reverse("admin:ops_restore_start")))
    assert chosen
    assert chosen.group(1) == str(older.pk)
    BackupCopy.objects.update(state=CopyState.MISSING)
    text = text_of(client, reverse("admin:index"))
    assert "no destination has one any more" in text
    assert "Safe" not in text


def test_a_drill_that_failed_is_said_even_when_an_older_one_is_good(world: World, client: Any) -> None:
    place = make_place()
    make_backup(1, place=place, age=timedelta(days=1))
    make_drill(make_backup(2, place=place, good=False), timezone.now(), state=DrillState.FAILED, error="No.")
    assert "and its drill failed" in text_of(client, reverse(LIST))


def test_what_is_too_old_is_trouble_on_the_dashboard(world: World, client: Any) -> None:
    BackupPlan.objects.create(every_hours=24, drill_every_days=7)
    old = make_backup(1, place=make_place(), age=timedelta(days=8))
    text = text_of(client, reverse("admin:index"))
    assert "Last good backup <time" in text
    assert "The last good backup is" not in text
    Backup.objects.filter(pk=old.pk).update(made_at=timezone.now() - timedelta(days=9))
    text = text_of(client, reverse("admin:index"))
    assert "The last good backup is 9 days old." in text


def test_queries_do_not_grow_with_backups(world: World, client: Any, monkeypatch: Any) -> None:
    # Whether everybody holds still is asked once a second, whoever asks.
    monkeypatch.setattr("ops.quiet.CACHE_SECONDS", 3600.0)
    place, other = make_place(), make_place("nas")
    make_key()

    def more(first: int, last: int) -> None:
        for number in range(first, last):
            row = make_backup(number, place=place)
            BackupCopy.objects.create(backup=row, destination=other, state=CopyState.FAILED, error="full")

    def asked(address: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            assert client.get(address).status_code == 200
        return len(queries)

    addresses = [
        reverse(LIST),
        reverse("admin:ops_backupdestination_changelist"),
        reverse("admin:ops_restore_start"),
        reverse("admin:index"),
    ]
    more(1, 4)
    for address in addresses:
        client.get(address)
    few = [asked(address) for address in addresses]
    more(4, 30)
    for address, before in zip(addresses, few, strict=True):
        assert asked(address) <= before, address


def test_a_backup_s_page_tells_its_parts_copies_and_drills(world: World, client: Any) -> None:
    row = make_backup(
        1, place=make_place(), missing={"homeserver": "It did not answer."}, recipients=["aa11bb22cc33dd44", "0000"]
    )
    make_key()
    now = timezone.now()
    Backup.objects.filter(pk=row.pk).update(good_at=None)
    make_drill(row, now, state=DrillState.FAILED, error="One secret does not open.", steps=[{"step": "secrets", "ok": False, "sentence": "api_key of letta does not open.", "seconds": 0.1}])  # fmt: skip
    text = text_of(client, reverse("admin:ops_backup_change", args=[row.pk]))
    for said in (
        "Drill failed", "One secret does not open.", "api_key of letta does not open.", "Keys and settings", "It did not answer.",
        "chat.Message", "A key that is not listed here", "Ada, in the safe", "here",
    ):  # fmt: skip
        assert said in text, said
    assert reverse("admin:ops_backup_download", args=[row.pk]) in text


def test_a_download_needs_a_fresh_sign_in_is_a_stream_and_leaves_a_trace(
    world: World, client: Any, monkeypatch: Any, tmp_path: Any
) -> None:
    row = make_backup(1, place=make_place())
    file = tmp_path / "file"
    file.write_bytes(b"switchboard-backup 1 {}\n" + b"x" * 700_000)
    monkeypatch.setattr("ops.services.backups.backup_fetch", lambda backup, destination=None: file)
    address = reverse("admin:ops_backup_download", args=[row.pk])
    asked = client.get(address)
    assert asked.status_code == 302
    assert "/account/reauthenticate/" in asked["Location"]
    assert not AuditEvent.objects.filter(action="backup.downloaded").exists()
    confirmed = client.post(reverse("account_reauthenticate"), {"password": "a long passphrase", "next": address})
    assert confirmed.status_code == 302
    answer = client.get(address)
    assert answer.status_code == 200
    assert answer.streaming
    assert answer["Content-Length"] == str(file.stat().st_size)
    assert f"{row.name}.sbk" in answer["Content-Disposition"]
    assert "no-store" in answer["Cache-Control"]
    assert AuditEvent.objects.get(action="backup.downloaded").target_id == str(row.pk)


def test_a_key_is_shown_once_typed_back_and_tried(world: World, client: Any) -> None:
    made = client.post(reverse("admin:ops_backupkey_new"), {"label": "Ada, in the safe", "recipient": ""})
    found = re.search(r"AGE-SECRET-KEY-1[A-Z0-9]+", made.content.decode())
    assert found
    secret, key = found.group(), BackupKey.objects.get()
    assert key.confirmed_at is None
    prove = reverse("admin:ops_backupkey_prove", args=[key.pk])
    assert secret not in text_of(client, prove)
    wrong = secret[:-6] + ("QQQQQQ" if not secret.endswith("QQQQQQ") else "PPPPPP")
    refused = client.post(prove, {"secret": wrong})
    assert refused.status_code == 200
    assert wrong not in refused.content.decode()
    assert "secret key of age" in refused.content.decode()
    key.refresh_from_db()
    assert key.confirmed_at is None
    taken = client.post(prove, {"secret": secret.lower()}, follow=True)
    assert "Every backup from now on can be opened with it." in taken.content.decode()
    key.refresh_from_db()
    assert key.confirmed_at is not None
    assert secret not in str(list(AuditEvent.objects.values()))
    explained = text_of(client, reverse("admin:ops_backupkey_deed", args=[key.pk, "retire"]))
    assert "It is the last one" in explained
    client.post(reverse("admin:ops_backupkey_deed", args=[key.pk, "retire"]))
    key.refresh_from_db()
    assert key.retired_at is not None


def test_destinations_are_made_changed_and_tested_without_showing_their_secrets(
    world: World, client: Any, settings: Any, tmp_path: Any
) -> None:
    settings.DATA_DIR = tmp_path
    form = {"name": "offsite", "keep_last": 3, "keep_daily": 7, "keep_weekly": 4, "keep_monthly": 6, "enabled": "on"}
    s3 = {
        **form,
        "bucket": "b",
        "below": "sb/",
        "endpoint_url": "https://s3.example.org",
        "access_key": "a",
        "secret_key": SECRET_KEY,
    }
    assert client.post(reverse("admin:ops_backupdestination_new", args=["s3"]), {**s3, "bucket": ""}).status_code == 200
    assert not BackupDestination.objects.exists()
    made = client.post(reverse("admin:ops_backupdestination_new", args=["s3"]), s3)
    row = BackupDestination.objects.get()
    assert made["Location"] == reverse("admin:ops_backupdestination_change", args=[row.pk])
    assert (row.kind, row.options["prefix"], row.credentials["secret_key"]) == (DestinationKind.S3, "sb/", SECRET_KEY)
    edit = reverse("admin:ops_backupdestination_edit", args=[row.pk])
    assert SECRET_KEY not in text_of(client, edit)
    assert 'value="sb/"' in text_of(client, edit)
    client.post(edit, {**s3, "keep_last": 9, "access_key": "", "secret_key": ""})
    row.refresh_from_db()
    assert (row.keep_last, row.credentials["secret_key"]) == (9, SECRET_KEY)
    folder = {**form, "name": "disk", "path": str(tmp_path / "disk")}
    client.post(reverse("admin:ops_backupdestination_new", args=["folder"]), folder)
    disk = BackupDestination.objects.get(name="disk")
    tested = client.post(reverse("admin:ops_backupdestination_deed", args=[disk.pk, "test"]), follow=True)
    assert "disk works." in tested.content.decode()
    client.post(reverse("admin:ops_backupdestination_deed", args=[disk.pk, "remove"]), {"typed": "other"})
    assert BackupDestination.objects.filter(name="disk").exists()
    client.post(reverse("admin:ops_backupdestination_deed", args=[disk.pk, "remove"]), {"typed": "disk"})
    assert not BackupDestination.objects.filter(name="disk").exists()


def test_the_plan_is_one_form(world: World, client: Any) -> None:
    address = reverse("admin:ops_backup_plan")
    form = {
        "enabled": "on",
        "every_hours": 24,
        "at": "03:15",
        "timezone": "Europe/Berlin",
        "jitter_minutes": 10,
        "drill_every_days": 3,
    }
    assert "There is no such time zone" in client.post(address, {**form, "timezone": "Mars/Olympus"}).content.decode()
    assert client.post(address, form).status_code == 302
    plan = BackupPlan.objects.get()
    assert (plan.at.hour, plan.timezone, plan.drill_every_days) == (3, "Europe/Berlin", 3)
    assert plan.next_at is not None


def test_making_drilling_and_verifying_are_jobs(world: World, client: Any) -> None:
    row = make_backup(1, place=make_place())
    client.post(reverse("admin:ops_backup_new"), {"note": "before the upgrade", "drill": "on"})
    job = Job.objects.get(kind="backup.create")
    assert job.params["note"] == "before the upgrade"
    assert job.params["drill"] is True
    for deed in ("drill", "verify"):
        assert client.post(reverse("admin:ops_backup_deed", args=[row.pk, deed])).status_code == 302
        assert Job.objects.get(kind=f"backup.{deed}").params["backup"] == str(row.pk)
    text = text_of(client, reverse("admin:ops_backup_change", args=[row.pk]))
    assert 'data-then="reload"' in text


def test_looking_and_pruning_begin_with_a_post(world: World, client: Any) -> None:
    assert client.get(reverse("admin:ops_backup_look")).status_code == 405
    text_of(client, reverse("admin:ops_backup_prune"))
    assert not Job.objects.filter(kind__startswith="backup.").exists()
    for name in ("look", "prune"):
        assert client.post(reverse(f"admin:ops_backup_{name}")).status_code == 302
        assert Job.objects.filter(kind=f"backup.{name}").count() == 1


@pytest.mark.parametrize("typed", ["", "Delete", "delete"])
def test_only_the_word_deletes(world: World, client: Any, settings: Any, tmp_path: Any, typed: str) -> None:
    settings.DATA_DIR = tmp_path
    place = make_place()
    make_backup(2, place=place, age=timedelta(hours=1))
    row = make_backup(1, place=place, good=False)
    # A folder without its copies would be taken for another one.
    for one in Backup.objects.all():
        path_of(one.name).write_bytes(b"x")
    answer = client.post(reverse("admin:ops_backup_deed", args=[row.pk, "delete"]), {"typed": typed})
    assert Backup.objects.filter(pk=row.pk).exists() is (typed != "delete")
    assert answer.status_code == (302 if typed == "delete" else 200)


def test_the_last_good_one_is_not_deleted(world: World, client: Any) -> None:
    row = make_backup(1, place=make_place())
    answer = client.post(reverse("admin:ops_backup_deed", args=[row.pk, "delete"]), {"typed": "delete"}, follow=True)
    assert "is the last good backup" in answer.content.decode()
    assert Backup.objects.filter(pk=row.pk).exists()
