"""An empty machine: one file and the recovery key bring everything back. In processes of their own."""

from __future__ import annotations

import json

import pytest

from ops.backup import age
from tests.support.plain_house import PlainHouse

SECRETS = """
import json
from ops.models import Service
print(json.dumps([dict(row.credentials) for row in Service.objects.order_by("pk")]))
"""
WITH_KEY = """
from django.utils import timezone
from ops.backup import age
from ops.models.backup import BackupKey
BackupKey.objects.all().delete()
BackupKey.objects.create(
    label="safe", recipient={recipient!r}, fingerprint=age.fingerprint({recipient!r}), created_by="test", confirmed_at=timezone.now()
)
print(0)
"""


@pytest.fixture(scope="module")
def lost(tmp_path_factory):
    """(what was there, its secrets, the file, the recovery key): the machine itself is gone."""
    folder = tmp_path_factory.mktemp("lost")
    house = PlainHouse(folder)
    house.inside("-", "fill", "4")
    secret, recipient = age.new_identity()
    house.ask(WITH_KEY.format(recipient=recipient))
    contents, secrets = house.contents(), house.ask(SECRETS)
    house.manage("backup", "create")
    file = folder / "the.sbk"
    next(house.data.rglob("*.sbk")).rename(file)
    key = folder / "recovery-key.txt"
    key.write_text(f"# the recovery key\n{secret}\n")
    return contents, secrets, file, key


def test_one_file_and_one_key_bring_everything_back(lost, tmp_path):
    contents, secrets, file, key = lost
    house = PlainHouse(tmp_path, fresh=True)
    refused = house.manage("restore", str(file), check=False)
    assert refused.returncode == 2
    assert "another key" in refused.stderr
    assert "Traceback" not in refused.stderr

    done = house.inside("-", "restore", str(file), "--key-file", str(key), "--json")
    said = json.loads(done.stdout)
    assert said["state"] == "done", said
    assert not [one for one in said["report"].values() if one.get("error")], said["report"]
    assert house.contents() == contents
    assert house.ask(SECRETS) == secrets
    assert any(secrets), "there are secrets"
    again = house.inside("-", "restore", str(file), "--key-file", str(key), "--dry-run", "--json")
    plan = json.loads(again.stdout)["plan"]
    assert (plan["added"], plan["changed"], plan["removed"]) == (0, 0, 0)


@pytest.mark.parametrize("point", ["loading", "loaded"])
def test_killed_while_it_is_filled_it_is_as_empty_as_before(lost, tmp_path, point):
    contents, _, file, key = lost
    house = PlainHouse(tmp_path)
    empty = house.contents()
    done = house.inside(point, "restore", str(file), "--key-file", str(key), check=False)
    assert done.returncode == -9, done.stderr
    assert house.contents() == empty
    house.inside("-", "restore", str(file), "--key-file", str(key))
    assert house.contents() == contents


def test_into_another_database(lost, tmp_path, postgres):
    _, _, file, key = lost
    postgres.drop_database("moved")
    url = postgres.create_database("moved")
    house = PlainHouse(tmp_path)
    house.inside("-", "restore", str(file), "--key-file", str(key), "--into", url)
    again = house.manage("restore", str(file), "--key-file", str(key), "--into", url, check=False)
    assert again.returncode == 2
    assert "not empty" in again.stderr
    moved = house.run(
        "-c",
        "import django; django.setup()\nfrom chat.models import Message; print(Message.objects.count())",
        DATABASE_URL=url,
    )
    assert moved.stdout.strip().endswith("4")
