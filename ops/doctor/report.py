"""What the doctor prints: worst first, each line with the command that goes on; and the same for machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import yaml
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ops.choices import CheckStatus, Lamp, lamp_for
from ops.doctor import catalogue
from ops.doctor.guides import guide_for, has_guide
from ops.doctor.planning import Planned
from ops.doctor.render import check_dict
from ops.doctor.repairs import get_repair
from ops.doctor.targets import labels_of
from ops.registry import Check
from ops.runner import CheckRun
from ops.terminal import LAMP_COLOURS, lamp_text
from ops.words import counted, verb

SCHEMA = 1
_RANK = {CheckStatus.FAIL: 0, CheckStatus.WARN: 1, CheckStatus.BLOCKED: 2, CheckStatus.SKIP: 4, CheckStatus.PASS: 3}
_SEVERITY = {"critical": 0, "error": 1, "warning": 2, "info": 3}
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Next:
    """How one bad outcome goes on: the repair that would mend it, its guide, or nothing."""

    repair: str = ""
    target: str = ""
    guide: bool = False

    @property
    def command(self) -> str:
        if self.repair:
            return f"manage.py repair {self.repair}" + (f" --target {self.target}" if self.target else "")
        return ""


def next_of(run: CheckRun) -> Next:
    """What to do about a run that is not green."""
    if run.status not in (CheckStatus.FAIL, CheckStatus.WARN):
        return Next()
    if run.fix is not None:
        return Next(run.fix.repair, run.fix.target, has_guide(run.check.id))
    if run.check.repairs:
        return Next(run.check.repairs[0], run.target, has_guide(run.check.id))
    return Next(guide=has_guide(run.check.id))


def worst_first(runs: Sequence[CheckRun]) -> list[CheckRun]:
    """Failures by severity, then warnings, what waits for them, passes, skips."""
    return sorted(
        runs,
        key=lambda run: (_RANK[CheckStatus(run.status)], _SEVERITY[run.check.severity], run.check.id, run.target),
    )


def document(runs: Sequence[CheckRun], repairs: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """``{schema, ok, counts, checks: [{…, next}], repairs}``: what ``--format json`` prints."""
    return {
        "schema": SCHEMA,
        "ok": not any(run.status in (CheckStatus.FAIL, CheckStatus.BLOCKED) for run in runs),
        "counts": {str(status.value): sum(run.status == status for run in runs) for status in CheckStatus},
        "checks": [{**run.to_dict(), "next": next_of(run).command} for run in worst_first(runs)],
        "repairs": list(repairs),
    }


def as_json(found: dict[str, Any]) -> str:
    """The document as JSON."""
    return json.dumps(found, indent=2, default=str)


def as_yaml(found: dict[str, Any]) -> str:
    """The document as YAML."""
    return str(yaml.safe_dump(json.loads(as_json(found)), sort_keys=False, allow_unicode=True)).rstrip()


def as_junit(runs: Sequence[CheckRun]) -> str:
    """JUnit's XML: a suite of test cases, one a check and target, for build servers."""
    suite = ElementTree.Element(
        "testsuite",
        name="switchboard.doctor",
        tests=str(len(runs)),
        failures=str(sum(run.status in (CheckStatus.FAIL, CheckStatus.BLOCKED) for run in runs)),
        skipped=str(sum(run.status == CheckStatus.SKIP for run in runs)),
    )
    for run in worst_first(runs):
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname=run.check.id,
            name=run.target or run.check.title,
            time=f"{run.duration_ms / 1000:.3f}",
        )
        if run.status in (CheckStatus.FAIL, CheckStatus.BLOCKED):
            ElementTree.SubElement(case, "failure", message=run.sentence, type=run.check.severity)
        elif run.status == CheckStatus.SKIP:
            ElementTree.SubElement(case, "skipped", message=run.sentence)
        elif run.status == CheckStatus.WARN:
            ElementTree.SubElement(case, "system-out").text = run.sentence
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode")


def print_runs(console: Console, runs: Sequence[CheckRun], *, spotlight: bool = False) -> None:
    """A summary sentence, what is wrong with what to do, then the rest as a list (not with ``spotlight``)."""
    ordered = worst_first(runs)
    bad = [run for run in ordered if run.status in (CheckStatus.FAIL, CheckStatus.WARN)]
    blocked = [run for run in ordered if run.status == CheckStatus.BLOCKED]
    console.print(_summary(runs))
    for run in bad:
        _print_bad(console, run, [one for one in blocked if one.evidence.get("blocked_by") == run.check.id])
    shown = {run.check.id for run in bad}
    for run in blocked:
        if run.evidence.get("blocked_by") not in shown:
            _print_bad(console, run, [])
    rest = [run for run in ordered if run.status in (CheckStatus.PASS, CheckStatus.SKIP)]
    if rest and not spotlight:
        console.print()
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        for column in ({"no_wrap": True}, {"no_wrap": True}, {"ratio": 1, "overflow": "ellipsis", "no_wrap": True}):
            table.add_column(**column)
        for run in rest:
            name = f"{run.check.id} {run.target}".strip()
            table.add_row(
                lamp_text(lamp_for(run.status), CheckStatus(run.status).label.lower()), name, Text(run.sentence)
            )
        console.print(table)


def _summary(runs: Sequence[CheckRun]) -> Text:
    count = {status: sum(run.status == status for run in runs) for status in CheckStatus}
    parts = [
        (count[CheckStatus.FAIL], "failed", Lamp.TROUBLE),
        (count[CheckStatus.WARN], "warned", Lamp.ATTENTION),
        (count[CheckStatus.BLOCKED], "could not be asked", Lamp.ATTENTION),
    ]
    told = [Text(f"{number} {word}", style=LAMP_COLOURS[lamp]) for number, word, lamp in parts if number]
    if not told:
        return Text(
            f"{Lamp.GOOD.shape} {verb(len(runs), 'The one check is', f'All {len(runs)} checks are')} well.",
            style=LAMP_COLOURS[Lamp.GOOD],
        )
    return Text(f"Of {counted(len(runs), 'check')} ") + Text(", ").join(told) + Text(".")


def _print_bad(console: Console, run: CheckRun, blocked: Sequence[CheckRun]) -> None:
    word = CheckStatus(run.status).label.lower() if run.status != CheckStatus.FAIL else run.check.severity
    lamp = lamp_for(run.status)
    name = Text(f"  {run.check.id}", style="bold")
    console.print()
    console.print(lamp_text(lamp, word) + name + Text(f" {run.target}" if run.target else ""))
    console.print(Padding(Text(run.sentence), (0, 0, 0, 2)))
    if run.affected:
        labels = labels_of([one.target for one in run.affected[:_NAMED]])
        named = ", ".join(f"{labels[one.target]} ({one.target})" for one in run.affected[:_NAMED])
        more = f" and {len(run.affected) - _NAMED} more" if len(run.affected) > _NAMED else ""
        console.print(Padding(Text(f"{named}{more}", style="dim"), (0, 0, 0, 2)))
    if blocked:
        waiting = ", ".join(dict.fromkeys(one.check.id for one in blocked))
        console.print(Padding(Text(f"Not asked because of it: {waiting}", style="dim"), (0, 0, 0, 2)))
    following = next_of(run)
    if following.command:
        console.print(Text(f"  → {following.command}", style="bold"), soft_wrap=True)
    elif following.guide:
        console.print(Text(f"  → manage.py doctor --explain {run.check.id}", style="bold"), soft_wrap=True)


def print_plan(console: Console, planned: Planned) -> None:
    """A plan: its sentence, and the difference as a table."""
    repair_class = planned.repair.repair_class
    console.print(Text(planned.repair.title, style="bold") + Text(f" ({repair_class.label.lower()})", style="dim"))
    console.print(Text(planned.plan.sentence))
    shown = planned.to_dict()["changes"]
    if shown:
        print_changes(console, shown, len(planned.plan.changes))


def print_changes(console: Console, changes: Sequence[dict[str, Any]], count: int, *, most: int = 50) -> None:
    """The difference, line by line."""
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("Object", "What", "Before", "After"):
        table.add_column(title, overflow="fold")
    labels = labels_of([change["target"] for change in changes[:most]])
    for change in changes[:most]:
        table.add_row(
            Text(str(labels.get(change["target"], change["target"]))),
            Text(str(change["what"])),
            Text(_short(change["before"]), style="red"),
            Text(_short(change["after"]), style="green"),
        )
    console.print(table)
    if count > most:
        console.print(Text(f"… and {count - most} more.", style="dim"))


def print_explanation(console: Console, check: Check, target: str = "") -> None:
    """What a check tests, which known failures it is about, what mends it, and its guide for this installation."""
    about = check_dict(check)
    console.print(Text(check.id, style="bold") + Text(f"  {check.title}"))
    console.print(Text(about["about"]))
    console.print()
    for entry in about["entries"]:
        console.print(Text(f"Known failure {entry['number']}: ", style="bold") + Text(entry["symptom"]))
        console.print(Padding(Text(f"Cause: {entry['cause']}"), (0, 0, 0, 2)))
    if check.depends_on:
        console.print(Text(f"Needs: {', '.join(check.depends_on)}"))
    for id in check.repairs:
        repair = get_repair(id)
        if repair is not None:
            console.print(Text(f"→ manage.py repair {id}", style="bold") + Text(f"  {repair.explain}"))
    guide = guide_for(check.id, target)
    if guide is not None:
        console.print()
        console.print(Text(guide.title, style="bold"))
        console.print(Text(guide.why))
        for number, step in enumerate(guide.steps, start=1):
            console.print()
            console.print(
                Text(f"{number}. {step.sentence}") + Text(f"  [{step.place}]" if step.place else "", style="dim")
            )
            if step.snippet:
                console.print(Padding(Text(step.snippet), (0, 0, 0, 4)), soft_wrap=True)
        console.print()
        console.print(Text(f"Then: manage.py doctor {check.id}", style="bold"))


def impossible_sentence(wanted: str) -> str:
    """Why an entry cannot happen here, with its proof; "" when it can, or is unknown."""
    entry = catalogue.get_entry(wanted)
    known = catalogue.impossible(entry.id) if entry is not None else None
    if entry is None or known is None:
        return ""
    return f"{entry.id} ({entry.symptom}) cannot happen here: {known.because}\nProven by: {', '.join(known.proof)}"


def _short(value: Any) -> str:
    if value is None:
        return "-"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 120 else f"{text[:117]}..."
