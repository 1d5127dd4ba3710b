"""Plans a repair: its form's values, the objects it is for, and the difference it would make."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

from ops.doctor.queries import affected_by
from ops.doctor.repairs import Plan, Repair, RepairFailed, RepairRefused, RepairWork, all_repairs, get_repair
from ops.logs import bind, get_logger
from ops.redaction import redact, redact_text
from ops.registry import all_checks
from ops.services.jobs import sentence_of

logger = get_logger(__name__)

# So many lines of a difference are kept; the count says how many there were.
KEPT_CHANGES = 500


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan with its repair. ``confirm_word`` is what has to be typed before a destructive one is applied."""

    repair: Repair
    target: str
    plan: Plan
    params: dict[str, Any]
    confirm_word: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON shape: ``{repair, title, class, target, sentence, changes, changes_count, confirm_word, undo, unneeded}``."""
        return {
            "repair": self.repair.id,
            "title": self.repair.title,
            "class": str(self.repair.repair_class.value),
            "target": self.target,
            "sentence": self.plan.sentence,
            "changes": shown_changes(self.plan),
            "changes_count": len(self.plan.changes),
            "confirm_word": self.confirm_word,
            "undo": self.repair.undo is not None,
            "unneeded": not self.plan.changes,
        }


def plan_of(repair: Repair, work: RepairWork) -> Planned:
    """What the repair would do. Raises ``RepairRefused``, also for a plan that breaks."""
    with bind(repair=repair.id, target=work.target or None):
        try:
            plan = repair.plan(work)
        except RepairRefused:
            raise
        except Exception as error:
            logger.warning("repair_plan_failed", exc_info=True)
            raise RepairRefused(f"It could not be planned: {words_of(error)}") from error
        word = repair.confirm_word(work) if repair.confirm_word is not None else ""
    return Planned(repair, work.target, plan, work.params, word)


def work_of(
    repair: Repair,
    target: str,
    params: dict[str, Any],
    actor: str,
    progress: Callable[[int, int, str], None] | None = None,
) -> RepairWork:
    """What the repair's functions get in hand."""
    affected = affected_objects(repair, target)
    return RepairWork(target=target, params=params, actor=actor, affected=affected, progress=progress)


def affected_objects(repair: Repair, target: str) -> list[str]:
    if target:
        return [target]
    return affected_by(check.id for check in all_checks() if repair.id in check.repairs)


def find_repair(id: str) -> Repair:
    """The registered repair. Raises ``ValueError``, with the name that was probably meant."""
    repair = get_repair(id)
    if repair is None:
        near = get_close_matches(id, [known.id for known in all_repairs()], n=1)
        raise ValueError(f"There is no repair {id!r}." + (f" Did you mean {near[0]}?" if near else ""))
    return repair


def form_values(repair: Repair, params: Mapping[str, Any]) -> dict[str, Any]:
    """The form's values with defaults, numbers as numbers. Raises ``RepairRefused``."""
    known = {field.name: field for field in repair.fields}
    unknown = sorted(set(params) - set(known))
    if unknown:
        names = ", ".join(sorted(known)) or "none"
        raise RepairRefused(f"{repair.id} does not know {', '.join(unknown)}; it asks for: {names}.")
    values: dict[str, Any] = {}
    for name, field in known.items():
        value = params.get(name, field.default)
        if field.kind == "number" and isinstance(value, str) and value.strip():
            try:
                value = int(value) if value.strip().lstrip("-").isdigit() else float(value)
            except ValueError:
                raise RepairRefused(f"{field.label} ({name}) has to be a number, not {value!r}.") from None
        if field.kind == "bool" and isinstance(value, str):
            value = value.strip().lower() in ("1", "true", "yes", "on")
        if field.choices and value not in ("", None) and value not in {choice for choice, _ in field.choices}:
            allowed = ", ".join(choice for choice, _ in field.choices)
            raise RepairRefused(f"{field.label} ({name}) is one of: {allowed}.")
        if field.required and value in ("", None):
            raise RepairRefused(f"{field.label} ({name}) is missing.")
        values[name] = value
    return values


def shown_changes(plan: Plan) -> list[dict[str, Any]]:
    """The difference as it is shown and kept: bounded, without secrets."""
    shown: list[dict[str, Any]] = redact(plain_json([change.to_dict() for change in plan.changes[:KEPT_CHANGES]]))
    return shown


def words_of(error: Exception) -> str:
    """What an error has to say to the operator."""
    if isinstance(error, (RepairFailed, RepairRefused)):
        return redact_text(str(error))
    return sentence_of(error)


def plain_json(value: Any) -> Any:
    """The value as JSON holds it."""
    return json.loads(json.dumps(value, cls=DjangoJSONEncoder))
