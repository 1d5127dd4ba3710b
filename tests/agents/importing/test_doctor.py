"""``mapping.import_invalid``: a broken file is named with its place, the repair takes what is whole, its rejects come back mended."""

from __future__ import annotations

import json

from agents.doctor.mappings import faults
from agents.models import Mapping, MappingImport
from agents.services.imports import import_rejects
from ops.models import Issue
from ops.services.repairs import repair_plan, repair_start
from tests.agents.doctor.mappings.conftest import green, mend, red, walk
from tests.agents.importing.conftest import Predecessor
from tests.agents.importing.files import agent_id, as_bytes

CHECK = "mapping.import_invalid"


def test_break_red_plan_repair_green(predecessor: Predecessor) -> None:
    predecessor.makes(1)
    predecessor.brings(predecessor.file(1))
    memory, _ = walk(CHECK)
    assert MappingImport.objects.get(pk=memory["run"]).state == "done"
    faults.forget_the_cut_file(memory)
    faults.forget_the_cut_file(memory)
    assert MappingImport.objects.count() == 1


def test_what_is_whole_is_taken_and_the_counts_add_up(predecessor: Predecessor) -> None:
    predecessor.makes(1, 2, 3)
    data = predecessor.file(1, 2, 3)
    planned = predecessor.prepare(data[:-60])
    found = red(CHECK)
    assert (found.evidence["file"], found.evidence["rejected"]) == ("file0.json", 1)
    assert found.evidence["line"] > 30
    assert f"line {found.evidence['line']}" in found.sentence
    assert [one.target for one in found.affected] == [f"mappingimport:{planned.pk}"]
    issue = Issue.objects.exclude(state="resolved").get(check_id=CHECK)
    assert issue.fix["repair"] == "mapping.import"
    seen = repair_plan(repair_id="mapping.import", target=f"mappingimport:{planned.pk}", params={}, actor="test")
    assert "2 records are taken; 1 stays in the file of rejects" in seen.plan.sentence
    assert not Mapping.objects.exists()
    done = mend("mapping.import", f"mappingimport:{planned.pk}")
    assert done.state == "succeeded", done.error
    assert Mapping.objects.count() == 2
    green(CHECK)
    body = json.loads(import_rejects(planned))
    body["records"][0]["text"] = f'"{agent_id(3)}": {json.dumps(predecessor.entry(3))}'
    again = predecessor.brings(as_bytes(body))
    assert planned.counts["create"] + again.counts["create"] == 3
    assert again.counts["reject"] == 0
    green(CHECK)


def test_an_import_of_which_nothing_can_be_taken_is_closed(predecessor: Predecessor) -> None:
    predecessor.prepare(b'{"agent-1": {"agent_id": "agent-1", "agent_na')
    red(CHECK)
    run = repair_start(repair_id="mapping.import", target="", params={}, actor="test", trigger="command")
    assert run.state == "succeeded", run.error
    green(CHECK)


def test_an_import_that_was_discarded_is_no_trouble(predecessor: Predecessor) -> None:
    from agents.services.imports import import_discard

    run = predecessor.prepare(b'{"agent-1": {"agent_id"')
    red(CHECK)
    import_discard(run=run, actor="test")
    green(CHECK)


def test_a_file_that_is_no_file_of_mappings_is_told_of_as_well(predecessor: Predecessor) -> None:
    predecessor.prepare(b"<html>")
    assert "neither JSON nor" in red(CHECK).sentence
    assert mend("mapping.import").state == "succeeded"
    green(CHECK)
