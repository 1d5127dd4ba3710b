"""Keys that open backups: shown once, proven, kept nowhere here."""

from __future__ import annotations

import io
import json
import sqlite3
from pathlib import Path

import pyrage
import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import connection

from ops.backup import age
from ops.backup.read import open_backup
from ops.models import AuditEvent
from ops.models.backup import BackupKey
from ops.redaction import redact, redact_text
from ops.services import backup_keys, backups


def fingerprints(backup: object) -> list[str]:
    return list(backup.recipients)  # type: ignore[attr-defined]


@pytest.mark.django_db
class TestCeremony:
    def test_a_key_counts_when_it_was_typed_back(self) -> None:
        key, secret = backup_keys.key_new(label="Ada's safe", actor="person:ada")
        assert secret.startswith("AGE-SECRET-KEY-1")
        assert key.recipient not in backup_keys.recipients()
        assert "typed back" in backup_keys.warning() or "Type back" in backup_keys.warning()
        _, other = age.new_identity()[0], age.new_identity()[0]
        with pytest.raises(ValidationError, match="does not open"):
            backup_keys.key_confirm(key=key, secret=other, actor="person:ada")
        with pytest.raises(ValidationError, match="no secret key"):
            backup_keys.key_confirm(key=key, secret=secret[:-1] + "B", actor="person:ada")
        # As people type: small letters, line breaks, spaces around.
        backup_keys.key_confirm(key=key, secret=f"  {secret[:30].lower()}\n{secret[30:]} ", actor="person:ada")
        assert key.recipient in backup_keys.recipients()
        assert backup_keys.warning() == ""

    def test_a_public_half_from_elsewhere(self) -> None:
        secret, public = age.new_identity()
        key = backup_keys.key_add(label="Bob", recipient=f" {public}\n", actor="test")
        backup_keys.key_confirm(key=key, secret=secret, actor="test")
        with pytest.raises(ValidationError, match="known already"):
            backup_keys.key_add(label="Bob again", recipient=public, actor="test")
        with pytest.raises(ValidationError, match="keep it to yourself") as caught:
            backup_keys.key_add(label="x", recipient=secret, actor="test")
        assert secret not in str(caught.value)

    def test_retired_it_gets_no_new_ones_and_cannot_be_confirmed_again(self) -> None:
        key, secret = backup_keys.key_new(label="old", actor="test")
        backup_keys.key_confirm(key=key, secret=secret, actor="test")
        backup_keys.key_retire(key=key, actor="test")
        assert key.recipient not in backup_keys.recipients()
        with pytest.raises(ValidationError, match="is retired"):
            backup_keys.key_confirm(key=key, secret=secret, actor="test")
        events = AuditEvent.objects.filter(action__startswith="backupkey.").order_by("id")
        assert [one.action for one in events] == ["backupkey.made", "backupkey.confirmed", "backupkey.retired"]
        assert {(one.actor, one.after["fingerprint"]) for one in events} == {("test", key.fingerprint)}


def test_the_recovery_key_alone_opens_the_backup_and_any_age_program_too(data: Path) -> None:
    key, secret = backup_keys.key_new(label="safe", actor="test")
    before = backups.backup_now(actor="test", verify=False)
    backup_keys.key_confirm(key=key, secret=secret, actor="test")
    backup = backups.backup_now(actor="test")
    assert key.fingerprint in fingerprints(backup)
    assert key.fingerprint not in fingerprints(before)
    path = backups.backup_fetch(backup)
    with open_backup(path, identities=[secret]) as reader:
        assert sum(1 for member in reader.members() if member.kind == "rows") > 0
    sealed = io.BytesIO(path.read_bytes())
    sealed.readline()
    opened = io.BytesIO()
    pyrage.decrypt_io(sealed, opened, [pyrage.x25519.Identity.from_str(secret)])
    assert b"begin.json" in opened.getvalue()[:512]
    backup_keys.key_retire(key=key, actor="test")
    assert "It still opens 1 backup" in backup_keys.kept_after_retiring(key)
    assert key.fingerprint not in fingerprints(backups.backup_now(actor="test", verify=False))


def test_the_secret_half_is_in_no_row(data: Path) -> None:
    key, secret = backup_keys.key_new(label="safe", actor="test")
    backup_keys.key_confirm(key=key, secret=secret, actor="test")
    backups.backup_now(actor="test")
    if connection.vendor == "sqlite":
        connection.ensure_connection()
        lines = "\n".join(sqlite3.Connection.iterdump(connection.connection))
        assert key.recipient in lines, "the dump shows what is stored"
        assert secret not in lines
        assert secret.lower() not in lines


def test_secret_keys_of_age_are_hidden_everywhere() -> None:
    secret, public = age.new_identity()
    for text in (secret, secret.lower(), f"x={secret}", f'{{"said": "{secret}"}}', f"_{secret}_", f"AGE-PLUGIN-TPM-1{secret[16:]}"):  # fmt: skip
        assert secret[16:].lower() not in redact_text(text).lower(), text
    assert redact({"identity": [secret]}) == {"identity": ["[hidden]"]}
    assert redact_text(f"sealed for {public}") == f"sealed for {public}"
    assert redact_text("AGE-SECRET-KEY-1…") == "AGE-SECRET-KEY-1…"


class TestCommand:
    def test_a_key_is_printed_once_and_confirmed_from_a_file(
        self, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        call_command("backup", "key", "new", "safe", unconfirmed=True)
        out = capsys.readouterr().out.strip()
        key = BackupKey.objects.get()
        assert age.recipients_of([out]) == [key.recipient], "standard out carries the key alone"
        (tmp_path / "key.txt").write_text(f"# public key: {key.recipient}\n{out}\n")
        call_command("backup", "key", "confirm", "safe", secret_file=str(tmp_path / "key.txt"))
        key.refresh_from_db()
        assert key.confirmed_at is not None
        capsys.readouterr()
        call_command("backup", "key", "new", "another", "--json", unconfirmed=True)
        said = json.loads(capsys.readouterr().out)
        assert (said["label"], age.recipients_of([said["secret"]])) == ("another", [said["recipient"]])

    def test_create_list_show_verify_as_json(self, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        call_command("backup", "create", "--json", note="by hand", pin=True)
        made = json.loads(capsys.readouterr().out)
        assert (made["state"], made["note"], made["pinned"]) == ("complete", "by hand", True)
        call_command("backup", "list", "--json")
        assert [one["name"] for one in json.loads(capsys.readouterr().out)] == [made["name"]]
        call_command("backup", "show", "switchboard-", "--json")
        assert json.loads(capsys.readouterr().out)["manifest"]["file_sha256"] == made["sha256"]
        call_command("backup", "verify", "--json")
        assert json.loads(capsys.readouterr().out)["ok"] is True
        call_command("backup", "prune", "--dry-run", "--json")
        assert json.loads(capsys.readouterr().out)["plan"]["here"][0]["why"] == "pinned"

    def test_what_is_damaged_ends_with_2_and_wrong_words_with_3(self, data: Path) -> None:
        backup = backups.backup_now(actor="test")
        path = backups.backup_fetch(backup)
        path.write_bytes(path.read_bytes()[:-7])
        with pytest.raises(CommandError, match="is damaged") as caught:
            call_command("backup", "verify")
        assert caught.value.returncode == 2
        with pytest.raises(CommandError, match="is damaged") as caught:
            call_command("backup", "verify", str(path))
        assert caught.value.returncode == 2
        for words in (("show", "nothing"), ("destination", "test", "nowhere"), ("plan", "--at", "soon")):
            with pytest.raises(CommandError) as caught:
                call_command("backup", *words)
            assert caught.value.returncode == 3, words
