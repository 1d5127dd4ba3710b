"""Restores: choose a backup, see what it would change, apply it with a typed word, read the report, take it back."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from unfold.decorators import display

from ops import html
from ops.admin import backup_words as words
from ops.admin.backups import WordForm
from ops.admin.base import Deed, OperatorAdmin, actor_of, sentence_of
from ops.admin.jobs import strip_address
from ops.admin.panels import Button
from ops.admin.resets import ResetPages
from ops.admin.restore_plan import groups_of, parts_lines, report_lines, totals_of
from ops.admin.restore_start import RestoreForm, opens_here
from ops.backup.errors import BackupError, WrongKey
from ops.backup.scopes import kinds
from ops.choices import Lamp
from ops.locks import LockHeld, is_held
from ops.models import Backup, BackupReason, JobTrigger, Restore, RestoreState
from ops.services.restore_planning import LOCK
from ops.services.restores import undo_under_way
from ops.words import counted, verb

WORD = "restore"
UNDO_WORD = "undo"
_CHOICES = 30
_NOTHING_CAME = (RestoreState.PLANNING, RestoreState.PLANNED, RestoreState.FAILED, RestoreState.DISCARDED)
EXPECTED = (ValidationError, BackupError, LockHeld, ValueError)


@admin.register(Restore)
class RestoreAdmin(ResetPages, OperatorAdmin):
    list_display = ("when", "state_lamp", "from_backup", "what", "made", "actor")
    list_display_links = ("when",)
    list_filter = ("state",)
    list_select_related = ("backup", "undoes")
    search_fields = ("source", "actor", "error")
    detail_template = "switchboard/restore_run.html"
    expected_errors = EXPECTED
    intro = (
        "What was put back, or looked at to be put back. First you see what a backup would change; nothing is changed before you say so, and "
        "what was changed can be taken back."
    )
    empty_title = "Nothing was restored yet"
    empty_text = "Choose a backup and compare it with what is here. That alone changes nothing."

    def get_urls(self) -> list[URLPattern]:
        start = path("start/", self.admin_site.admin_view(self.start_view), name="ops_restore_start")
        return [start, *super().get_urls()]

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).defer(
            "plan", "report", "parts", "findings", "backup__manifest", "backup__parts"
        )  # fmt: skip

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Restore | None:
        rows = Restore.objects.select_related("backup", "safety", "job", "undoes").defer(
            "backup__manifest", "safety__manifest"
        )
        try:
            return rows.filter(pk=object_id).first()
        except (ValidationError, ValueError):
            return None

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        buttons = [Button("Restore…", reverse("admin:ops_restore_start"), primary=True)]
        return super().changelist_view(request, {"list_buttons": buttons, **(extra_context or {})})

    @display(description="When", ordering="created_at")
    def when(self, row: Restore) -> str:
        return html.ago(row.applied_at or row.created_at)

    @display(description="State", ordering="state")
    def state_lamp(self, row: Restore) -> str:
        return html.lamp(row.lamp, row.get_state_display())

    @display(description="From")
    def from_backup(self, row: Restore) -> str:
        name = row.backup.name if row.backup is not None else row.source
        return f"{name} (takes a restore back)" if row.undoes_id else name

    @display(description="What")
    def what(self, row: Restore) -> str:
        return kinds_words(row)

    @display(description="As it was", ordering="made_at")
    def made(self, row: Restore) -> str:
        return html.ago(row.made_at, "")

    # One restore

    def deeds(self) -> tuple[Deed, ...]:
        return (
            Deed(
                "apply",
                "Apply",
                self.apply,
                button="Apply…",
                explain=explain_apply,
                danger=True,
                form=lambda data, row: WordForm(data, WORD, what="What is here is replaced."),
                shown=lambda row: row.state == RestoreState.PLANNED and not at_work(row),
            ),
            Deed(
                "go_on",
                "Go on",
                self.go_on,
                primary=True,
                shown=is_stalled,
            ),
            Deed(
                "undo",
                "Take back",
                self.undo,
                button="Take it back…",
                explain=explain_undo,
                danger=True,
                form=lambda data, row: WordForm(data, UNDO_WORD, what="What came since is replaced."),
                shown=can_undo,
            ),
            Deed(
                "discard",
                "Discard",
                self.discard,
                shown=lambda row: row.state == RestoreState.PLANNED and not at_work(row),
            ),
        )

    def apply(self, request: HttpRequest, row: Restore, asked: dict[str, Any]) -> HttpResponse:
        from ops.services.restores import restore_apply_start

        restore_apply_start(restore=row, actor=actor_of(request), trigger=JobTrigger.ADMIN)
        return HttpResponseRedirect(self.address_of(row))

    def go_on(self, request: HttpRequest, row: Restore) -> HttpResponse:
        from ops.services.restores import restore_go_on_start

        restore_go_on_start(restore=row, actor=actor_of(request), trigger=JobTrigger.ADMIN)
        return HttpResponseRedirect(self.address_of(row))

    def undo(self, request: HttpRequest, row: Restore, asked: dict[str, Any]) -> HttpResponse:
        from ops.services.restores import restore_undo_start

        started = restore_undo_start(restore=row, actor=actor_of(request), trigger=JobTrigger.ADMIN)
        return HttpResponseRedirect(self.address_of(started))

    def discard(self, request: HttpRequest, row: Restore) -> str:
        from ops.services.restores import restore_discard

        restore_discard(restore=row, actor=actor_of(request))
        return "It is discarded. Nothing was changed."

    def detail_context(self, request: HttpRequest, row: Restore) -> dict[str, Any]:
        live = strip_address(row.job)
        report = report_lines(row.report)
        return {
            "failed": [title for mark, title, _ in report if mark == "trouble"],
            "waits": [title for mark, title, _ in report if mark == "off"],
            "step": "apply" if live and row.state == RestoreState.PLANNED else _step(row),
            "live": live,
            "kinds_words": kinds_words(row),
            "totals": totals_of(row.plan),
            "groups": groups_of(row.plan),
            "parts": parts_lines(row.parts),
            "report": report,
            # What a step failed of stands in the report already.
            "findings": [
                one
                for one in row.findings
                if one.get("severity") != "info" and one.get("code") != "restore.reconcile_failed"
            ],
            "notes": [one for one in row.findings if one.get("severity") == "info"],
            "undone_by": row.undone_through.exclude(state__in=_NOTHING_CAME).order_by("-created_at").first(),
            "undoing": undo_under_way(row),
            "stalled": is_stalled(row),
            # What an apply was refused with: nothing was changed, and it can be tried again.
            "refused": row.job.error if row.state == RestoreState.PLANNED and row.job and row.job.is_final else "",
            "again": f"{reverse('admin:ops_restore_start')}?backup={row.backup_id}" if row.backup_id else "",
            "word": WORD,
            "apply": reverse("admin:ops_restore_deed", args=[row.pk, "apply"]),
        }

    def start_view(self, request: HttpRequest) -> HttpResponse:
        """The first two steps: which backup, then its key (when this machine's does not open it) and what of it."""
        chosen = _backup(request.POST.get("backup", "") or request.GET.get("backup", ""))
        if chosen is None:
            if request.GET.get("backup"):
                messages.warning(
                    request, "That backup cannot be restored: it is not whole, or not listed any more. Choose another."
                )
            rows = Backup.objects.filter(state__in=words.WHOLE).defer("manifest", "parts").order_by("-made_at")
            found = list(rows.prefetch_related("copies__destination", "drills")[: _CHOICES + 1])
            more, found = len(found) > _CHOICES, found[:_CHOICES]
            keys, standing = words.openers(found), words.standing()
            proven = standing.last_good
            shown = [
                (row, *words.goodness(row, proven=proven)[:2], *words.openers_words(keys[row.pk])) for row in found
            ]
            return self.page(
                request,
                "switchboard/restore_start.html",
                title="Restore",
                standing=standing,
                rows=shown,
                more=more,
                first=_suggested([row for row, lamp, *_ in shown if lamp is not Lamp.TROUBLE]),
                proven=proven.pk if proven is not None else None,
                back=reverse("admin:ops_backup_changelist"),
            )
        form = RestoreForm(request.POST or None, backup=chosen)
        if request.method == "POST" and form.is_valid():
            try:
                started = self._plan(request, chosen, form)
            except WrongKey as error:
                form.add_error("key", sentence_of(error))
            except EXPECTED as error:
                form.add_error(None, sentence_of(error))
            else:
                return HttpResponseRedirect(self.address_of(started))
            form.forget_key()
        return self.page(
            request,
            "switchboard/restore_choose.html",
            title=f"Restore {chosen.name}",
            backup=chosen,
            worth=words.goodness(chosen),
            opens=opens_here(chosen),
            openers=words.openers([chosen])[chosen.pk],
            form=form,
            kinds=[
                (kind.name, kind.label, kind.sentence, kind.name in (form["kinds"].value() or ())) for kind in kinds()
            ],
            back=reverse("admin:ops_restore_start"),
        )

    def _plan(self, request: HttpRequest, chosen: Backup, form: RestoreForm) -> Restore:
        from ops.services.restores import restore_plan_start

        started: Restore = restore_plan_start(
            backup=chosen,
            identities=form.identities(),
            kinds=form.chosen_kinds(),
            words_since=not form.cleaned_data["without_words"],
            actor=actor_of(request),
            trigger=JobTrigger.ADMIN,
        )
        if started.state == RestoreState.FAILED:
            messages.error(request, started.error)
        return started


def _suggested(whole: list[Backup]) -> Any:
    """The newest of which nothing bad is known. What was made before a change comes after the others: its own button takes that change back."""
    others = (row.pk for row in whole if row.reason != BackupReason.SAFETY)
    return next(others, whole[0].pk if whole else None)


def _backup(text: str) -> Backup | None:
    try:
        return Backup.objects.filter(pk=text, state__in=words.WHOLE).first() if text else None
    except (ValidationError, ValueError):
        return None


def _step(row: Restore) -> str:
    if row.state == RestoreState.PLANNING or (
        row.state in (RestoreState.FAILED, RestoreState.DISCARDED) and row.applied_at is None
    ):
        return "compare"
    if row.state == RestoreState.PLANNED:
        return "look"
    return "apply" if row.state in (RestoreState.APPLYING, RestoreState.RECONCILING) else "report"


def kinds_words(row: Restore) -> str:
    """``Everything``, or ``Mappings, people``."""
    labels = {kind.name: kind.label for kind in kinds()}
    chosen = [labels.get(name, name) for name in row.kinds]
    return ", ".join([chosen[0], *(one.lower() for one in chosen[1:])]) if chosen else "Everything"


def at_work(row: Restore) -> bool:
    """Whether a job compares or applies it right now, or is about to."""
    return row.job is not None and not row.job.is_final


def is_stalled(row: Restore) -> bool:
    """Whether its rows are in and nobody does what follows."""
    return row.state == RestoreState.RECONCILING and not at_work(row) and not is_held(LOCK)


def can_undo(row: Restore) -> bool:
    """Whether the backup from before is still there to go back to, and nobody does so at this moment."""
    if row.state != RestoreState.DONE or row.safety_id is None or at_work(row):
        return False
    return undo_under_way(row) is None


def explain_apply(row: Restore) -> str:
    """What will happen, before it does."""
    totals = totals_of(row.plan)
    said = row.plan.get("since", {}).get("words", {})
    lines = [
        f"{counted(totals['added'], 'row')} {verb(totals['added'], 'comes', 'come')} back, {totals['changed']:,} "
        f"{verb(totals['changed'], 'is set as it was', 'are set as they were')}, {totals['removed']:,} that came since "
        f"{verb(totals['removed'], 'is', 'are')} removed.",
        "A backup of what is here now is made first; with it this can be taken back.",
        "It happens in one step: all of it, or nothing. Meanwhile everybody holds still, for seconds to minutes.",
        "Who is signed in may have to sign in again.",
        "Afterwards nothing old is answered or sent again, and what the homeserver has is taken in: rooms are adopted, never made twice.",
    ]
    if said.get("messages"):
        number = said["messages"]
        stays = (
            f"{verb(number, 'stays', 'stay')} as history"
            if said["kept"]
            else f"{verb(number, 'is', 'are')} removed, as was asked for"
        )
        lines.insert(1, f"{counted(number, 'message')} from since then {stays}.")
    if row.made_at:
        become = "become what they were" if row.kinds else "becomes what it was"
        lines.insert(0, f"{kinds_words(row)} {become} {html.relative(row.made_at)}.")
    return "\n".join(lines)


def explain_undo(row: Restore) -> str:
    """What taking it back means."""
    name = row.safety.name if row.safety is not None else "the backup from before"
    return (
        f"The backup from before the restore ({name}) is restored, of the same kinds. What was changed since the restore is not in "
        "it; what was said since stays as history. A backup of what is here now is made first."
    )
