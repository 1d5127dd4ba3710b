"""Log lines as pages show them: with what an error means, where it is mended, and links to everything that belongs to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from django.urls import NoReverseMatch, reverse

from ops.logbook.signatures import Dictionary, Signature
from ops.models import CheckState, Issue, LogLine
from ops.registry import get_check

_HIDDEN = frozenset({"whole"})


@dataclass(frozen=True, slots=True)
class Tag:
    """One id of a line; ``address`` shows all lines with it."""

    label: str
    value: str
    address: str


@dataclass(slots=True)
class ShownLine:
    """A line with all that stands beside it. ``repair`` is the address of the repair that its check proposes."""

    line: LogLine
    tags: list[Tag] = field(default_factory=list)
    details: list[tuple[str, Any]] = field(default_factory=list)
    known: Signature | None = None
    check_title: str = ""
    check_address: str = ""
    repair: str = ""
    repair_label: str = ""
    explain: str = ""

    @property
    def permalink(self) -> str:
        """The line's own page."""
        return reverse("admin:ops_logline_change", args=[self.line.pk])


def logs_address(**wanted: Any) -> str:
    """The page of the logs with these conditions."""
    return f"{reverse('admin:ops_logline_changelist')}?{urlencode(wanted)}"


def show(lines: Iterable[LogLine], dictionary: Dictionary | None = None) -> list[ShownLine]:
    """The lines with their explanations; a constant number of queries for all of them together."""
    dictionary = dictionary or Dictionary()
    shown = [ShownLine(line, _tags(line), _details(line), dictionary.of_line(line)) for line in lines]
    places = Places({one.known.check for one in shown if one.known is not None and one.known.check})
    for one in shown:
        if one.known is not None:
            places.fill(one, one.known.check)
        elif one.line.level == "error":
            one.explain = explain_address(one.line.pk)
    return shown


def explain_address(line_id: int) -> str:
    """The form in which an unknown error gets its entry in the dictionary."""
    return f"{reverse('admin:ops_errorsignature_new')}?{urlencode({'line': line_id})}"


def _tags(line: LogLine) -> list[Tag]:
    found = (
        ("agent", line.agent, {"agent": line.agent}),
        ("service", line.service, {"service": line.service}),
        ("message", line.message_id, {"message": line.message_id}),
        ("request", line.request_id[:12], {"request": line.request_id}),
    )
    return [Tag(label, value, logs_address(**wanted)) for label, value, wanted in found if value]


def _details(line: LogLine) -> list[tuple[str, Any]]:
    return [
        (name, value) for name, value in (line.extra or {}).items() if name not in _HIDDEN and value not in ("", None)
    ]


class Places:
    """Pages of checks, and of what mends them; asks twice however many checks there are."""

    def __init__(self, check_ids: Iterable[str]) -> None:
        wanted = {one for id in check_ids for one in _checks_for(id)}
        self._states: dict[str, int] = {}
        for check_id, pk in (
            CheckState.objects.filter(check_id__in=wanted).order_by("target").values_list("check_id", "pk")
        ):
            self._states.setdefault(check_id, pk)
        rows = Issue.objects.filter(check_id__in=wanted).exclude(state="resolved").order_by("pk")
        self._issues = dict(rows.values_list("check_id", "pk"))

    def fill(self, one: ShownLine, check_id: str) -> None:
        """Put title, page and repair of the check into the line."""
        for id in _checks_for(check_id):
            check = get_check(id)
            if check is None:
                continue
            one.check_title = check.title
            if id in self._states:
                one.check_address = _address("ops_checkstate_change", self._states[id])
            if id in self._issues and check.repairs:
                one.repair_label, one.repair = _repair(check.repairs[0], self._issues[id])
            if one.check_address:
                return


def _repair(repair_id: str, issue: int) -> tuple[str, str]:
    from ops.doctor.repairs import get_repair

    known = get_repair(repair_id)
    address = _address("ops_repair_plan", repair_id)
    return (known.button, f"{address}?issue={issue}") if known is not None and address else ("", "")


def _checks_for(check_id: str) -> list[str]:
    """The checks behind an entry of the catalogue, or the check of this id."""
    from ops.doctor.catalogue import checks_of

    if get_check(check_id) is not None:
        return [check_id]
    return [check.id for check in checks_of(check_id)]


def _address(view: str, key: Any) -> str:
    try:
        return reverse(f"admin:{view}", args=[key])
    except NoReverseMatch:
        return ""
