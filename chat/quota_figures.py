"""How much of each limit was used today (UTC), for the operators' pages and API: one query for any number of quotas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import BigIntegerField, Case, F, OuterRef, Q, QuerySet, Subquery, Sum, Value, When
from django.db.models.functions import Coalesce

from chat.models import Person, Quota, UsageDay
from chat.usage_figures import today


@dataclass(frozen=True, slots=True)
class Standing:
    """One limit and what was used of it. ``limit`` None: none. A role's limit is one for each person, so nothing is used of it in all."""

    quota: Quota
    what: str
    used: int | None
    limit: int | None

    @property
    def share(self) -> float:
        """0 to 1; 1 when it is used up."""
        if self.used is None or self.limit is None:
            return 0.0
        return min(1.0, self.used / self.limit) if self.limit else 1.0

    @property
    def is_full(self) -> bool:
        return self.used is not None and self.limit is not None and self.used >= self.limit

    def to_dict(self) -> dict[str, Any]:
        """JSON shape: ``{what, used, limit}``."""
        return {"what": self.what, "used": self.used, "limit": self.limit}


def standings(quotas: Sequence[Quota], *, person: Person | None = None) -> dict[int, list[Standing]]:
    """``{quota id: [messages, tokens]}``. With ``person`` a role's limit is held against what that person used."""
    people = {one.person_id for one in quotas if one.person_id} | ({person.pk} if person is not None else set())
    agents = {one.agent_id for one in quotas if one.agent_id}
    of_people: dict[int, tuple[int, int]] = {}
    of_agents: dict[int, tuple[int, int]] = {}
    if people or agents:
        rows = UsageDay.objects.filter(Q(person__in=people) | Q(agent__in=agents), day=today()).order_by()
        found = rows.values_list("person", "agent").annotate(
            Sum("messages"), read=Sum("input_tokens"), written=Sum("output_tokens")
        )
        for person_id, agent_id, messages, read, written in found:
            for place, key, wanted in ((of_people, person_id, people), (of_agents, agent_id, agents)):
                if key in wanted:
                    before = place.get(key, (0, 0))
                    place[key] = (before[0] + messages, before[1] + read + written)
    return {quota.pk: list(_standing(quota, of_people, of_agents, person)) for quota in quotas}


def _standing(
    quota: Quota, of_people: dict[int, tuple[int, int]], of_agents: dict[int, tuple[int, int]], person: Person | None
) -> Iterable[Standing]:
    used: tuple[int, int] | None
    if quota.person_id:
        used = of_people.get(quota.person_id, (0, 0))
    elif quota.agent_id:
        used = of_agents.get(quota.agent_id, (0, 0))
    else:
        used = of_people.get(person.pk, (0, 0)) if person is not None else None
    for number, (what, limit) in enumerate((("messages", quota.messages_per_day), ("tokens", quota.tokens_per_day))):
        yield Standing(quota, what, used[number] if used is not None else None, limit)


def standing_of_person(person: Person) -> list[Standing]:
    """The limits that hold for a person, their own and their role's, that are limits at all."""
    quotas = list(Quota.objects.filter(Q(person=person) | Q(role=person.role)).select_related("person"))
    found = standings(quotas, person=person)
    return [one for quota in quotas for one in found[quota.pk] if one.limit is not None]


def with_use(quotas: QuerySet[Quota]) -> Any:
    """Quotas with ``used_messages`` and ``used_tokens`` of today; None for a role, whose limit is one for each of its people."""
    rows = UsageDay.objects.filter(Q(person=OuterRef("person")) | Q(agent=OuterRef("agent")), day=today()).order_by()
    sums: Any = rows.annotate(one=Value(1)).values("one")

    def used(*names: str) -> Any:
        total: Any = sum((F(name) for name in names[1:]), F(names[0]))
        found = Coalesce(
            Subquery(sums.annotate(n=Sum(total)).values("n"), output_field=BigIntegerField()),
            Value(0),
            output_field=BigIntegerField(),
        )
        return Case(When(role="", then=found), default=None, output_field=BigIntegerField())

    return quotas.annotate(used_messages=used("messages"), used_tokens=used("input_tokens", "output_tokens"))
