"""Every fault of the registry: break, the check turns red (and only it and what follows), plan, repair or guide, green, undo."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.doctor import catalogue
from ops.doctor.faults import all_faults
from ops.registry import all_checks
from tests.doctor.conftest import EMBEDDED_NEEDS, Proofs

ROOT = Path(__file__).resolve().parents[2]
EMBEDDED = [fault.check_id for fault in all_faults() if set(fault.needs) <= EMBEDDED_NEEDS]


@pytest.mark.parametrize("check_id", EMBEDDED)
def test_break_red_plan_repair_green_undo(check_id: str, embedded_proofs: Proofs) -> None:
    result = embedded_proofs.line("check", check_id)
    assert result["ok"], f"held: {result['steps']}\n{result['problem']}"


def test_an_installation_that_works_is_green(embedded_proofs: Proofs) -> None:
    assert embedded_proofs.line("baseline")["baseline"] == {}


def test_it_is_green_after_all_that(embedded_proofs: Proofs) -> None:
    assert embedded_proofs.line("end")["end"] == {}


@pytest.mark.parametrize("entry", catalogue.entries(), ids=lambda entry: entry.id)
def test_every_known_failure_is_covered_or_listed_as_open(entry: catalogue.Entry) -> None:
    kind = catalogue.coverage(entry.id)
    assert kind is not None, f"{entry.number} {entry.id} is neither covered nor listed as open"
    if kind == "open":
        return
    checks = catalogue.checks_of(entry.id)
    faults = {fault.check_id for fault in all_faults()}
    proven = [check.id for check in checks if check.id in EMBEDDED]
    proofs = catalogue.proofs_of(entry.id)
    assert proven or proofs, (
        f"{entry.id} is covered ({kind}) and nothing proves it (faults: {faults & {c.id for c in checks}})"
    )
    for proof in proofs:
        path, _, name = proof.partition("::")
        assert (ROOT / path).is_file(), f"{entry.id}: there is no {path}"
        last = name.rpartition("::")[2].partition("[")[0]
        assert (
            not last or f"def {last}(" in (ROOT / path).read_text() or f"class {last}" in (ROOT / path).read_text()
        ), proof


def test_what_is_open_is_not_covered_at_the_same_time() -> None:
    both = [
        entry.id for entry in catalogue.entries() if catalogue.open_part(entry.id) and catalogue.checks_of(entry.id)
    ]
    assert both == []


def test_every_red_check_says_how_it_goes_on() -> None:
    """A check has a repair, a guide, or an entry that says why neither is needed."""
    from ops.doctor.guides import has_guide
    from ops.doctor.repairs import get_repair

    without = [check.id for check in all_checks() if not check.repairs and not has_guide(check.id)]
    assert without == []
    unknown = [(check.id, id) for check in all_checks() for id in check.repairs if get_repair(id) is None]
    assert unknown == []


def test_dependencies_exist() -> None:
    known = {check.id for check in all_checks()}
    assert [(check.id, id) for check in all_checks() for id in check.depends_on if id not in known] == []


def test_the_page_of_known_failures_is_up_to_date() -> None:
    from ops.doctor.reference import reference

    assert (ROOT / "docs" / "repairs.md").read_text() == reference(), "Run: python manage.py repairs_reference --write"
