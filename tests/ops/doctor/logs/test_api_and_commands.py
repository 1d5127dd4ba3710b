"""The same by the API and in the terminal."""

from __future__ import annotations

import io
import json
import zipfile
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from ops.models import AuditEvent, Capture, LogLine
from ops.services.logbook import current_levels
from ops.services.tokens import token_create


@pytest.fixture
def api(client, db):
    from django.contrib.auth import get_user_model

    owner = get_user_model().objects.create_user("olga", password="x", is_staff=True)
    made = token_create(owner=owner, name="ci", scope="write", actor="test")
    plain = made[1] if isinstance(made, tuple) else made.plaintext
    client.defaults["HTTP_AUTHORIZATION"] = f"Bearer {plain}"
    return client


def line(**fields):
    given = {"at": timezone.now(), "level": "info", "role": "up", "process": "h:1:1", "logger": "chat", "event": "e"}
    return LogLine.objects.create(**{**given, **fields})


def test_lines_are_paged_filtered_followed_and_explained(api):
    for n in range(5):
        line(event=f"line {n}", agent="Ada")
    known = line(event="boom", level="error", extra={"error": "ECONNREFUSED"})
    line(level="debug", event="quiet")
    first = api.get("/api/v1/logs", {"limit": 2}).json()
    assert [one["event"] for one in first["items"]] == ["boom", "line 4"]
    assert first["items"][0]["known"]["check"] == "net.service_to_service"
    assert first["items"][1]["known"] is None
    second = api.get(first["next"]).json()
    assert [one["event"] for one in second["items"]] == ["line 3", "line 2"]
    assert len(api.get("/api/v1/logs", {"agent": "Ada", "text": "LINE 3"}).json()["items"]) == 1
    followed = api.get("/api/v1/logs", {"after": known.pk - 2000 if known.pk > 2000 else 0, "level": "error"}).json()
    assert [one["id"] for one in followed["items"]] == [known.pk]
    assert api.get(f"/api/v1/logs/{known.pk}").json()["event"] == "boom"
    assert api.get("/api/v1/logs/999999").status_code == 404
    assert api.get("/api/v1/logs", {"level": "loud"}).status_code == 422
    groups = api.get("/api/v1/logs/errors").json()["items"]
    assert groups[0]["known"]["meaning"].startswith("Nobody listens")
    rows = b"".join(api.get("/api/v1/logs/export", {"level": "error"}).streaming_content).decode().splitlines()
    assert [json.loads(row)["event"] for row in rows] == ["boom"]


def test_captures_are_started_and_stopped(api):
    made = api.post("/api/v1/captures", {"minutes": 5}, content_type="application/json")
    assert made.status_code == 201
    key = made.json()["id"]
    assert api.get("/api/v1/captures").json()["items"][0]["calls"] == 0
    assert api.post(f"/api/v1/captures/{key}/stop", {}, content_type="application/json").status_code == 200
    assert Capture.objects.get().until <= timezone.now()
    assert api.get(f"/api/v1/captures/{key}/har").json()["log"]["entries"] == []
    bad = api.post("/api/v1/captures", {"service": "nobody"}, content_type="application/json")
    assert bad.status_code == 422


def test_a_bundle_is_made_and_fetched(api, data_dir):
    made = api.post("/api/v1/support-bundle", {"messages": [5], "note": "Silent."}, content_type="application/json")
    assert made.status_code == 201
    body = made.json()
    assert "doctor.json" in body["files"]
    assert body["failed"] == []
    content = b"".join(api.get(body["url"]).streaming_content)
    assert zipfile.ZipFile(io.BytesIO(content)).testzip() is None
    assert api.get("/api/v1/support-bundle/none.zip").status_code == 404
    assert AuditEvent.objects.filter(action="support.bundle", actor="token:ci").exists()


def test_nobody_reads_logs_without_a_token(client, db):
    for address in ("/api/v1/logs", "/api/v1/captures", "/api/v1/support-bundle/x.zip"):
        assert client.get(address).status_code == 401


def run(*args, **options):
    out, err = StringIO(), StringIO()
    call_command(*args, stdout=out, stderr=err, **options)
    return out.getvalue()


def test_the_command_shows_filters_and_explains(db):
    line(event="hello", agent="Ada")
    line(event="boom", level="error", extra={"error": "database is locked"})
    assert "hello" in run("logs")
    assert "hello" not in run("logs", "--level", "error")
    assert "Ada" in run("logs", "hello")
    text = run("logs", "--explain")
    assert "SQLite had another writer" in text
    assert "manage.py doctor db.locked" in text
    rows = [json.loads(row) for row in run("logs", "--json").splitlines()]
    assert [row["event"] for row in rows] == ["hello", "boom"]
    assert len(run("logs", "-n", "1").splitlines()) == 1
    with pytest.raises(CommandError):
        run("logs", "--minutes", "soon")


def test_the_command_follows(db, monkeypatch):
    line(event="old")
    turns = iter(range(3))

    def sleep(seconds):
        try:
            number = next(turns)
        except StopIteration:
            raise KeyboardInterrupt from None
        line(event=f"new {number}")

    monkeypatch.setattr("ops.management.commands.logs.time.sleep", sleep)
    text = run("logs", "-f")
    assert [text.count(f"new {n}") for n in range(3)] == [1, 1, 1]
    assert text.count("old") == 1


def test_the_level_command(db):
    assert "ordinary" in run("log_level")
    run("log_level", "chat", "debug", "--minutes", "5")
    assert current_levels()["chat"]["level"] == "debug"
    assert "chat: debug until" in run("log_level")
    run("log_level", "chat", "ordinary")
    assert current_levels() == {}
    with pytest.raises(CommandError):
        run("log_level", "chat")
    with pytest.raises(CommandError):
        run("log_level", "chat", "debug", "--minutes", "100000")


def test_the_bundle_command(db, data_dir, tmp_path):
    assert "doctor.json" in run("support_bundle", "--preview")
    target = tmp_path / "out"
    target.mkdir()
    made = json.loads(run("support_bundle", "--output", str(target), "--json"))
    assert made["path"].startswith(str(target))
    assert zipfile.is_zipfile(made["path"])
    with pytest.raises(CommandError):
        run("support_bundle", "--message", "x")
