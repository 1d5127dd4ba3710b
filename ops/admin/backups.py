"""Backups: could I lose anything? The list with what each is worth, one backup with its parts, copies and drills, and what can be done."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Prefetch
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.text import Truncator
from unfold.decorators import display

from ops import html
from ops.admin import backup_words as words
from ops.admin.backup_files import BackupFiles
from ops.admin.backup_plan import BackupPlanPage
from ops.admin.base import Deed, OperatorAdmin, actor_of
from ops.admin.jobs import strip_address
from ops.admin.panels import Button, Panel, register_panel
from ops.backup.errors import BackupError
from ops.choices import OPEN_JOB_STATES, Lamp
from ops.evidence_html import size
from ops.models import Backup, BackupCopy, BackupDrill, BackupState, Job, JobTrigger, Restore
from ops.services.backups import last_good
from ops.services.jobs import job_start
from ops.words import counted

_DRILLS = 10
_TABLES = 60


class WordForm(forms.Form):
    """A word that has to be typed before something is gone."""

    typed = forms.CharField(max_length=120)

    def __init__(self, data: Any, word: str, *, what: str = "This cannot be taken back.") -> None:
        super().__init__(data)
        self.word = word
        self.fields["typed"].label = f"{what} Type {word} to confirm"
        self.fields["typed"].widget.attrs |= {
            "autocomplete": "off", "autocapitalize": "off", "spellcheck": "false", "class": "sb-short",
        }  # fmt: skip

    def clean_typed(self) -> str:
        if self.cleaned_data["typed"].strip() != self.word:
            raise ValidationError(f"That is not the word. Type {self.word}, or go back.")
        return self.word


@admin.register(Backup)
class BackupAdmin(BackupFiles, BackupPlanPage, OperatorAdmin):
    list_display = ("made", "worth", "where", "who", "holds", "why")
    list_display_links = ("made",)
    list_per_page = 25
    list_filter = ("state", "reason", "pinned", "copies__destination")
    search_fields = ("name", "note", "version", "sha256")
    search_help_text = "Name, note, version or checksum"
    list_before_template = "switchboard/backups_intro.html"
    detail_template = "switchboard/backup.html"
    expected_errors = (ValidationError, BackupError, ValueError)
    empty_title = "No backup yet"
    empty_text = (
        "Make one: it takes everything that cannot be made again, encrypted, into one file. Or bring one that you have."
    )

    def get_queryset(self, request: HttpRequest) -> Any:
        drills = BackupDrill.objects.defer("steps", "findings").order_by("-id")
        copies = BackupCopy.objects.select_related("destination").order_by("destination_id")
        rows = super().get_queryset(request).defer("manifest", "parts")
        return rows.prefetch_related(Prefetch("copies", copies), Prefetch("drills", drills))

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Backup | None:
        try:
            return Backup.objects.select_related("job").filter(pk=object_id).first()
        except (ValidationError, ValueError):
            return None

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        buttons = [
            Button("Back up now…", reverse("admin:ops_backup_new"), primary=True),
            Button("Bring a backup…", reverse("admin:ops_backup_bring")),
            Button("Restore…", reverse("admin:ops_restore_start")),
        ]
        standing = words.standing()
        page = super().changelist_view(
            request, {"standing": standing, "list_buttons": buttons, **(extra_context or {})}
        )
        cl = getattr(page, "context_data", {}).get("cl")
        if cl is not None:
            # Who opens the rows of this page, and which is the last good one, is asked for once, for all of them.
            cl.result_list = rows = list(cl.result_list)
            found = words.openers(rows)
            for row in rows:
                row.openers, row.proven = found[row.pk], standing.last_good
        return page

    # The list

    @display(description="Made", ordering="made_at")
    def made(self, row: Backup) -> str:
        return format_html(
            '<span>{} <span class="bk-exact">{}</span></span>', html.ago(row.made_at), html.exact(row.made_at)
        )

    @display(description="Worth")
    def worth(self, row: Any) -> str:
        lamp, word, _ = words.goodness(row, proven=row.proven)
        return html.lamp(lamp, word)

    @display(description="Holds", ordering="size")
    def holds(self, row: Backup) -> str:
        if not row.size:
            return ""
        held = '<span>{} <span class="bk-exact">{}</span></span>'
        return format_html(held, size(row.size), counted(row.rows, "row"))

    @display(description="Where")
    def where(self, row: Backup) -> str:
        return html.lamp(*words.whereabouts(row))

    @display(description="Opened by")
    def who(self, row: Any) -> str:
        if row.state not in words.WHOLE:
            return ""
        lamp, word = words.openers_words(row.openers)
        return html.lamp(lamp, Truncator(word).chars(28))

    @display(description="Why")
    def why(self, row: Backup) -> str:
        note = f": {Truncator(row.note).chars(60)}" if row.note else ""
        return f"{row.get_reason_display()}{', pinned' if row.pinned else ''}{note}"

    # One backup

    def deeds(self) -> tuple[Deed, ...]:
        whole = lambda row: row.state in words.WHOLE  # noqa: E731
        return (
            Deed("drill", "Drill", self.drill, button="Drill it", shown=whole),
            Deed("verify", "Verify", self.verify, button="Read and verify", shown=whole),
            Deed("pin", "Pin", self.pin, shown=lambda row: whole(row) and not row.pinned),
            Deed("unpin", "Unpin", self.unpin, shown=lambda row: row.pinned),
            Deed(
                "delete",
                "Delete",
                self.delete,
                button="Delete…",
                explain=explain_delete,
                danger=True,
                form=lambda data, row: WordForm(data, "delete"),
                shown=lambda row: row.state != BackupState.RUNNING,
            ),
        )

    def drill(self, request: HttpRequest, row: Backup) -> HttpResponse:
        from ops.services.drills import drill_start

        drill_start(backup=row, actor=actor_of(request))
        return HttpResponseRedirect(self.address_of(row) + "#drills")

    def verify(self, request: HttpRequest, row: Backup) -> HttpResponse:
        job = job_start(
            kind="backup.verify",
            title=f"Read {row.name} again",
            actor=actor_of(request),
            trigger=JobTrigger.ADMIN,
            params={"backup": str(row.pk)},
            once=True,
        )
        return HttpResponseRedirect(reverse("admin:ops_job_change", args=[job.pk]))

    def pin(self, request: HttpRequest, row: Backup) -> str:
        from ops.services.backups import backup_pin

        backup_pin(backup=row, pinned=True, actor=actor_of(request))
        return "It is pinned: no rule of any destination removes it."

    def unpin(self, request: HttpRequest, row: Backup) -> str:
        from ops.services.backups import backup_pin

        backup_pin(backup=row, pinned=False, actor=actor_of(request))
        return "It is not pinned any more: the rules of each destination decide about it."

    def delete(self, request: HttpRequest, row: Backup, asked: dict[str, Any]) -> HttpResponse:
        from ops.services.backups import backup_delete

        backup_delete(backup=row, actor=actor_of(request))
        messages.success(request, f"{row.name} is deleted.")
        return HttpResponseRedirect(reverse("admin:ops_backup_changelist"))

    def detail_context(self, request: HttpRequest, row: Backup) -> dict[str, Any]:
        # What the sentence on top asks for is asked for once.
        drills = list(row.drills.select_related("destination")[:_DRILLS])
        copies = list(row.copies.select_related("destination"))
        row._prefetched_objects_cache = {"drills": drills, "copies": copies}  # type: ignore[attr-defined]
        proven = last_good()
        lamp, word, sentence = words.goodness(row, proven=proven)
        job = row.job if row.job is not None and row.job.state in OPEN_JOB_STATES else _job_about(row)
        return {
            "worth": (lamp, word, sentence),
            # Where this one does not help, the one that does is a click away.
            "instead": proven if lamp is Lamp.TROUBLE and proven is not None and proven.pk != row.pk else None,
            "again": reverse("admin:ops_backup_new") if row.state == BackupState.FAILED else "",
            "job": job,
            "job_live": strip_address(job),
            "copies": copies,
            "drills": drills,
            "openers": words.openers([row])[row.pk],
            "parts": parts_of(row),
            "missing": missing_of(row),
            "tables": tables_of(row),
            "restores": list(Restore.objects.filter(backup=row).defer("plan", "report", "parts")[:10]),
        }


def _job_about(row: Backup) -> Job | None:
    """A job that works on the backup right now: a verification, a drill."""
    return (
        Job.objects.filter(state__in=OPEN_JOB_STATES, kind__startswith="backup.", params__backup=str(row.pk))
        .order_by("-created_at")
        .first()
    )


def explain_delete(row: Backup) -> str:
    """What will be gone, before it is."""
    stored = [one.destination.name for one in row.copies.select_related("destination") if one.state == "stored"]
    lines = [
        f"Its copies are removed everywhere ({', '.join(stored)}), and it can no longer be restored."
        if stored
        else "It lies nowhere any more; its line here is removed."
    ]
    if row.good_at:
        others = Backup.objects.filter(state__in=words.WHOLE, good_at__isnull=False, verify_error="").exclude(pk=row.pk)
        newest = others.order_by("-made_at").first()
        lines.append(
            f"The next good backup is {html.relative(newest.made_at)}."
            if newest
            else "It is the only backup that is known to restore."
        )
    return "\n".join(lines)


def parts_of(row: Backup) -> list[dict[str, Any]]:
    """The parts for the page: ``{"label", "items", "size", "sentence"}``."""
    return [
        {"name": name, "label": one.get("label") or name, "items": one.get("items"), "size": one.get("size"), "sentence": one.get("sentence", "")}
        for name, one in (row.parts or {}).items()
        if isinstance(one, dict)
    ]  # fmt: skip


def missing_of(row: Backup) -> list[tuple[str, str]]:
    """Parts that should be in it and are not, with why."""
    found = row.missing or {}
    return [(str(name), str(why.get("sentence", why) if isinstance(why, dict) else why)) for name, why in found.items()]


def tables_of(row: Backup) -> list[tuple[str, int]]:
    """How many rows of each table it holds, the largest first."""
    tables = (row.manifest or {}).get("tables") or {}
    counts = [
        (str(name), int(one.get("rows", 0) if isinstance(one, dict) else one or 0))
        for name, one in (tables.items() if isinstance(tables, dict) else ())
    ]
    return sorted((one for one in counts if one[1]), key=lambda one: -one[1])[:_TABLES]


def _buttons(request: HttpRequest, row: Backup) -> Panel:
    if row.state not in words.WHOLE:
        return Panel()
    restore = f"{reverse('admin:ops_restore_start')}?backup={row.pk}"
    return Panel(
        buttons=(
            Button("Restore…", restore, primary=not row.verify_error),
            Button("Download", reverse("admin:ops_backup_download", args=[row.pk])),
        )
    )


register_panel("ops.backup", _buttons)
