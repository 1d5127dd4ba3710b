from __future__ import annotations

import pytest
from cryptography.fernet import Fernet
from django.core import serializers
from django.core.exceptions import FieldError
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection

from ops.models import AuditEvent, Service
from ops.redaction import redact_text
from ops.secret_rotation import rotate
from ops.secrets import SecretUnreadable

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()
SECRET = "letta-pass-5150"


@pytest.fixture
def keys(settings):
    settings.FIELD_ENCRYPTION_KEYS = [OLD]
    return settings


def make(name="letta", **fields):
    return Service.objects.create(name=name, kind="lab", credentials={"token": SECRET, "username": "admin"}, **fields)


def stored(pk):
    with connection.cursor() as cursor:
        cursor.execute("SELECT credentials FROM ops_service WHERE id = %s", [pk])
        return cursor.fetchone()[0]


@pytest.mark.django_db
def test_a_secret_is_unreadable_in_the_database_and_readable_in_the_row(keys):
    service = make()
    assert SECRET not in stored(service.pk)
    assert "admin" not in stored(service.pk)
    assert Service.objects.get(pk=service.pk).credentials == {"token": SECRET, "username": "admin"}


@pytest.mark.django_db
def test_nothing_shows_it_by_accident(keys):
    service = make()
    read = Service.objects.get(pk=service.pk)
    unopened = Service.objects.values("credentials").get()
    texts = [
        repr(service),
        str(service),
        repr(service.credentials),
        str(service.credentials),
        f"{read.credentials}",
        repr(unopened),
    ]
    texts += [repr(vars(read)), serializers.serialize("json", [read])]
    assert not [text for text in texts if SECRET in text]


@pytest.mark.django_db
def test_logs_learn_what_was_read_but_not_user_names(keys):
    make()
    assert Service.objects.get().credentials["token"] == SECRET
    assert redact_text(f"got {SECRET} for admin") == "got [hidden] for admin"


@pytest.mark.django_db
def test_serialized_rows_can_be_loaded_again(keys):
    service = make()
    dumped = serializers.serialize("json", [service])
    Service.objects.all().delete()
    for item in serializers.deserialize("json", dumped):
        item.save()
    assert Service.objects.get().credentials["token"] == SECRET


@pytest.mark.django_db
def test_empty_credentials_need_no_key(keys):
    service = Service.objects.create(name="a", kind="lab")
    assert stored(service.pk) == ""
    assert Service.objects.get().credentials == {}


@pytest.mark.django_db
def test_a_missing_key_names_row_and_field_and_hurts_only_that_value(keys):
    service = make()
    keys.FIELD_ENCRYPTION_KEYS = [NEW]
    (read,) = Service.objects.all()
    with pytest.raises(SecretUnreadable) as caught:
        _ = read.credentials
    text = str(caught.value)
    assert f"ops.Service {service.pk}, field credentials" in text
    assert "the key that wrote it is missing" in text
    assert SECRET not in text
    assert stored(service.pk) not in text
    before = stored(service.pk)
    read.base_url = "http://x"
    read.save()
    assert stored(service.pk) == before
    read.credentials = {"token": "fresh-one"}
    read.save()
    assert Service.objects.get().credentials == {"token": "fresh-one"}


@pytest.mark.django_db
def test_it_cannot_be_searched(keys):
    with pytest.raises(FieldError, match="encrypted"):
        Service.objects.filter(credentials={"token": SECRET}).count()


@pytest.mark.django_db
def test_rotation_moves_every_row_to_the_newest_key_and_counts(keys):
    made = [make(f"s{n}") for n in range(5)]
    Service.objects.create(name="empty", kind="lab")
    keys.FIELD_ENCRYPTION_KEYS = [NEW, OLD]
    make("already-new")
    dry = {count.label: count for count in rotate(dry_run=True)}["ops.Service.credentials"]
    assert (dry.rotated, dry.current, dry.empty, dry.unreadable) == (5, 1, 1, 0)
    before = stored(made[0].pk)
    count = {count.label: count for count in rotate(batch=2)}["ops.Service.credentials"]
    assert (count.rotated, count.current, count.empty, count.unreadable) == (5, 1, 1, 0)
    assert stored(made[0].pk) != before
    keys.FIELD_ENCRYPTION_KEYS = [NEW]
    assert {s.credentials.get("token") for s in Service.objects.exclude(name="empty")} == {SECRET}


@pytest.mark.django_db
def test_rotation_reports_rows_whose_key_is_gone(keys):
    lost = make()
    keys.FIELD_ENCRYPTION_KEYS = [NEW]
    with pytest.raises(CommandError, match=rf"ops.Service.credentials: {lost.pk}"):
        call_command("rotate_encryption_keys")


@pytest.mark.django_db
def test_the_command_makes_a_key_in_the_data_directory(keys, tmp_path, capsys):
    keys.DATA_DIR = tmp_path
    (tmp_path / "keys").mkdir()
    path = tmp_path / "keys" / "field_encryption_keys"
    path.write_text(OLD)
    make()
    call_command("rotate_encryption_keys", "--new", "--dry-run")
    assert path.read_text() == OLD
    call_command("rotate_encryption_keys", "--new")
    newest, *rest = path.read_text().split(",")
    assert rest == [OLD]
    assert path.stat().st_mode & 0o777 == 0o600
    keys.FIELD_ENCRYPTION_KEYS = [newest]
    assert Service.objects.get().credentials["token"] == SECRET
    assert newest not in capsys.readouterr().out
    assert AuditEvent.objects.filter(action="secrets.rotated").count() == 1


@pytest.mark.django_db
def test_the_command_does_not_touch_keys_that_the_environment_sets(keys, tmp_path):
    keys.DATA_DIR = tmp_path
    with pytest.raises(CommandError, match="environment"):
        call_command("rotate_encryption_keys", "--new")
    assert list(tmp_path.iterdir()) == []
