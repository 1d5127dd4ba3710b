"""Issues as pages show them: with names and addresses, what mends them, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode

from django.db.models import F, Window
from django.db.models.functions import RowNumber
from django.urls import reverse

from ops import board
from ops.choices import CheckStatus, IssueState, Lamp, RepairClass
from ops.doctor.guides import has_guide
from ops.doctor.queries import Offer, offers_of
from ops.doctor.targets import address_of, labels_of
from ops.models import CheckState, Issue, IssueTarget
from ops.registry import get_check

# So many affected objects stand on a card; the issue's page shows more.
FEW = 3

SEVERITY_WORDS = {"critical": "Critical", "error": "Error", "warning": "Warning", "info": "Remark"}
SEVERITY_LAMPS = {
    "critical": Lamp.TROUBLE,
    "error": Lamp.TROUBLE,
    "warning": Lamp.ATTENTION,
    "info": Lamp.WORKING,
}


@dataclass(frozen=True, slots=True)
class Thing:
    """An object that an issue names. ``address`` is its page, "" when it has none."""

    target: str
    label: str
    address: str = ""
    sentence: str = ""
    row: IssueTarget | None = None


@dataclass(frozen=True, slots=True)
class RepairButton:
    """A repair that is offered: where its plan is shown, and what is written on the button."""

    offer: Offer
    address: str
    thing: str = ""

    @property
    def label(self) -> str:
        return self.offer.repair.button

    @property
    def danger(self) -> bool:
        return self.offer.repair.repair_class is RepairClass.DESTRUCTIVE


@dataclass(slots=True)
class Card:
    """One issue for a page. ``follows`` are cards of issues, ``waiting`` titles of checks that were not asked because of it."""

    issue: Issue
    title: str
    area: str
    lamp: Lamp
    severity: str
    about: Thing | None
    buttons: list[RepairButton]
    guide: bool
    things: list[Thing] = field(default_factory=list)
    follows: list[Card] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    root: Issue | None = None

    @property
    def address(self) -> str:
        return address_of_issue(self.issue)

    @property
    def more(self) -> int:
        """How many affected objects the card does not show."""
        return max(0, self.issue.affected_count - len(self.things))

    @property
    def main(self) -> RepairButton | None:
        return self.buttons[0] if self.buttons else None

    @property
    def is_open(self) -> bool:
        return self.issue.is_open


def address_of_issue(issue: Issue) -> str:
    """The page of an issue."""
    return reverse("admin:ops_issue_change", args=[issue.pk])


def plan_address(repair_id: str, *, target: str = "", issue: Issue | None = None) -> str:
    """The page that shows what a repair would do."""
    asked = {"target": target, "issue": str(issue.pk) if issue is not None else ""}
    query = urlencode({name: value for name, value in asked.items() if value})
    address = reverse("admin:ops_repair_plan", args=[repair_id])
    return f"{address}?{query}" if query else address


def title_of(check_id: str) -> str:
    """The title of a check, its id when it is not registered (any more)."""
    known = get_check(check_id)
    return known.title if known is not None else check_id


def lamp_of(issue: Issue) -> Lamp:
    """While an issue asks for a hand its lamp says how bad it is; then where it stands."""
    if issue.state in (IssueState.OPEN, IssueState.ACKNOWLEDGED):
        return SEVERITY_LAMPS.get(issue.severity, Lamp.ATTENTION)
    return IssueState(issue.state).lamp


def thing_of(target: str, labels: dict[str, str] | None = None) -> Thing:
    """An object by its target's text."""
    return Thing(target, (labels or {}).get(target, target), address_of(target))


def buttons_of(issue: Issue, target: str = "") -> list[RepairButton]:
    """The repairs of an issue as buttons, the proposed one first."""
    return [
        RepairButton(offer, plan_address(offer.repair.id, target=offer.target, issue=issue))
        for offer in offers_of(issue, target)
    ]


def card_of(issue: Issue, *, target: str = "") -> Card:
    """One issue; ``target``: its buttons are for this one object."""
    return cards_of([issue], target=target)[0]


def cards_of(issues: Sequence[Issue], *, target: str = "") -> list[Card]:
    """Cards in the order of the issues; a constant number of queries for all of them."""
    few = _few_targets([issue.pk for issue in issues])
    wanted = {row.target for rows in few.values() for row in rows} | {issue.target for issue in issues if issue.target}
    labels = labels_of(sorted(wanted))
    return [_card(issue, few.get(issue.pk, []), labels, target) for issue in issues]


def grouped(issues: Sequence[Issue]) -> list[Card]:
    """Cards with those that follow from another one in the list below it, and the checks that wait for each."""
    cards = {card.issue.pk: card for card in cards_of(issues)}
    top: list[Card] = []
    for card in cards.values():
        root = cards.get(card.issue.root_id or 0)
        if root is None:
            top.append(card)
        else:
            root.follows.append(card)
            card.root = root.issue
    missing = {card.issue.root_id for card in top if card.issue.root_id}
    roots = Issue.objects.in_bulk(missing) if missing else {}
    for card in top:
        found = roots.get(card.issue.root_id or 0)
        card.root = found if found is not None and found.is_open else None
    _add_waiting(cards.values())
    return top


def _add_waiting(cards: Iterable[Card]) -> None:
    places = {(card.issue.check_id, card.issue.target): card for card in cards if card.is_open}
    if not places:
        return
    rows = CheckState.objects.filter(status=CheckStatus.BLOCKED).values_list("check_id", "target", "evidence")
    for check_id, about, evidence in rows:
        cause = str((evidence or {}).get("blocked_by", ""))
        card = places.get((cause, about)) or places.get((cause, ""))
        if card is not None and title_of(check_id) not in card.waiting:
            card.waiting.append(title_of(check_id))


def _card(issue: Issue, rows: list[IssueTarget], labels: dict[str, str], target: str) -> Card:
    things = [
        Thing(row.target, labels.get(row.target, row.target), address_of(row.target), row.sentence) for row in rows
    ]
    return Card(
        issue=issue,
        title=title_of(issue.check_id),
        area=board.title_of(board.component_key(issue.check_id, issue.target)),
        lamp=lamp_of(issue),
        severity=SEVERITY_WORDS.get(issue.severity, issue.severity),
        about=thing_of(issue.target, labels) if issue.target else None,
        buttons=buttons_of(issue, target) if issue.is_open else [],
        guide=issue.is_open and has_guide(issue.check_id),
        things=things,
    )


def _few_targets(ids: list[int]) -> dict[int, list[IssueTarget]]:
    if not ids:
        return {}
    place = Window(RowNumber(), partition_by=F("issue_id"), order_by=F("pk").asc())
    rows = IssueTarget.objects.filter(issue_id__in=ids).annotate(place=place).filter(place__lte=FEW).defer("evidence")
    found: dict[int, list[IssueTarget]] = {}
    for row in rows.order_by("issue_id", "pk"):
        found.setdefault(row.issue_id, []).append(row)
    return found
