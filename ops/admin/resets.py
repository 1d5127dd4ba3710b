"""Beginning anew with a part: what would go, what stays outside, what may help without it; a typed word; and the way back."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.dateparse import parse_datetime

from ops.admin.base import actor_of, is_operator, sentence_of
from ops.backup.errors import BackupError
from ops.locks import LockHeld
from ops.models import Backup, JobTrigger
from ops.resets import ALL, reset_scopes
from ops.services.resets import (
    ResetRefused,
    busy_sentence,
    last_reset,
    open_job,
    open_reset,
    reset_plan,
    reset_start,
    under_way,
)

EXPECTED = (ResetRefused, BackupError, LockHeld, ValueError)


class ResetPages:
    """The pages, for the admin that hangs them into its addresses."""

    admin_site: Any
    page: Any

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("reset/", wrap(self.reset_view), name="reset"),
            path("reset/finish/", wrap(self.finish_view), name="reset_finish"),
            path("reset/undo/", wrap(self.undo_view), name="reset_undo"),
        ]
        return [*own, *super().get_urls()]  # type: ignore[misc]

    def reset_view(self, request: HttpRequest) -> HttpResponse:
        """GET asks what, and with ``scope`` shows the plan; POST with the typed word has it done."""
        if not is_operator(request):
            raise PermissionDenied
        names = list(dict.fromkeys((request.POST if request.method == "POST" else request.GET).getlist("scope")))
        problem, plan = "", None
        if names:
            try:
                plan = reset_plan(scopes=names)
            except ValueError as error:
                problem = str(error)
        elif "look" in request.GET:
            problem = "Choose at least one."
        last = _last()
        seen = request.POST.get("seen")
        if request.method == "POST" and plan is not None and last is not None and seen not in (None, str(last["at"])):
            problem = (
                f"{last['actor']} has reset {', '.join(last['scopes'])} since this page was opened. Nothing more was removed; this is what would "
                "go now."
            )
        elif request.method == "POST" and plan is not None:
            try:
                job = reset_start(
                    scopes=names, typed=request.POST.get("typed", ""), actor=actor_of(request), trigger=JobTrigger.ADMIN
                )
            except (ResetRefused, LockHeld, ValueError) as error:
                problem = sentence_of(error)
            else:
                return HttpResponseRedirect(reverse("admin:ops_job_change", args=[job.pk]))
        at_work = open_job()
        return self.page(
            request,
            "switchboard/reset.html",
            title="Begin anew",
            scopes=[(one.name, one.label, one.sentence) for one in reset_scopes() if one.alone],
            everything=ALL,
            chosen=names,
            plan=plan,
            groups=_by_scope(plan) if plan is not None else [],
            problem=problem,
            at_work=at_work,
            busy=busy_sentence(at_work) if at_work is not None else "",
            # While one works, it is that one which finds again.
            waiting=None if at_work is not None or under_way() else open_reset(),
            last=last,
            seen=str(last["at"]) if last is not None else "",
            status=422 if problem and request.method == "POST" else 200,
        )

    def finish_view(self, request: HttpRequest) -> HttpResponse:
        """What a reset left to be found is looked for again."""
        from ops.services.resets import reset_finish

        if request.method == "POST":
            try:
                found = reset_finish(actor=actor_of(request))
            except EXPECTED as error:
                messages.error(request, sentence_of(error))
            else:
                for sentence in found["left"]:
                    messages.warning(request, sentence)
                if not found["left"]:
                    messages.success(request, "Everything was found again.")
        return HttpResponseRedirect(reverse("admin:reset"))

    def undo_view(self, request: HttpRequest) -> HttpResponse:
        """The backup from before the last reset, as a restore of what was reset: compared first, applied on the restore's page."""
        from ops.services.resets import kinds_of
        from ops.services.restores import restore_plan_start

        last = last_reset() or {}
        backup = Backup.objects.filter(name=str(last.get("backup") or "")).first()
        if request.method != "POST" or backup is None:
            if backup is None:
                messages.warning(request, "The backup from before the reset is not listed any more.")
            return HttpResponseRedirect(reverse("admin:reset"))
        try:
            started = restore_plan_start(
                backup=backup,
                identities=None,
                kinds=list(kinds_of(last.get("scopes") or (ALL,))),
                actor=actor_of(request),
                trigger=JobTrigger.ADMIN,
            )
        except EXPECTED as error:
            messages.error(request, sentence_of(error))
            return HttpResponseRedirect(reverse("admin:reset"))
        return HttpResponseRedirect(reverse("admin:ops_restore_change", args=[started.pk]))


def _by_scope(plan: Any) -> list[tuple[str, list[dict[str, Any]]]]:
    """The lines of the plan below the scope that they belong to."""
    labels = {one.name: one.label for one in reset_scopes()}
    found: dict[str, list[dict[str, Any]]] = {}
    for line in plan.lines:
        found.setdefault(labels.get(line["scope"], line["scope"]), []).append(line)
    return list(found.items())


def _last() -> dict[str, Any] | None:
    """The last reset for the page: with its time, its backup's row, and how many rows went."""
    last = last_reset()
    if last is None:
        return None
    backup = Backup.objects.filter(name=str(last.get("backup") or "")).defer("manifest", "parts").first()
    return {
        **last,
        "when": parse_datetime(str(last["at"])),
        "row": backup,
        "count": sum(int(number) for number in (last.get("removed") or {}).values()),
    }
