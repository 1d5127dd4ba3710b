"""Who uses how much: charts by day, person, agent and role, and the same as a file."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import reverse
from django.utils import timezone

from agents.models import Agent
from chat import usage_figures
from chat.admin.people_page import columns
from chat.models import Person, PersonRole
from ops.admin.base import OperatorAdmin
from ops.csv_files import safe_cell
from ops.words import counted

_TOP = 20
_FILE_LINES = 10_000


class UsageForm(forms.Form):
    """What is shown. Unknown values fall back to the widest."""

    days = forms.TypedChoiceField(
        choices=[(7, "7 days"), (30, "30 days"), (90, "90 days"), (366, "One year")],
        coerce=int,
        required=False,
    )
    role = forms.ChoiceField(
        choices=[("", "Everybody"), *PersonRole.choices, ("other", "Others (guests, callers)")], required=False
    )
    person = forms.IntegerField(required=False, widget=forms.HiddenInput, min_value=1)
    agent = forms.IntegerField(required=False, widget=forms.HiddenInput, min_value=1)

    def asked(self) -> dict[str, Any]:
        """What ``usage_figures.rows_of`` takes."""
        given = self.cleaned_data if self.is_valid() else {}
        return {
            "days": given.get("days") or 30,
            "role": given.get("role") or "",
            "person": given.get("person"),
            "agent": given.get("agent"),
        }


def usage_view(page: OperatorAdmin, request: HttpRequest) -> HttpResponse:
    """The page, in the frame of ``page``. Five queries, however much was used."""
    asked = UsageForm(request.GET).asked()
    rows = usage_figures.rows_of(**asked)
    total = usage_figures.total(rows)
    by_day = usage_figures.each_day(usage_figures.used(rows, "day", limit=asked["days"]), asked["days"])
    groups = [
        {"title": title, "name": name, "lines": lines_of(usage_figures.used(rows, name, limit=_TOP), name)}
        for name, title in (("person", "By person"), ("agent", "By agent"), ("role", "By role"))
    ]
    return page.page(
        request,
        "switchboard/usage.html",
        title="Use",
        form=UsageForm(initial=asked),
        asked=asked,
        about=_about(asked),
        total=total,
        chart=columns(by_day, step=max(6, 620 // asked["days"])),
        groups=groups,
        sentence=_sentence(total, asked["days"]),
        csv_address=f"{reverse('admin:usage_csv')}?{request.GET.urlencode()}",
        top=_TOP,
    )


def csv_view(request: HttpRequest) -> StreamingHttpResponse:
    """One line a day, person and agent, the newest day first; or sums with ``by=day|person|agent|role``."""
    asked = UsageForm(request.GET).asked()
    by = request.GET.get("by", "")
    rows = usage_figures.rows_of(**asked)
    lines = _sums(rows, by) if by in usage_figures.GROUPS else _lines(rows)
    response = StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="use-{timezone.now():%Y-%m-%d}.csv"'
    return response


def lines_of(found: list[usage_figures.Used], name: str) -> list[dict[str, Any]]:
    """Bars against the largest, with where a click leads."""
    most = max((one.messages + one.answers for one in found), default=0)
    return [
        {
            "used": one,
            "share": (one.messages + one.answers) / most if most else 0,
            "query": f"{name}={one.key}"
            if one.key and name != "role"
            else f"role={one.key}"
            if name == "role"
            else "role=other",
        }
        for one in found
    ]


def _about(asked: dict[str, Any]) -> list[tuple[str, str]]:
    """Whom the page is narrowed to: (words, address without it)."""
    found = []
    if asked["person"]:
        person = Person.objects.filter(pk=asked["person"]).first()
        found.append((f"Only {person or 'somebody who is gone'}", reverse("admin:usage")))
    if asked["agent"]:
        agent = Agent.objects.filter(pk=asked["agent"]).first()
        found.append((f"Only with {agent or 'an agent that is gone'}", reverse("admin:usage")))
    return found


def _sentence(total: usage_figures.Used, days: int) -> str:
    return (
        f"{counted(total.messages, 'message')} and {counted(total.answers, 'answer')} in {counted(days, 'day')}; "
        f"agents read {total.input_tokens:,} and wrote {total.output_tokens:,} tokens."
    )


class _Line:
    def write(self, text: str) -> str:
        return text


def _lines(rows: Any) -> Iterator[str]:
    writer = csv.writer(_Line())
    yield writer.writerow(["day", "person", "agent", *usage_figures.FIGURES])
    columns_of = ("day", "person__username", "agent__name", *usage_figures.FIGURES)
    for row in rows.order_by("-day", "id").values_list(*columns_of).iterator(1000):
        yield writer.writerow([safe_cell("" if cell is None else cell) for cell in row])


def _sums(rows: Any, by: str) -> Iterator[str]:
    writer = csv.writer(_Line())
    yield writer.writerow([by, *usage_figures.FIGURES])
    for one in usage_figures.used(rows, by, limit=_FILE_LINES):
        yield writer.writerow([safe_cell(one.label), *(getattr(one, name) for name in usage_figures.FIGURES)])
