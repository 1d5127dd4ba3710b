"""Keys, settings and the registration in a backup, and back."""

from __future__ import annotations

import json
import stat

import pytest
import yaml
from cryptography.fernet import Fernet
from django.conf import settings as django_settings

from controlplane.backup_files import KEYS
from ops.backup.components import component
from ops.backup.errors import BackupDamaged
from ops.models import Service
from tests.support.parts import Luggage

HERE, THERE = Fernet.generate_key().decode(), Fernet.generate_key().decode()


@pytest.fixture
def luggage(tmp_path, settings, monkeypatch) -> Luggage:
    """A machine whose keys are all generated."""
    settings.DATA_DIR = tmp_path / "data"
    settings.FIELD_ENCRYPTION_KEYS = [HERE]
    settings.SECRET_KEY = settings.SECRET_KEY
    settings.MATRIX_AS_TOKEN, settings.MATRIX_HS_TOKEN = "as-here", "hs-here"
    environment = django_settings.ENVIRONMENT
    monkeypatch.setattr(environment, "places", {**environment.places, **dict.fromkeys(KEYS, "generated")})
    monkeypatch.setattr(environment, "values", dict(environment.values))
    folder = tmp_path / "data" / "keys"
    folder.mkdir(parents=True)
    for name, value in (
        ("field_encryption_keys", HERE),
        ("matrix_as_token", "as-here"),
        ("matrix_hs_token", "hs-here"),
    ):
        (folder / name).write_text(value)
    (folder / "secret_key").write_text(settings.SECRET_KEY)
    return Luggage(tmp_path)


def _backup(**changed: str) -> dict[str, bytes]:
    values = {
        "field_encryption_keys": THERE, "matrix_as_token": "as-there", "matrix_hs_token": "hs-here",
        "secret_key": django_settings.SECRET_KEY, "environment.json": "{}", **changed,
    }  # fmt: skip
    return {name: value.encode() for name, value in values.items()}


def _keys(luggage: Luggage, name: str) -> str:
    return (luggage.folder / "data" / "keys" / name).read_text()


def test_every_generated_key_is_taken_but_the_one_that_opens_backups(luggage, monkeypatch):
    environment = django_settings.ENVIRONMENT
    monkeypatch.setitem(environment.places, "EMAIL_URL", "file")
    monkeypatch.setitem(environment.values, "EMAIL_URL", "smtp://u:p@mail.test")
    monkeypatch.setitem(environment.places, "BACKUP_MACHINE_KEY", "environment")
    files = luggage.take(component("keys"))
    assert set(files) == {*(name.lower() for name in KEYS), "environment.json"}
    assert files["field_encryption_keys"].decode() == HERE
    said = json.loads(files["environment.json"])
    assert said["EMAIL_URL"] == {"value": "smtp://u:p@mail.test", "place": "file"}
    assert django_settings.BACKUP_MACHINE_KEY.encode() not in b"".join(files.values())


def test_an_empty_machine_gets_the_keys_and_what_its_first_start_made_lies_aside(luggage):
    counts = luggage.put(component("keys"), luggage.folder / "data", _backup(), fresh=True)
    assert counts == {"written": 1, "same": 2, "added": 1, "kept": 0, "offered": 0}
    assert _keys(luggage, "field_encryption_keys") == f"{THERE},{HERE}"
    assert _keys(luggage, "matrix_as_token") == "as-there"
    assert stat.S_IMODE((luggage.folder / "data" / "keys" / "matrix_as_token").stat().st_mode) == 0o600
    aside = list((luggage.folder / "data" / "keys").glob("matrix_as_token.before-restore-*"))
    assert [one.read_text() for one in aside] == ["as-here"]
    assert any(aside[0].name in one.sentence for one in luggage.findings)
    # The very process that restores reads with them.
    assert django_settings.FIELD_ENCRYPTION_KEYS == [THERE, HERE]
    assert django_settings.MATRIX_AS_TOKEN == "as-there"


def test_a_living_machine_keeps_its_keys_adds_those_that_open_secrets_and_is_offered_the_rest(luggage):
    counts = luggage.put(component("keys"), luggage.folder / "data", _backup())
    assert counts == {"written": 0, "same": 2, "added": 1, "kept": 1, "offered": 1}
    assert _keys(luggage, "field_encryption_keys") == f"{HERE},{THERE}"
    assert _keys(luggage, "matrix_as_token") == "as-here"
    assert django_settings.MATRIX_AS_TOKEN == "as-here"
    (offer,) = (luggage.folder / "data" / "keys").glob("from-backup-*.env")
    assert "MATRIX_AS_TOKEN=as-there\n" in offer.read_text()
    assert stat.S_IMODE(offer.stat().st_mode) == 0o600
    assert "as-there" not in "".join(one.sentence for one in luggage.findings)


def test_what_the_environment_says_is_never_changed_from_here(luggage, monkeypatch):
    monkeypatch.setitem(django_settings.ENVIRONMENT.places, "FIELD_ENCRYPTION_KEYS", "environment")
    monkeypatch.setitem(django_settings.ENVIRONMENT.places, "MATRIX_AS_TOKEN", "file")
    luggage.put(component("keys"), luggage.folder / "data", _backup(), fresh=True)
    assert django_settings.FIELD_ENCRYPTION_KEYS == [HERE]
    assert (_keys(luggage, "field_encryption_keys"), _keys(luggage, "matrix_as_token")) == (HERE, "as-here")
    (offer,) = (luggage.folder / "data" / "keys").glob("from-backup-*.env")
    assert f"FIELD_ENCRYPTION_KEYS={THERE},{HERE}\n" in offer.read_text()
    assert [(one.severity, one.target) for one in luggage.findings if one.code == "restore.key_offered"] == [
        ("error", "setting:FIELD_ENCRYPTION_KEYS"), ("warning", "setting:MATRIX_AS_TOKEN")
    ]  # fmt: skip


def test_settings_of_the_former_environment_are_offered_in_a_file(luggage):
    said = {
        "EMAIL_URL": {"value": "smtp://u:p w@mail.test", "place": "file"},
        "DEBUG": {"value": "false", "place": "file"},
    }
    luggage.put(
        component("keys"), luggage.folder / "data", _backup(**{"environment.json": json.dumps(said)}), fresh=True
    )
    (offer,) = (luggage.folder / "data" / "keys").glob("settings-from-backup-*.env")
    assert 'EMAIL_URL="smtp://u:p w@mail.test"\n' in offer.read_text()
    assert "DEBUG" not in offer.read_text()
    assert any("EMAIL_URL" in one.sentence and "mail.test" not in one.sentence for one in luggage.findings)


def test_a_drill_writes_the_keys_as_they_are(luggage, tmp_path):
    luggage.put(component("keys"), tmp_path / "drill", _backup(), drill=True)
    assert (tmp_path / "drill" / "keys" / "field_encryption_keys").read_text() == THERE
    assert django_settings.FIELD_ENCRYPTION_KEYS == [HERE]
    assert _keys(luggage, "field_encryption_keys") == HERE


def test_a_key_that_is_none_is_refused(luggage):
    with pytest.raises(BackupDamaged, match="field_encryption_keys"):
        luggage.put(component("keys"), luggage.folder / "data", _backup(field_encryption_keys="short"))
    assert _keys(luggage, "field_encryption_keys") == HERE


def test_what_is_larger_than_any_key_is_refused(luggage):
    with pytest.raises(BackupDamaged, match="larger than 1,048,576 bytes"):
        luggage.put(component("keys"), luggage.folder / "data", _backup(matrix_as_token="x" * (1 << 20) + "x"))
    assert _keys(luggage, "matrix_as_token") == "as-here"


@pytest.mark.parametrize("name", ["../registration.yaml", "other.yaml", "keys/secret_key"])
def test_a_registration_of_another_name_is_refused(luggage, name):
    with pytest.raises(BackupDamaged, match="under a name that is none"):
        luggage.put(component("registration"), luggage.folder / "data", {name: b"id: theirs\n"})
    assert not (luggage.folder / "data" / "registration.yaml").exists()


@pytest.mark.django_db
def test_the_registration_is_taken_as_the_homeserver_needs_it(luggage, tmp_path):
    registration = component("registration")
    Service.objects.all().delete()
    assert registration.unavailable() == "-"
    Service.objects.create(
        name="homeserver", kind="homeserver", base_url="http://hs.test", options={"server_name": "sb.test"},
        credentials={"as_token": "as-row", "hs_token": "hs-row"},
    )  # fmt: skip
    assert registration.unavailable() == ""
    files = luggage.take(registration)
    said = yaml.safe_load(files["registration.yaml"])
    assert (said["as_token"], said["namespaces"]["users"][0]["regex"]) == ("as-row", "@agent_.*:sb\\.test")
    data = tmp_path / "data"
    assert luggage.put(registration, data) == {"written": 1, "same": 0}
    assert luggage.put(registration, data) == {"written": 0, "same": 1}
    (data / "registration.yaml").write_text("id: mine\n")
    assert luggage.put(registration, data) == {"written": 1, "same": 0}
    assert [one.read_text() for one in data.glob("registration.before-restore-*")] == ["id: mine\n"]
