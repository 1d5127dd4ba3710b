"""What is wrong with an object, on the object's own page, with the buttons that mend it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.http import HttpRequest

from ops.admin.issue_cards import Card, cards_of
from ops.admin.panels import Panel, register_panel
from ops.doctor.queries import issues_about
from ops.doctor.targets import target_of
from ops.models import CheckState, Issue, IssueState, IssueTarget

# Objects whose troubles stand on another object's page as well: an agent's room on the agent's page.
Also = Callable[[Any], Iterable[Any]]
_also: dict[str, list[Also]] = {}


def register_also(model_label: str, also: Also) -> None:
    """Show the issues about ``also(row)`` on the page of a model's row too. Registering the same function twice is fine."""
    known = _also.setdefault(model_label, [])
    if also not in known:
        known.append(also)


def targets_of(row: Any) -> list[str]:
    """The targets that a page is about: the row's own first."""
    rows = [row, *(other for also in _also.get(row._meta.label_lower, []) for other in also(row) if other is not None)]
    return list(dict.fromkeys(target for target in map(target_of, rows) if target))


def issue_cards_about(row: Any) -> list[Card]:
    """The open issues that are about a row, each once, with buttons for this object where the repair is for single ones."""
    found: dict[int, Card] = {}
    said: dict[int, str] = {}
    targets = targets_of(row)
    for target in targets:
        issues = [issue for issue in issues_about(target) if issue.pk not in found]
        kind = target.partition(":")[0]
        for card in cards_of(issues, target=target):
            # A repair that is not for single objects is offered for all of them, as on the issue's own page.
            alone = [button for button in card.buttons if kind in button.offer.repair.target_kinds]
            card.buttons = alone or cards_of([card.issue])[0].buttons
            found[card.issue.pk] = card
    rows = IssueTarget.objects.filter(issue_id__in=found, target__in=targets).values_list("issue_id", "sentence")
    for issue_id, sentence in rows if found else ():
        said.setdefault(issue_id, sentence)
    for pk, card in found.items():
        # What is wrong with this one, not with the five hundred others.
        card.issue.sentence = said.get(pk) or card.issue.sentence
    return list(found.values())


def issue_panel(request: HttpRequest, row: Any) -> Panel:
    """On every page of an object: nothing while nothing is wrong with it."""
    if isinstance(row, CheckState):
        cards = cards_of(list(_of_check(row)))
    else:
        cards = issue_cards_about(row)
    if not cards:
        return Panel()
    return Panel("What is wrong with it", "switchboard/issue_panel.html", {"cards": cards}, first=True)


def _of_check(state: CheckState) -> Iterable[Issue]:
    rows = Issue.objects.filter(check_id=state.check_id, target=state.target)
    return rows.exclude(state=IssueState.RESOLVED)[:1]


register_panel("", issue_panel)
