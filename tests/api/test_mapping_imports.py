"""Imports of mappings through the API: as JSON and as files, decided, applied, discarded."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import pytest
from django.test import Client

from agents.models import Mapping
from ops.models import Job
from ops.services.jobs import run_job_now
from tests.agents.importing.conftest import Predecessor, _fake_homeserver, predecessor, stage
from tests.agents.importing.files import agent_id, as_bytes, file_of

__all__ = ["_fake_homeserver", "predecessor", "stage"]


def upload(api: Any, **fields: Any) -> Any:
    return Client().post("/api/v1/imports", fields, headers=api.headers)


def as_file(data: bytes, name: str = "agent_user_mappings.json") -> BytesIO:
    file = BytesIO(data)
    file.name = name
    return file


def test_an_import_from_upload_to_rejects(predecessor: Predecessor, api: Any, reader: Any) -> None:
    predecessor.makes(1, 2)
    data = predecessor.file(1, 2)
    answer = upload(api, files=[as_file(data[:-120])], service="scripts")
    assert answer.status_code == 201, answer.content
    run = answer.json()
    assert (run["state"], run["counts"]["create"], run["counts"]["reject"]) == ("planned", 1, 1)
    assert run["findings"][0]["evidence"]["line"] > 1
    assert not Mapping.objects.exists()
    rows = reader("get", f"/api/v1/imports/{run['id']}/rows")["items"]
    assert [row["action"] for row in rows] == ["create", "reject"]
    assert "word-of-agent" not in json.dumps(rows)
    job = api("post", f"/api/v1/imports/{run['id']}/apply", {}, status=202)
    run_job_now(Job.objects.get(pk=job["id"]))
    assert Mapping.objects.count() == 1
    assert reader("get", f"/api/v1/imports/{run['id']}")["state"] == "done"
    reader("get", f"/api/v1/imports/{run['id']}/rejects", status=403, code="auth.scope")
    rejects = Client().get(f"/api/v1/imports/{run['id']}/rejects", headers=api.headers)
    assert rejects["Cache-Control"] == "no-store"
    body = rejects.json()
    body["records"][0]["text"] = f'"{agent_id(2)}": {json.dumps(predecessor.entry(2))}'
    again = api(
        "post",
        "/api/v1/imports",
        {"files": [{"name": "rejects.json", "text": json.dumps(body)}], "service": "scripts"},
        status=201,
    )
    assert again["counts"]["create"] == 1
    api("delete", f"/api/v1/imports/{again['id']}", status=204)
    api("post", f"/api/v1/imports/{again['id']}/apply", {}, status=422, code="mapping_import.refused")
    assert [one["state"] for one in reader("get", "/api/v1/imports")["items"]] == ["discarded", "done"]


def test_a_conflict_is_decided(predecessor: Predecessor, api: Any) -> None:
    predecessor.makes(1)
    text = as_bytes(file_of(predecessor.entry(1) | {"room_id": "!gone:fake.test"})).decode()
    run = api("post", "/api/v1/imports", {"files": [{"text": text}], "service": "scripts"}, status=201)
    row = api("get", f"/api/v1/imports/{run['id']}/rows?open=true")["items"][0]
    assert row["homeserver"]["room_id"] == predecessor.rooms[1].room_id
    body = {"choice": "homeserver", "rows": [row["id"]]}
    assert api("patch", f"/api/v1/imports/{run['id']}", body) == {"decided": 1}
    assert api("get", f"/api/v1/imports/{run['id']}/rows?open=true")["items"] == []
    stored = {"choice": "stored", "rows": [row["id"] + 1]}
    api("patch", f"/api/v1/imports/{run['id']}", stored, status=422, code="mapping_import.refused")
    job = api("post", f"/api/v1/imports/{run['id']}/apply", {}, status=202)
    run_job_now(Job.objects.get(pk=job["id"]))
    assert Mapping.objects.get().room.room_id == predecessor.rooms[1].room_id


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "mapping_import.refused"),
        ({"files": [{"base64": "no!"}]}, "request.invalid"),
        ({"files": [{"text": "{}"}], "colour": "red"}, "request.invalid"),
        ({"database_url": "sqlite:////etc/passwd"}, "request.invalid"),
        ({"files": [{"text": "{}"}], "prefer": "coin"}, "mapping_import.refused"),
        ({"files": [{"text": "{}"}], "service": "nobody"}, "mapping_import.refused"),
    ],
)
def test_what_is_no_import_is_refused(api: Any, body: dict[str, Any], code: str) -> None:
    api("post", "/api/v1/imports", body, status=422, code=code)


def test_reading_tokens_import_nothing(reader: Any) -> None:
    reader("post", "/api/v1/imports", {"files": [{"text": "{}"}]}, status=403, code="auth.scope")
