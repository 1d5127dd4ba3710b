"""Issues: the Repairs page, the page of each issue, and what an operator says about them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path, reverse

from ops.admin.base import Deed, OperatorAdmin, actor_of, safe_next, sentence_of
from ops.admin.issue_batch import batch_view
from ops.admin.issue_cards import title_of
from ops.admin.issue_detail import issue_context
from ops.admin.issue_list import list_context, snooze_until
from ops.choices import IssueState
from ops.models import Issue
from ops.registry import all_checks, get_check
from ops.runner import run_checks
from ops.services.issues import issue_acknowledge, issue_ignore, issue_reopen, issue_snooze
from ops.words import counted

MOST_AT_ONCE = 200
_QUIET = (IssueState.ACKNOWLEDGED, IssueState.SNOOZED, IssueState.IGNORED)
Say = Callable[[HttpRequest, Issue], Any]


def _may_speak(row: Issue) -> bool:
    return row.state not in (IssueState.RESOLVED, IssueState.FIXING)


@admin.register(Issue)
class IssueAdmin(OperatorAdmin):
    detail_template = "switchboard/issue.html"
    expected_errors = (ValidationError, ValueError)

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("say/", wrap(self.say_view), name="ops_issue_say"),
            path("repair/", wrap(self.batch), name="ops_issue_batch"),
        ]
        return [*own, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        return self.page(request, "switchboard/issues.html", title="Repairs", **list_context(request))

    # One issue

    def deeds(self) -> tuple[Deed, ...]:
        return (
            Deed("acknowledge", "Acknowledge", self.acknowledge, shown=lambda row: row.state == IssueState.OPEN),
            Deed("snooze", "Snooze", self.snooze, shown=_may_speak),
            Deed(
                "ignore",
                "Ignore until the next release",
                self.ignore,
                explain=lambda row: (
                    "It leaves the list, its badge and the alerts until another version of Switchboard runs. It is still "
                    "checked, and you can take this back at any time."
                ),
                shown=lambda row: _may_speak(row) and row.state != IssueState.IGNORED,
            ),
            Deed("reopen", "Take that back", self.reopen, shown=lambda row: row.state in _QUIET),
            Deed("check", "Check again", self.check_again, shown=lambda row: get_check(row.check_id) is not None),
        )

    def offered_deeds(self, row: Any) -> list[dict[str, Any]]:
        """The page has its own places for them."""
        return []

    def acknowledge(self, request: HttpRequest, row: Issue) -> str:
        issue_acknowledge(issue=row, actor=actor_of(request), note=request.POST.get("note", ""))
        return "It is acknowledged: it stays on the list, and nobody is reminded of it."

    def snooze(self, request: HttpRequest, row: Issue) -> str:
        until = _until(request)
        issue_snooze(issue=row, actor=actor_of(request), until=until, note=request.POST.get("note", ""))
        return f"It may wait until {until:%Y-%m-%d %H:%M %Z}; then it comes back by itself."

    def ignore(self, request: HttpRequest, row: Issue) -> str:
        issue_ignore(issue=row, actor=actor_of(request), note=request.POST.get("note", ""))
        return "It is ignored until another version of Switchboard runs."

    def reopen(self, request: HttpRequest, row: Issue) -> str:
        issue_reopen(issue=row, actor=actor_of(request))
        return "It asks for a hand again."

    def check_again(self, request: HttpRequest, row: Issue) -> str:
        """Ask its check now, after those that it depends on."""
        runs = run_checks(with_dependencies(row.check_id), target=row.target)
        row.refresh_from_db()
        if not row.is_open:
            return f"{title_of(row.check_id)}: it passes now. The issue is resolved."
        own = next((run for run in runs if run.check.id == row.check_id and run.target == row.target), None)
        said = own.sentence if own is not None else row.sentence
        if row.passing_since is not None:
            messages.info(request, f"It passes now, and stays open for a moment to be sure: {said}")
        else:
            messages.warning(request, f"Checked at this moment, still red: {said}")
        return ""

    def detail_context(self, request: HttpRequest, row: Issue) -> dict[str, Any]:
        return issue_context(request, row)

    def page(
        self, request: HttpRequest, template: str, *, title: str, status: int = 200, **context: Any
    ) -> HttpResponse:
        row = context.get("row")
        if isinstance(row, Issue) and template == self.detail_template:
            title = title_of(row.check_id)
        if isinstance(row, Issue):
            # The header's trail names the check, not the row's key.
            row.shown_as = title_of(row.check_id)  # type: ignore[attr-defined]
        return super().page(request, template, title=title, status=status, **context)

    # Many issues

    def say_view(self, request: HttpRequest) -> HttpResponse:
        """What the buttons below the list say about the ticked issues, or one button about one."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        back = safe_next(request) or reverse("admin:ops_issue_changelist")
        word, _, one = request.POST.get("do", "").partition(":")
        keys = [one] if one else request.POST.getlist("issue")
        rows = list(Issue.objects.filter(pk__in=[int(key) for key in keys[:MOST_AT_ONCE] if key.isdigit()]))
        if not rows:
            messages.warning(request, "Tick at least one issue first.")
            return HttpResponseRedirect(back)
        if word == "repair":
            query = "&".join(f"issue={row.pk}" for row in rows)
            return HttpResponseRedirect(f"{reverse('admin:ops_issue_batch')}?{query}")
        try:
            said, done = self._word(request, word)
        except ValidationError as error:
            messages.error(request, sentence_of(error))
            return HttpResponseRedirect(back)
        count, refused = 0, []
        for row in rows:
            try:
                said(request, row)
                count += 1
            except ValidationError as error:
                refused.append(f"{title_of(row.check_id)}: {sentence_of(error)}")
        if count:
            messages.success(request, f"{counted(count, 'issue')} {done}.")
        for sentence in refused[:5]:
            messages.warning(request, sentence)
        return HttpResponseRedirect(back)

    def _word(self, request: HttpRequest, word: str) -> tuple[Say, str]:
        actor = actor_of(request)
        if word.startswith("snooze"):
            until = _until(request, word.partition("-")[2])
            return (
                lambda r, row: issue_snooze(issue=row, actor=actor, until=until),
                f"may wait until {until:%Y-%m-%d %H:%M %Z}",
            )
        known: dict[str, tuple[Say, str]] = {
            "acknowledge": (lambda r, row: issue_acknowledge(issue=row, actor=actor), "acknowledged"),
            "ignore": (lambda r, row: issue_ignore(issue=row, actor=actor), "ignored until the next release"),
            "reopen": (lambda r, row: issue_reopen(issue=row, actor=actor), "reopened"),
        }
        if word not in known:
            raise Http404("There is no such button.")
        return known[word]

    def batch(self, request: HttpRequest) -> HttpResponse:
        """The preview of many repairs, and their start."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return batch_view(self, request)


def with_dependencies(check_id: str) -> list[str]:
    """The check and all that it depends on."""
    known = {check.id: check for check in all_checks()}
    wanted: list[str] = []
    todo = [check_id]
    while todo:
        one = todo.pop()
        if one in known and one not in wanted:
            wanted.append(one)
            todo += known[one].depends_on
    return wanted


def _until(request: HttpRequest, choice: str = "") -> datetime:
    return snooze_until(
        choice or request.POST.get("until_choice", "custom"),
        request.POST.get("zone", ""),
        request.POST.get("until", ""),
    )
