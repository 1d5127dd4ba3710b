"""What people and agents used: sums over the rows of ``UsageDay``, for pages, the API and files. One query each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from django.db.models import Case, CharField, Q, QuerySet, Sum, Value, When
from django.utils import timezone

from chat.models import PersonRole, UsageDay

FIGURES = ("messages", "answers", "input_tokens", "output_tokens")
GROUPS = ("day", "person", "agent", "role")
MOST_DAYS = 366


@dataclass(frozen=True, slots=True)
class Used:
    """One line: ``key`` and ``label`` of what it is about, and the figures."""

    key: str
    label: str
    messages: int = 0
    answers: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def to_dict(self) -> dict[str, Any]:
        """JSON shape: ``{key, label, messages, answers, input_tokens, output_tokens}``."""
        return {"key": self.key, "label": self.label, **{name: getattr(self, name) for name in FIGURES}}


def today() -> date:
    """The day that counts: of UTC."""
    return timezone.now().date()


def rows_of(*, days: int, person: int | None = None, agent: int | None = None, role: str = "") -> QuerySet[UsageDay]:
    """The last ``days`` days, today included."""
    rows = UsageDay.objects.filter(day__gt=today() - timedelta(days=max(1, min(days, MOST_DAYS)))).order_by()
    if person is not None:
        rows = rows.filter(person=person)
    if agent is not None:
        rows = rows.filter(agent=agent)
    if role:
        rows = rows.filter(_role(role))
    return rows


def used(rows: QuerySet[UsageDay], by: str, *, limit: int = 100) -> list[Used]:
    """Sums by day (every day that something was used), person, agent or role; those who used most first, days in order."""
    sums = {f"total_{name}": Sum(name) for name in FIGURES}
    found: Any
    if by == "day":
        found = rows.values("day").annotate(**sums).order_by("-day")[:limit]
        return [_used(row, row["day"].isoformat(), row["day"].isoformat()) for row in reversed(list(found))]
    order = ("-total_messages", "-total_output_tokens")
    if by == "person":
        found = (
            rows.values("person", "person__username", "person__display_name").annotate(**sums).order_by(*order)[:limit]
        )
        return [
            _used(
                row,
                str(row["person"] or ""),
                row["person__display_name"] or row["person__username"] or "Others (guests, callers)",
            )
            for row in found
        ]
    if by == "agent":
        found = rows.values("agent", "agent__name").annotate(**sums).order_by(*order)[:limit]
        return [_used(row, str(row["agent"]), row["agent__name"]) for row in found]
    if by != "role":
        raise ValueError(f"Group by one of {', '.join(GROUPS)}.")
    role = Case(
        When(person__isnull=True, then=Value("other")),
        When(person__is_staff=True, then=Value(PersonRole.OPERATOR.value)),
        default=Value(PersonRole.PERSON.value),
        output_field=CharField(),
    )
    labels = {"other": "Others (guests, callers)", **dict(PersonRole.choices)}
    found = rows.annotate(who=role).values("who").annotate(**sums).order_by(*order)
    return [_used(row, row["who"], str(labels[row["who"]])) for row in found]


def total(rows: QuerySet[UsageDay]) -> Used:
    """Everything together."""
    found = rows.aggregate(**{f"total_{name}": Sum(name) for name in FIGURES})
    return _used(found, "", "All")


def each_day(found: list[Used], days: int) -> list[Used]:
    """``found`` by day with the days on which nothing was used, the oldest first."""
    known = {one.key: one for one in found}
    first = today() - timedelta(days=days - 1)
    names = [(first + timedelta(days=number)).isoformat() for number in range(days)]
    return [known.get(name) or Used(name, name) for name in names]


def _role(role: str) -> Q:
    if role == "other":
        return Q(person__isnull=True)
    return Q(person__is_staff=role == PersonRole.OPERATOR)


def _used(row: Any, key: str, label: str) -> Used:
    return Used(key, label, **{name: int(row[f"total_{name}"] or 0) for name in FIGURES})
