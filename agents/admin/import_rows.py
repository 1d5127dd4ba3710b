"""The rows of an import on its page: what each record means, page by page, and the three sides of what needs a decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, QueryDict

from agents.models import ImportAction, ImportChoice, ImportState, MappingImport, MappingImportRow
from ops.choices import Lamp
from ops.doctor.targets import address_of

PAGE = 50
# The name of a radio button is this and the row's key.
CHOICE = "choice-"

ACTION_LAMPS: dict[str, Lamp] = {
    ImportAction.CREATE: Lamp.WORKING,
    ImportAction.UPDATE: Lamp.WORKING,
    ImportAction.UNCHANGED: Lamp.GOOD,
    ImportAction.CONFLICT: Lamp.ATTENTION,
    ImportAction.REJECT: Lamp.TROUBLE,
}
RESULT_WORDS: dict[str, tuple[Lamp, str]] = {
    "done": (Lamp.GOOD, "Done"),
    "kept": (Lamp.OFF, "Left as it was"),
    "failed": (Lamp.TROUBLE, "Failed"),
}
# Tabs in the order of the page, before and after it was applied; the first one that has rows is shown.
_PLANNED = {
    "conflict": Q(action=ImportAction.CONFLICT),
    "reject": Q(action=ImportAction.REJECT),
    "create": Q(action=ImportAction.CREATE),
    "update": Q(action=ImportAction.UPDATE),
    "unchanged": Q(action=ImportAction.UNCHANGED),
}
_PLANNED_WORDS = {
    "conflict": "Need a decision",
    "reject": "Cannot be taken",
    "create": "New here",
    "update": "Complete what is here",
    "unchanged": "Nothing to do",
}
_OPEN = Q(action__in=(ImportAction.CREATE, ImportAction.UPDATE), result="")
_APPLIED = {
    "failed": Q(result="failed"),
    "conflict": Q(action=ImportAction.CONFLICT, result=""),
    "reject": Q(action=ImportAction.REJECT),
    "open": _OPEN,
    "kept": Q(result="kept"),
    "done": Q(result="done"),
    "unchanged": Q(action=ImportAction.UNCHANGED),
}
_APPLIED_WORDS = {
    "failed": "Failed",
    "conflict": "Need a decision",
    "reject": "Could not be taken",
    "open": "Not applied yet",
    "kept": "Left as they were",
    "done": "Done",
    "unchanged": "Nothing to do",
}
DECIDABLE = {ImportState.PLANNED, ImportState.DONE, ImportState.FAILED}
SIDES = (
    (ImportChoice.STORED, "Here", "Keep what is here"),
    (ImportChoice.FILE, "File", "Take the file's"),
    (ImportChoice.HOMESERVER, "Homeserver", "Take the homeserver's"),
)
FIELD_WORDS = {
    "agent": "Agent",
    "agent_id": "Agent id",
    "agent_name": "Name",
    "name": "Name",
    "account": "Account",
    "user_id": "Account",
    "matrix_user_id": "Account",
    "room": "Room",
    "room_id": "Room",
    "room_name": "Name of the room",
    "alias": "Address",
    "space": "Space",
    "space_id": "Space",
    "state": "State",
    "service": "Service",
    "password": "Password",
    "session": "Session",
    "removed_at": "Removed",
}


@dataclass(frozen=True, slots=True)
class Tab:
    """One group of rows with its number."""

    key: str
    label: str
    count: int


def tabs_of(run: MappingImport) -> list[Tab]:
    """The groups that have rows. One query."""
    conditions, words = _groups(run)
    counts = run.rows.aggregate(**{key: Count("pk", filter=one) for key, one in conditions.items()})
    return [Tab(key, words[key], counts[key]) for key in conditions if counts[key]]


def _groups(run: MappingImport) -> tuple[dict[str, Q], dict[str, str]]:
    begun = run.applied_at is not None or run.state in {ImportState.APPLYING, ImportState.DONE, ImportState.FAILED}
    return (_APPLIED, _APPLIED_WORDS) if begun else (_PLANNED, _PLANNED_WORDS)


def undecided(run: MappingImport) -> QuerySet[MappingImportRow]:
    """Conflicts about which nobody has said anything yet."""
    return run.rows.filter(action=ImportAction.CONFLICT, choice=ImportChoice.NONE, result="")


def to_apply(run: MappingImport) -> QuerySet[MappingImportRow]:
    """What applying it (again) would do: new records, decisions, and what failed."""
    decided = Q(action=ImportAction.CONFLICT, result="") & ~Q(choice=ImportChoice.NONE)
    return run.rows.filter(_OPEN | decided | Q(result="failed"))


def rows_context(request: HttpRequest, run: MappingImport) -> dict[str, Any]:
    """One page of one group, for ``import_rows.html``. A constant number of queries, whatever the import's length."""
    tabs = tabs_of(run)
    conditions, _ = _groups(run)
    asked = request.GET
    shown = asked.get("show", "") if asked.get("show", "") in conditions else (tabs[0].key if tabs else "")
    number = int(asked["p"]) if asked.get("p", "").isdigit() and len(asked["p"]) < 7 else 0
    words = asked.get("q", "").strip()[:200]
    rows = run.rows.filter(conditions[shown]) if shown else run.rows.none()
    if words:
        rows = rows.filter(
            Q(label__icontains=words) | Q(key__icontains=words) | Q(sentence__icontains=words) | Q(source=words)
        )
    if shown == "conflict" and asked.get("decided") == "no":
        rows = rows.filter(choice=ImportChoice.NONE)
    # The records themselves may hold passwords; no page needs them.
    page = list(rows.defer("record").order_by("number")[number * PAGE : (number + 1) * PAGE + 1])
    query = QueryDict(mutable=True)
    query.update({name: value for name, value in (("show", shown), ("q", words)) if value})
    return {
        "tabs": tabs,
        "shown": shown,
        "words": words,
        "cards": [card(row) for row in page[:PAGE]],
        "choosing": shown == "conflict" and run.state in DECIDABLE,
        "page": number,
        "before": number - 1,
        "after": number + 1 if len(page) > PAGE else 0,
        "query": query.urlencode(),
        "sides": SIDES,
        "only_undecided": asked.get("decided") == "no",
    }


def card(row: MappingImportRow) -> dict[str, Any]:
    """One row as the templates show it."""
    lamp, word = RESULT_WORDS.get(row.result, (ACTION_LAMPS[row.action], row.get_action_display()))
    told: dict[str, dict[str, Any]] = {"stored": row.stored, "file": row.file, "homeserver": row.homeserver}
    keys = list(dict.fromkeys(key for side in told.values() for key in side))
    apart = [key for key in keys if _differs(key, told)]
    sides = []
    for choice, title, words in SIDES:
        values = told[choice.value]
        sides.append(
            {
                "choice": choice.value,
                "title": title,
                "words": words,
                "chosen": row.choice == choice,
                "known": bool(values),
                "lines": [(_label(key), _text(values.get(key))) for key in apart],
            }
        )
    return {
        "row": row,
        "name": f"{CHOICE}{row.pk}",
        "lamp": lamp,
        "word": word,
        "sentence": row.result_sentence or row.sentence,
        "sides": sides,
        "compare": bool(apart),
        "same": [(_label(key), said) for key in keys if key not in apart and (said := _said(key, told))],
        "address": _address(row.target),
    }


def _differs(key: str, told: dict[str, dict[str, Any]]) -> bool:
    """Whether the sides that say something about it say different things."""
    return len({_text(side.get(key)) for side in told.values() if side.get(key) not in (None, "")}) > 1


def _said(key: str, told: dict[str, dict[str, Any]]) -> str:
    """What the sides say of it that do not differ."""
    return next((_text(side[key]) for side in told.values() if side.get(key) not in (None, "")), "")


def _label(key: str) -> str:
    return FIELD_WORDS.get(key) or key.replace("_", " ").capitalize()


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {one}" for key, one in value.items())
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else "" if value is None else str(value)


def _address(target: str) -> str:
    """The page of what a row became (``mapping:12``); "" where there is none."""
    return address_of(target) if target else ""


def choices_of(run: MappingImport, posted: QueryDict) -> dict[str, list[int]]:
    """What a posted page says about its conflicts: the keys of those whose choice is another one now, by choice."""
    said = {
        int(name.removeprefix(CHOICE)): value
        for name, value in posted.items()
        if name.startswith(CHOICE) and name.removeprefix(CHOICE).isdigit() and len(name) < 30
    }
    found: dict[str, list[int]] = {}
    rows = run.rows.filter(pk__in=list(said)[: 2 * PAGE], action=ImportAction.CONFLICT).values_list("pk", "choice")
    for pk, choice in rows:
        wanted = str(said[pk])
        if wanted in ImportChoice.values and wanted != choice:
            found.setdefault(wanted, []).append(pk)
    return found


def undecided_with(run: MappingImport, choice: str) -> list[int]:
    """Undecided conflicts about which that side says something."""
    return list(undecided(run).exclude(**{choice: {}}).values_list("pk", flat=True))
