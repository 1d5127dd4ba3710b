"""Backups by REST: everything that the pages do, in the described shapes; files of any size as streams; refusals as problems."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from agents.models import Agent
from agents.services.agents import agent_pause
from ops.api.problems import MEDIA_TYPE
from ops.backup import age
from ops.models import AuditEvent, Backup, BackupKey, IdempotencyRecord, Job, ObjectVersion, Restore
from ops.services.backups import backup_now
from ops.services.jobs import run_job
from tests.admin.backups import SECRET_KEY, make_backup, make_place
from tests.api.conftest import SECRET, Api


@pytest.fixture
def house(transactional_db: None, settings: Any, tmp_path: Any, monkeypatch: Any) -> Any:
    """A data directory of its own."""
    from ops import disk_guard

    settings.DATA_DIR = tmp_path / "data"
    settings.DATA_DIR.mkdir()
    disk_guard.forget()
    monkeypatch.setattr("ops.quiet.CACHE_SECONDS", 0.0)
    monkeypatch.setattr("ops.backup.hooks._reconciles", {})
    return settings.DATA_DIR


def run_all() -> None:
    while job := Job.objects.filter(state="queued").order_by("created_at").first():
        run_job(job.pk)


def test_backups_are_made_listed_and_judged(house: Any, api: Api) -> None:
    assert api("get", "backups/standing")["status"] == "attention"
    job = api("post", "backups", {"note": "by a script"}, status=202, key="once")
    assert api("post", "backups", {"note": "by a script"}, status=202, key="once")["id"] == job["id"]
    run_all()
    made = api("get", f"jobs/{job['id']}")["result"]["backup"]
    (row,) = api("get", "backups")["items"]
    assert row["id"] == made
    assert (row["note"], row["state"], row["good"]) == ("by a script", "complete", False)
    assert row["copies"][0]["state"] == "stored"
    detail = api("get", f"backups/{made}")
    assert detail["tables"]["chat.Person"] == 1
    assert api("get", "backups?good=true")["items"] == []
    api("post", f"backups/{made}/verify", {}, status=202)
    run_all()
    assert Backup.objects.get().verified_at is not None
    api("patch", f"backups/{made}", {"pinned": True})
    assert "pinned" in api("delete", f"backups/{made}", status=409, code="backup.refused")["detail"]
    api("patch", f"backups/{made}", {"pinned": False})
    api("post", "backups", {"contents": ["nothing-of-the-kind"]}, status=409, code="backup.refused")
    api("delete", f"backups/{made}", status=204)
    api("get", f"backups/{made}", status=404, code="resource.not_found")


def test_a_file_goes_out_and_comes_in_as_it_is(house: Any, api: Api, reader: Api, operator: Any) -> None:
    made = backup_now(actor="test")
    file = next((house / "backups").glob("*.sbk")).read_bytes()
    address = f"/api/v1/backups/{made.pk}/file"
    reader("get", address, status=403, code="auth.scope")
    session = Client()
    session.force_login(operator)
    Api(client=session)("get", address, status=403, code="auth.not_fresh")
    assert not AuditEvent.objects.filter(action="backup.downloaded").exists()
    answer = api.client.get(address, headers=api.headers)
    assert answer.streaming
    assert answer.headers["Content-Length"] == str(len(file))
    assert AuditEvent.objects.filter(action="backup.downloaded", actor="token:ci").count() == 1
    part = api.client.get(address, headers={**api.headers, "Range": "bytes=0-17"})
    assert (part.status_code, part.headers["Content-Length"]) == (206, "18")
    assert AuditEvent.objects.filter(action="backup.downloaded").count() == 1, "a piece of what was told already"
    cache.clear()
    pieces = [api.client.get(address, headers={**api.headers, "Range": f"bytes={part}"}) for part in ("0-99", "100-")]
    assert sum(int(piece.headers["Content-Length"]) for piece in pieces) == len(file)
    assert AuditEvent.objects.filter(action="backup.downloaded").count() == 2, "in pieces it leaves the house as well"

    api("delete", f"backups/{made.pk}", status=204)
    upload = "/api/v1/backups/upload?name=mine.sbk"

    def send(data: bytes, **more: str) -> Any:
        headers = {**api.headers, **more}
        return api.client.put(upload, data=data, content_type="application/octet-stream", headers=headers)

    wrong = send(b"not a backup at all")
    assert wrong.status_code == 422
    assert wrong.headers["Content-Type"] == MEDIA_TYPE
    assert wrong.json()["code"] == "backup.not_a_backup"
    back = send(file, **{"Idempotency-Key": "k"})
    assert back.status_code == 201, back.content
    assert back.json()["sha256"] == made.sha256
    refused = Client().put(upload, data=file, content_type="application/octet-stream")
    assert refused.status_code == 401


def test_a_damaged_file_is_refused_at_restore_or_at_the_door(house: Any, api: Api) -> None:
    backup_now(actor="test")
    path = next((house / "backups").glob("*.sbk"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    problem = api("post", "restores", {"backup": str(Backup.objects.get().pk)}, status=422, code="backup.damaged")
    assert "checksum" in problem["detail"]
    assert not Restore.objects.exists()


def test_destinations_and_keys_keep_their_secrets(api: Api) -> None:
    body = {
        "name": "offsite", "kind": "s3", "options": {"bucket": "b", "endpoint_url": "https://s3.example.org"},
        "credentials": {"access_key": "a", "secret_key": SECRET_KEY},
    }  # fmt: skip
    made = api("post", "backup-destinations", body, status=201)
    assert made["credentials_set"] == ["access_key", "secret_key"]
    assert SECRET_KEY not in api.response.content.decode()
    assert SECRET_KEY not in str(list(AuditEvent.objects.values()))
    changed = api("put", f"backup-destinations/{made['id']}", {**body, "credentials": None, "keep_last": 9})
    assert (changed["keep_last"], changed["credentials_set"]) == (9, ["access_key", "secret_key"])
    api("post", "backup-destinations", body, status=422, code="request.invalid")
    api("delete", f"backup-destinations/{made['id']}", status=204)

    key = api("post", "backup-keys", {"label": "Ada"}, status=201, key="k")
    assert key["secret"].startswith("AGE-SECRET-KEY-1")
    assert api.response.headers["Cache-Control"] == "no-store"
    assert api("post", "backup-keys", {"label": "Ada"}, status=201, key="k")["secret"] == key["secret"]
    assert "secret" not in api("get", "backup-keys")["items"][0]
    api("post", f"backup-keys/{key['id']}/confirm", {"secret": "AGE-SECRET-KEY-1X"}, status=422)
    assert api("post", f"backup-keys/{key['id']}/confirm", {"secret": key["secret"]})["confirmed_at"]
    assert api("post", f"backup-keys/{key['id']}/retire")["retired_at"]
    assert BackupKey.objects.count() == 1


def test_the_plan(api: Api) -> None:
    assert api("get", "backup-plan")["every_hours"] == 24
    plan = api("put", "backup-plan", {"every_hours": 48, "at": "03:15:00", "timezone": "Europe/Berlin"})
    assert (plan["at"], plan["timezone"]) == ("03:15:00", "Europe/Berlin")
    problem = api("put", "backup-plan", {"timezone": "Mars/Olympus"}, status=422, code="request.invalid")
    assert problem["errors"][0]["field"] == "timezone"


def test_a_restore_from_comparing_to_taking_back(house: Any, api: Api, demo: Any) -> None:
    agent = Agent.objects.create(service=demo, external_id="a", name="Ada")
    backup = backup_now(actor="test")
    agent_pause(agent=agent, actor="test")
    row = api("post", "restores", {"backup": str(backup.pk), "kinds": ["mappings"]}, status=202)
    run_all()
    planned = api("get", f"restores/{row['id']}")
    assert planned["state"] == "planned"
    counts = {one["model"]: one["changed"] for one in planned["plan"]["models"]}
    assert counts["agents.Agent"] == 1
    assert planned["plan"]["words_since"]
    other = api("post", "restores", {"backup": str(backup.pk), "words_since": False}, status=202)
    run_all()
    assert api("get", f"restores/{other['id']}")["plan"]["since"]["words"]["kept"] is False
    api("post", f"restores/{other['id']}/discard")
    for word in ("yes", "do not restore", "Restore"):
        api("post", f"restores/{row['id']}/apply", {"typed": word}, status=422, code="request.invalid")
    assert Agent.objects.get().paused
    api("post", f"restores/{row['id']}/apply", {"typed": "restore"}, status=202)
    run_all()
    assert api("get", f"restores/{row['id']}")["state"] == "done"
    assert not Agent.objects.get().paused
    api("post", f"restores/{row['id']}/apply", {"typed": "restore"}, status=409)
    api("post", f"restores/{row['id']}/undo", {"typed": "restore"}, status=422, code="request.invalid")
    api("post", f"restores/{row['id']}/undo", {"typed": "undo"}, status=202)
    run_all()
    assert Agent.objects.get().paused
    assert {one["state"] for one in api("get", "restores")["items"]} == {"done", "undone", "discarded"}
    api("post", "restores", {"backup": str(backup.pk), "kinds": ["nothing"]}, status=409, code="backup.refused")


def test_a_reset_wants_its_word(house: Any, api: Api) -> None:
    get_user_model().objects.create_user("bea", password="a long passphrase")
    assert "people" in {one["name"] for one in api("get", "resets")["scopes"]}
    plan = api("post", "resets/plan", {"scopes": ["people"]})
    assert (plan["word"], plan["refused"]) == ("reset people", "")
    api("post", "resets/plan", {"scopes": ["nothing"]}, status=409, code="reset.refused")
    api("post", "resets", {"scopes": ["people"], "typed": "yes"}, status=409, code="reset.refused")
    api("post", "resets/undo", status=409, code="reset.refused")
    api("post", "resets/finish", status=409, code="reset.refused")
    api("post", "resets", {"scopes": ["people"], "typed": plan["word"]}, status=202)
    run_all()
    assert not get_user_model().objects.filter(username="bea").exists()
    back = api("post", "resets/undo", status=202)
    run_all()
    api("post", f"restores/{back['id']}/apply", {"typed": "restore"}, status=202)
    run_all()
    assert get_user_model().objects.filter(username="bea").exists()


def test_versions_are_listed_compared_and_brought_back(api: Api, ada: Agent) -> None:
    agent_pause(agent=ada, actor="test")
    rows = api("get", f"versions?model=agents.agent&object_id={ada.pk}")["items"]
    first = ObjectVersion.objects.order_by("id").first()
    assert [one["id"] for one in rows][-1] == first.pk
    detail = api("get", f"versions/{first.pk}")
    assert [(one["field"], one["before"], one["after"]) for one in detail["difference"]] == [("paused", True, False)]
    assert api("post", f"versions/{first.pk}/bring-back")["object_id"] == str(ada.pk)
    ada.refresh_from_db()
    assert not ada.paused
    hidden = ObjectVersion.objects.create(
        model="ops.service", object_id="1", label="x", actor="a", action="x", state={"options": {"api_key": SECRET}}
    )
    assert api("get", f"versions/{hidden.pk}")["state"] == {"options": {"api_key": "[hidden]"}}
    api("get", "versions?model=ops.service")
    Agent.objects.filter(pk=ada.pk).delete()
    api("post", f"versions/{first.pk}/bring-back", status=409, code="version.refused")
    assert "agents.agent" in {one["model"] for one in api("get", "versions/kinds")["items"]}
    api("get", "releases")


def test_lists_are_filtered_and_walked_whole(api: Api) -> None:
    place, now = make_place(), timezone.now()
    rows = [make_backup(number, place=place, good=number % 2 == 0) for number in range(1, 8)]
    Backup.objects.update(made_at=now)  # by their time alone nobody could go on
    ids = [str(row.pk) for row in rows]
    assert sorted(one["id"] for one in api.walk("/api/v1/backups?limit=2")) == sorted(ids)
    Backup.objects.filter(pk=rows[1].pk).update(verify_error="It is damaged.")
    Backup.objects.filter(pk=rows[2].pk).update(state="failed", reason="safety")

    def found(query: str) -> set[str]:
        return {one["id"] for one in api("get", f"backups?{query}")["items"]}

    assert found("good=true") == {ids[3], ids[5]}
    assert found("good=false") == {ids[0], ids[1], ids[2], ids[4], ids[6]}
    assert {one["id"] for one in api("get", "backups")["items"] if one["good"]} == {ids[3], ids[5]}
    assert found("state=failed") == found("reason=safety") == {ids[2]}
    restores = [Restore.objects.create(source=f"r{number}", actor="test") for number in range(3)]
    assert [one["id"] for one in api("get", "restores")["items"]] == [str(one.pk) for one in restores[::-1]]
    api("get", f"backups/{ids[2]}/file", status=409, code="backup.refused")
    for deed in ("verify", "drill"):
        api("post", f"backups/{ids[2]}/{deed}", {}, status=409, code="backup.refused")


def test_another_key_is_used_and_shown_nowhere(house: Any, api: Api, settings: Any) -> None:
    backup_now(actor="test")
    theirs = settings.BACKUP_MACHINE_KEY
    settings.BACKUP_MACHINE_KEY = age.new_identity()[0]
    body = {"backup": str(Backup.objects.get().pk), "kinds": ["settings"]}
    api("post", "restores", body, status=422, code="backup.wrong_key")
    row = api("post", "restores", {**body, "key": f" {theirs.lower()}\n"}, status=202, key="once")
    run_all()
    assert api("get", f"restores/{row['id']}")["state"] == "planned"
    kept = cache.get(f"restore-key:{row['id']}")
    assert theirs not in kept
    stored = str([list(model.objects.values()) for model in (Restore, Job, AuditEvent, IdempotencyRecord)])
    assert theirs not in stored.upper()
    api("post", f"restores/{row['id']}/discard")
    assert cache.get(f"restore-key:{row['id']}") is None


def test_whoever_may_only_read_changes_nothing(api: Api, reader: Api) -> None:
    """Every operation of backups, restores, resets and histories."""
    from controlplane.api import api as described

    tried = 0
    for path, methods in described.get_openapi_schema()["paths"].items():
        for method, operation in methods.items():
            if set(operation["tags"]) & {"Backups", "Restores", "Resets", "History"} and method != "get":
                address = re.sub(r"\{\w+_id\}", "00000000-0000-4000-8000-000000000000", path)
                tried += 1
                refused = getattr(reader.client, method)(address, headers=reader.headers)
                assert (refused.status_code, refused.json()["code"]) == (403, "auth.scope"), (method, path)
                assert getattr(Client(), method)(address).status_code == 401, (method, path)
    assert tried >= 20


def test_lists_ask_the_same_however_long_they_are(api: Api, monkeypatch: Any) -> None:
    monkeypatch.setattr("ops.quiet.CACHE_SECONDS", 3600.0)
    place = make_place()

    def asked() -> int:
        with CaptureQueriesContext(connection) as queries:
            api("get", "backups?limit=50")
        return len(queries)

    make_backup(1, place=place, age=timedelta(hours=1))
    asked()
    few = asked()
    for number in range(2, 40):
        make_backup(number, place=place, age=timedelta(hours=number))
    assert asked() <= few
    assert len(api.walk("/api/v1/backups?limit=7")) == 39
