"""The import's pages: files are read and compared, conflicts stand side by side, what was chosen is kept, and rejects come back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from agents.models import ImportAction, ImportChoice, ImportState, MappingImport, MappingImportRow
from ops.models import Job
from tests.admin.conftest import World

PASSWORD = "predecessors-passw0rd"
AGENT = "agent-7659b796-4723-4d61-98b5-737f874ee652"
START = "agents_mappingimport_start"


def entry(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "agent_id": f"agent-{number}",
        "agent_name": f"Librarian {number}",
        "matrix_user_id": f"@agent_{number}:hs.test",
        "matrix_password": PASSWORD,
        "created": True,
        "room_id": f"!old{number}:hs.test",
        "room_created": True,
        **fields,
    }


def make_run(world: World, conflicts: int = 2, **others: int) -> MappingImport:
    """An import as ``import_prepare`` leaves it, rows only."""
    wanted = {"conflict": conflicts, "create": 2, "reject": 1, **others}
    run = MappingImport.objects.create(
        homeserver=world.homeserver,
        actor="person:ada",
        counts=wanted,
        sources=[{"name": "agent_user_mappings.json", "kind": "mapping", "size": 2048, "records": sum(wanted.values())}],
        findings=[
            {
                "severity": "error", "code": "import.truncated", "sentence": "The file ends in the middle of a record.",
                "target": "agent_user_mappings.json", "evidence": {"line": 812, "column": 17},
            }
        ],
    )  # fmt: skip
    rows = []
    for action, count in wanted.items():
        for n in range(count):
            number = len(rows) + 1
            rows.append(
                MappingImportRow(
                    run=run, number=number, source="agent_user_mappings.json", line=number * 12, kind="mapping",
                    key=f"agent-{number}", label=f"{action.capitalize()} {n}", action=action, sentence=f"Means {action}.",
                    stored={"room_id": f"!here{number}:hs.test"}, file={"room_id": f"!file{number}:hs.test"},
                    homeserver={} if n % 2 else {"room_id": f"!here{number}:hs.test"},
                    record=json.dumps({"fields": {"password": PASSWORD}, "key": f"agent-{number}", "raw": {"matrix_password": PASSWORD}}),
                )
            )  # fmt: skip
    MappingImportRow.objects.bulk_create(rows)
    return run


def page(client: Any, run: MappingImport, **query: Any) -> str:
    answer = client.get(reverse("admin:agents_mappingimport_change", args=[run.pk]), query)
    assert answer.status_code == 200
    text = str(answer.content.decode())
    assert PASSWORD not in text
    return text


def choose(client: Any, run: MappingImport, **said: str) -> Any:
    address = reverse("admin:agents_mappingimport_choose", args=[run.pk])
    return client.post(address, {name.replace("_", "-"): value for name, value in said.items()}, follow=True)


def test_uploaded_files_are_read_and_compared_and_nothing_changes(world: World, client: Any) -> None:
    whole = json.dumps({one["agent_id"]: one for one in (entry(1), entry(2))})
    damaged = json.dumps({"agent-3": entry(3), "agent-4": entry(4)}, indent=2)[:-60]
    answer = client.post(
        reverse(f"admin:{START}"),
        {"upload": [SimpleUploadedFile("a.json", whole.encode()), SimpleUploadedFile("b.json", damaged.encode())]},
    )
    run = MappingImport.objects.get()
    assert answer.status_code == 302
    assert answer["Location"] == reverse("admin:agents_mappingimport_change", args=[run.pk])
    assert run.state == ImportState.PLANNED
    assert {one["name"] for one in run.sources} == {"a.json", "b.json"}
    text = page(client, run)
    assert "Nothing has been changed yet" in text
    assert "b.json" in text
    assert "column" in text  # where the damaged file broke off
    assert not Job.objects.filter(kind="agents.import").exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "one of the two"),
        ({"database": "postgresql://127.0.0.1:1/nothing"}, "database"),
        ({"upload": "empty"}, "empty"),
    ],
)
def test_what_cannot_be_read_is_said_on_the_form(world: World, client: Any, given: dict[str, Any], words: str) -> None:
    if "upload" in given:
        given = {"upload": [SimpleUploadedFile("a.json", b"")]}
    answer = client.post(reverse(f"admin:{START}"), given)
    assert answer.status_code == 200
    assert words in answer.content.decode().split('<form method="post" enctype')[1]
    assert not MappingImport.objects.exists()


def test_conflicts_come_first_with_their_three_sides(world: World, client: Any) -> None:
    run = make_run(world)
    text = page(client, run)
    assert "2 of the conflicts are not decided" in text
    assert "The file ends in the middle of a record." in text
    assert "line 812, column 17" in text
    first, second = run.rows.filter(action=ImportAction.CONFLICT)
    assert f'<code class="sb-differs">!file{first.number}:hs.test</code>' in text
    assert f'name="choice-{first.pk}" value="homeserver">' in text
    assert f'name="choice-{second.pk}" value="homeserver" disabled>' in text
    assert "Create 0" not in text
    others = page(client, run, show="create")
    assert "Create 0" in others
    assert "Conflict 0" not in others
    assert "Create 1" not in page(client, run, show="create", q="agent-3")


def test_choices_are_kept_one_by_one_and_all_at_once(world: World, client: Any) -> None:
    run = make_run(world, conflicts=4)
    rows = list(run.rows.filter(action=ImportAction.CONFLICT))
    answer = choose(client, run, **{f"choice_{rows[0].pk}": "file", f"choice_{rows[1].pk}": ""})
    assert "1 choice saved." in answer.content.decode()
    assert [row.choice for row in run.rows.filter(action=ImportAction.CONFLICT)] == ["file", "", "", ""]
    answer = choose(client, run, **{f"choice_{rows[0].pk}": "file"})
    assert "Nothing was chosen otherwise." in answer.content.decode()
    # Of some the homeserver knows nothing: they stay open.
    choose(client, run, all="homeserver")
    assert [row.choice for row in run.rows.filter(action=ImportAction.CONFLICT)] == ["file", "", "homeserver", ""]
    text = page(client, run, decided="no")
    assert "Conflict 1" in text
    assert "Conflict 2" not in text
    choose(client, run, all="stored")
    assert not run.rows.filter(action=ImportAction.CONFLICT, choice=ImportChoice.NONE).exists()
    # A row of another kind, or of another import, cannot be decided.
    other = make_run(world)
    alien = other.rows.filter(action=ImportAction.CONFLICT).first()
    created = run.rows.filter(action=ImportAction.CREATE).first()
    choose(client, run, **{f"choice_{alien.pk}": "file", f"choice_{created.pk}": "file"})
    assert not MappingImportRow.objects.filter(pk__in=[alien.pk, created.pk], choice="file").exists()


def test_applying_says_first_what_will_happen_and_runs_as_a_job(world: World, client: Any) -> None:
    run = make_run(world)
    address = reverse("admin:agents_mappingimport_deed", args=[run.pk, "apply"])
    text = client.get(address).content.decode()
    assert "2 conflicts are not decided: for those nothing changes." in text
    assert "1 record cannot be taken" in text
    assert not Job.objects.filter(kind="agents.import").exists()
    assert client.post(address).status_code == 302
    job = Job.objects.get(kind="agents.import")
    assert job.params == {"run": run.pk}
    assert job.actor == "person:ada"
    assert "Being applied" in page(client, run)


def test_the_report_names_what_failed_first_and_rejects_can_be_had(world: World, client: Any) -> None:
    run = make_run(world)
    rejects = reverse("admin:agents_mappingimport_rejects", args=[run.pk])
    run.rows.filter(label="Create 0").update(
        result="done", result_sentence="Taken over.", target=f"mapping:{world.mapping.pk}"
    )
    run.rows.filter(label="Create 1").update(result="failed", result_sentence="The password is wrong.")
    MappingImport.objects.filter(pk=run.pk).update(state=ImportState.DONE, applied_at=run.created_at)
    text = page(client, run)
    assert "The password is wrong." in text
    assert "2 could not be taken" in text
    assert "2 still need a decision" in text
    assert reverse("admin:agents_mapping_change", args=[world.mapping.pk]) in page(client, run, show="done")
    answer = client.get(rejects)
    assert answer["Content-Disposition"].startswith("attachment;")
    assert "no-store" in answer["Cache-Control"]
    assert PASSWORD in answer.content.decode()
    assert "The password is wrong." in answer.content.decode()
    # What failed may be tried again; discarding takes the secrets away.
    assert client.get(reverse("admin:agents_mappingimport_deed", args=[run.pk, "again"])).status_code == 200
    client.post(reverse("admin:agents_mappingimport_deed", args=[run.pk, "discard"]))
    assert client.get(rejects).status_code == 404
    assert not any(row.record for row in run.rows.all())
    assert "What was taken over stays." in page(client, run)


def test_queries_do_not_grow_with_the_import(world: World, client: Any) -> None:
    def queries(run: MappingImport) -> int:
        with CaptureQueriesContext(connection) as asked:
            page(client, run)
        return len(asked)

    small, large = make_run(world, conflicts=1), make_run(world, conflicts=130, unchanged=100)
    page(client, small)
    assert queries(large) == queries(small)
    assert page(client, large).count('class="sb-conflict"') == 50
    assert page(client, large, p=2).count('class="sb-conflict"') == 30
