"""``docs/repairs.md``: every known failure with its symptom, check, button, command and proof, made from the registries."""

from __future__ import annotations

from ops.doctor import catalogue
from ops.doctor.faults import all_faults
from ops.doctor.guides import has_guide
from ops.doctor.repairs import get_repair
from ops.registry import Check

_WORDS: dict[catalogue.Coverage, str] = {
    "repair": "mended by a repair",
    "guide": "remedy rendered for the installation",
    "check": "watched",
    "impossible": "impossible here, proven by a test",
    "open": "open",
}
_PROVER = "tests/doctor/test_every_failure.py"

_HEAD = """# Known failures and their repairs

Made by `manage.py repairs_reference --write` from what is registered; do not edit.

Every failure here is detected by a check, mended by a repair or explained by a guide with this installation's own values, or is
impossible by design, with the test that proves so. What is listed as open waits for a part that is not built yet.

- Examine everything: `manage.py doctor`, one: `manage.py doctor ID` (id or number), with its remedy: `manage.py doctor --explain ID`.
- Mend: the button on the issue in the admin, `manage.py repair ID` (`--dry-run` shows the difference), or `POST /api/v1/repairs/ID`.
- Undo: the button on the receipt, `manage.py undo`, or `POST /api/v1/repair-runs/RUN/undo`.
- Watch one happen on a trial installation: `manage.py demo --break ID`, and back: `manage.py demo --heal ID`.

Classes: **A** may run unattended when an operator allows it, **C** shows its difference and asks, **D** asks for a typed word and keeps what
undoes it, **G** is a guide.
"""


def reference() -> str:
    """The page as Markdown."""
    parts = [_HEAD, _counts()]
    for letter, title in catalogue.groups().items():
        parts.append(f"## {letter}. {title}\n")
        parts += [_entry(entry) for entry in catalogue.entries() if entry.group == letter]
    return "\n".join(parts).rstrip() + "\n"


def _counts() -> str:
    kinds = [catalogue.coverage(entry.id) or "open" for entry in catalogue.entries()]
    return (
        "| how | entries |\n|---|---|\n"
        + "".join(f"| {word} | {kinds.count(kind)} |\n" for kind, word in _WORDS.items() if kinds.count(kind))
        + f"| all | {len(kinds)} |\n"
    )


def _entry(entry: catalogue.Entry) -> str:
    kind = catalogue.coverage(entry.id) or "open"
    lines = [f"### {entry.number}. `{entry.id}` ({entry.severity}, {_WORDS[kind]})", ""]
    lines.append(f"- Symptom: {_plain(entry.symptom)}")
    lines.append(f"- Cause: {_plain(entry.cause)}")
    part = catalogue.open_part(entry.id)
    if kind == "open":
        lines.append(f"- Open: waits for {part}.")
        return "\n".join(lines) + "\n"
    known = catalogue.impossible(entry.id)
    if known is not None:
        lines.append(f"- Impossible: {known.because}")
    checks = catalogue.checks_of(entry.id)
    for check in checks:
        lines.append(f"- Check: `{check.id}`, {check.title[0].lower()}{check.title[1:]}{_rhythm(check)}.")
    for id in dict.fromkeys(id for check in checks for id in check.repairs):
        repair = get_repair(id)
        if repair is not None:
            undo = "can be undone" if repair.undo is not None else "nothing to undo"
            lines.append(
                f"- Button: **{repair.button}** [{repair.repair_class.value}]: {repair.explain} ({undo}). `manage.py repair {id}`"
            )
    if any(has_guide(check.id) for check in checks):
        id = next(check.id for check in checks if has_guide(check.id))
        lines.append(f"- Guide [G]: `manage.py doctor --explain {id}`, `GET /api/v1/checks/{id}/guide`")
    faults = {fault.check_id: fault for fault in all_faults()}
    proofs = [
        f"`{_PROVER}` [{check.id}]" for check in checks if check.id in faults and _embedded(faults[check.id].needs)
    ]
    proofs += [f"`{proof}`" for proof in catalogue.proofs_of(entry.id)]
    if proofs:
        lines.append(f"- Proof: {', '.join(proofs)}")
    breakable = [check.id for check in checks if check.id in faults]
    if breakable:
        lines.append(f"- Break it: `manage.py demo --break {breakable[0]}`. {faults[breakable[0]].title}")
    return "\n".join(lines) + "\n"


def _embedded(needs: tuple[str, ...]) -> bool:
    return not set(needs) & {"postgres", "redis", "stack"}


def _rhythm(check: Check) -> str:
    return " (when it is named)" if check.live else f" (every {check.interval:g} s)"


def _plain(text: str) -> str:
    text = " ".join(text.split())
    return text if text.endswith((".", "?")) else f"{text}."
