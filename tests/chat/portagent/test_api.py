"""Operators import through the API: uploaded, or from the imports folder; a job says what came of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from agents.models import Agent
from chat.models import Conversation, Person
from ops.models import Job, Service
from ops.services.jobs import run_job
from ops.services.tokens import token_create
from tests.chat.portagent.fixtures import Portagent, bcrypt_hash, user_says

pytestmark = pytest.mark.django_db

HASH = bcrypt_hash("portagent-1")


@pytest.fixture
def operator(db: Any) -> Person:
    return Person.objects.create_user("olga", password="x", is_staff=True)


class Call:
    def __init__(self, person: Person, scope: str = "write") -> None:
        self.headers = {
            "Authorization": f"Bearer {token_create(owner=person, name=scope, scope=scope, actor='test')[1]}"
        }

    def __call__(self, status: int = 202, **fields: Any) -> Any:
        response = Client().post("/api/v1/imports/portagent", fields, headers=self.headers)
        assert response.status_code == status, response.content
        return response.json()

    def run(self, **fields: Any) -> Job:
        found = self(**fields)
        run_job(found["id"])
        return Job.objects.get(pk=found["id"])


@pytest.fixture
def call(operator: Person) -> Call:
    return Call(operator)


def files(old: Portagent) -> list[SimpleUploadedFile]:
    # What is in the log is written back, as when Portagent was stopped.
    with old.store() as store:
        store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return [SimpleUploadedFile(path.name, path.read_bytes()) for path in (old.users_path, old.store_path)]


def test_uploaded_databases_are_imported_and_forgotten(old: Portagent, call: Call, settings: Any) -> None:
    ada = old.user(1, "ada", passwordHash=HASH)
    old.conversation(1, old.container(ada), [user_says("hello")])
    old.conversation(2, "user-gone", [user_says("whose?")])
    dry = call.run(files=files(old), dry_run="true")
    assert dry.result["counts"]["create"] == {"user": 1, "image": 1, "message": 1}
    assert Person.objects.count() == 1
    folder = Path(settings.DATA_DIR) / "imports"
    assert (folder / dry.params["path"]).is_dir()
    job = call.run(files=files(old))
    assert job.state == "succeeded"
    assert Person.objects.filter(username="ada").exists()
    assert Conversation.objects.count() == 1
    assert not (folder / job.params["path"]).exists(), "there are password hashes in it"
    rejects = Path(settings.DATA_DIR) / job.result["rejects_file"]
    assert len(rejects.read_text().splitlines()) == job.result["rejects"] == 2
    assert [line.level for line in job.lines.all()] == ["error", "error"]
    assert HASH not in json.dumps(job.result) + str(list(job.lines.values()))
    again = call.run(path=rejects.name, orphans="olga")
    assert again.result["counts"]["create"] == {"image": 1, "message": 1}


def test_a_path_below_the_imports_folder(old: Portagent, call: Call, settings: Any) -> None:
    service = Service.objects.create(name="demo", kind="demo")
    agent = Agent.objects.create(service=service, external_id="x", name="Xenia")
    ada = old.user(1, "ada", passwordHash=HASH)
    old.conversation(1, old.container(ada), [user_says("hello")])
    folder = Path(settings.DATA_DIR) / "imports"
    folder.mkdir()
    old.folder.rename(folder / "agentx")
    job = call.run(path="agentx", agent=agent.pk)
    assert (job.state, job.result["read_only_conversations"]) == ("succeeded", 0)
    assert Conversation.objects.get().agent == agent
    assert (folder / "agentx").exists()
    assert str(folder) not in json.dumps(job.result)


def test_paths_that_lead_elsewhere_are_refused(call: Call, settings: Any, tmp_path: Path) -> None:
    (tmp_path / "var" / "imports").mkdir()
    (tmp_path / "var" / "imports" / "link").symlink_to("/etc")
    (tmp_path / "secret").write_text("x")
    for wrong in ("../../secret", "/etc/passwd", "..", ".", "link/passwd", "missing", ""):
        assert call(422, path=wrong)["code"] == "request.invalid"
    assert not Job.objects.exists()


def test_what_is_no_portagent_fails_with_a_sentence(call: Call) -> None:
    job = call.run(files=[SimpleUploadedFile("../../x.db", b"nonsense")])
    assert job.state == "failed"
    assert "No database of Portagent" in job.error


def test_only_operators_who_may_write(operator: Person, old: Portagent) -> None:
    fields = {"files": files(old)}
    assert Call(operator, "read")(403, **fields)["code"] == "auth.scope"
    assert Call(Person.objects.create_user("bob"))(401, **fields)["code"] == "auth.required"
