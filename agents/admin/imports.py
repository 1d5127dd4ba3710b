"""Moving over from another bridge: upload its files, see record by record what they mean, decide what differs, apply. Nothing
changes before the last step."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from unfold.decorators import display

from agents.admin.common import EXPECTED
from agents.admin.import_rows import DECIDABLE, choices_of, rows_context, tabs_of, to_apply, undecided, undecided_with
from agents.models import ImportChoice, ImportState, MappingImport
from agents.services.backends import backend_services, open_homeserver
from agents.services.import_preparing import import_prepare
from agents.services.imports import ImportRefused, import_choose, import_discard, import_rejects
from ops import html
from ops.admin.base import Deed, OperatorAdmin, actor_of, sentence_of
from ops.admin.panels import Button, Panel, register_panel
from ops.choices import OPEN_JOB_STATES, Lamp
from ops.models import Job, JobTrigger, Service
from ops.services.jobs import job_start
from ops.words import counted

JOB = "agents.import"
LAMPS: dict[str, Lamp] = {
    ImportState.PLANNED: Lamp.ATTENTION,
    ImportState.APPLYING: Lamp.WORKING,
    ImportState.DONE: Lamp.GOOD,
    ImportState.FAILED: Lamp.TROUBLE,
    ImportState.DISCARDED: Lamp.OFF,
}
# Of all files together; they are kept (encrypted) until the import is applied.
LARGEST = 40 * 1024 * 1024


class Files(forms.ClearableFileInput):
    """Several files at once."""

    allow_multiple_selected = True


class FilesField(forms.FileField):
    """``cleaned`` is a list of uploaded files."""

    widget = Files

    def clean(self, data: Any, initial: Any = None) -> Any:
        given = data if isinstance(data, (list, tuple)) else [data] if data else []
        files = [super(FilesField, self).clean(one, initial) for one in given]
        if sum(one.size for one in files) > LARGEST:
            raise ValidationError(
                "Together the files are larger than 40 MB. Use manage.py import_mappings on the server."
            )
        return files


class SourceForm(forms.Form):
    """Where the mappings come from."""

    upload = FilesField(
        required=False,
        label="Files",
        help_text="agent_user_mappings.json, letta_space_config.json, async_requests.json, identities.json, dm_rooms.json, an SQLite "
        "database or a file of rejects: several at once, whatever they are called. Damaged files may be given as they are.",
    )
    database = forms.CharField(
        required=False,
        max_length=1000,
        label="Or its database",
        help_text="postgresql://name:password@host/database. It is only read, and the address is not kept.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    service = forms.ChoiceField(
        required=False,
        label="Whose agents they are",
        help_text="Only needed when several servers list the same agents.",
    )

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        field = self.fields["service"]
        assert isinstance(field, forms.ChoiceField)
        names = [one.name for one in backend_services()]
        field.choices = [("", "Found out by asking"), *((name, name) for name in names)]

    def clean(self) -> dict[str, Any]:
        cleaned = dict(super().clean() or self.cleaned_data)
        if not self.errors and bool(cleaned.get("upload")) == bool(cleaned.get("database")):
            raise ValidationError("Choose files, or give the address of a database: one of the two.")
        return cleaned


@admin.register(MappingImport)
class MappingImportAdmin(OperatorAdmin):
    list_display = ("number", "state_lamp", "what", "sources_text", "actor", "when")
    list_display_links = ("number",)
    list_filter = ("state",)
    list_select_related = ("homeserver",)
    search_fields = ("actor", "error")
    detail_template = "switchboard/import_run.html"
    expected_errors = (ValidationError, ImportRefused, *EXPECTED)
    intro = (
        "Mappings that are brought in from another bridge, with their accounts, rooms and space. Accounts and rooms are taken over as "
        "they are; none is made a second time."
    )
    empty_title = "Nothing was imported yet"
    empty_text = "Upload the files of another bridge. First you see what would become of each record; nothing changes before you apply it."

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("start/", wrap(self.start_view), name="agents_mappingimport_start"),
            path("<int:object_id>/choose/", wrap(self.choose_view), name="agents_mappingimport_choose"),
            path("<int:object_id>/rejects/", wrap(self.rejects_view), name="agents_mappingimport_rejects"),
        ]
        return [*own, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        buttons = [Button("Import mappings…", reverse("admin:agents_mappingimport_start"), primary=True)]
        return super().changelist_view(request, {"list_buttons": buttons, **(extra_context or {})})

    @display(description="Import", ordering="id")
    def number(self, row: MappingImport) -> str:
        return f"Import {row.pk}"

    @display(description="State", ordering="state")
    def state_lamp(self, row: MappingImport) -> str:
        return html.lamp(LAMPS[row.state], row.get_state_display())

    @display(description="What it holds")
    def what(self, row: MappingImport) -> str:
        return summary(row.counts)

    @display(description="From")
    def sources_text(self, row: MappingImport) -> str:
        names = [str(one.get("name", "")) for one in row.sources]
        return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

    @display(description="When", ordering="id")
    def when(self, row: MappingImport) -> str:
        return html.ago(row.applied_at or row.created_at)

    # One import

    def deeds(self) -> tuple[Deed, ...]:
        return (
            Deed(
                "apply",
                "Apply",
                self.apply,
                button="Apply…",
                primary=True,
                explain=explain_apply,
                shown=lambda row: row.state == ImportState.PLANNED and row.applied_at is None,
            ),
            Deed(
                "again",
                "Apply again",
                self.apply,
                button="Apply again…",
                explain=lambda row: (
                    f"{counted(to_apply(row).count(), 'record is', 'records are')} applied: what failed or was not reached is tried "
                    "again, and decisions are carried out. What is done stays done."
                ),
                shown=lambda row: (
                    (row.state == ImportState.FAILED or row.applied_at is not None)
                    and row.state in DECIDABLE
                    and to_apply(row).exists()
                ),
            ),
            Deed(
                "discard",
                "Discard",
                self.discard,
                explain=lambda row: (
                    "What was read, with the passwords in it, is removed from Switchboard, and nothing more of it is applied. What was "
                    "taken over stays; rejects can no longer be downloaded."
                ),
                danger=True,
                shown=lambda row: row.state in DECIDABLE,
            ),
        )

    def apply(self, request: HttpRequest, row: MappingImport) -> HttpResponse:
        job_start(
            kind=JOB,
            title=f"Apply import {row.pk}",
            actor=actor_of(request),
            trigger=JobTrigger.ADMIN,
            params={"run": row.pk},
            once=True,
        )
        return HttpResponseRedirect(self.address_of(row))

    def discard(self, request: HttpRequest, row: MappingImport) -> str:
        import_discard(run=row, actor=actor_of(request))
        return f"Import {row.pk} is discarded: its records and passwords are no longer here."

    def detail_context(self, request: HttpRequest, row: MappingImport) -> dict[str, Any]:
        job = Job.objects.filter(kind=JOB, params__run=row.pk).order_by("-created_at").first()
        at_work = job is not None and job.state in OPEN_JOB_STATES
        open_conflicts = undecided(row).count() if row.state in DECIDABLE else 0
        rows = rows_context(request, row)
        counts = {tab.key: tab.count for tab in rows["tabs"]}
        return {
            **rows,
            "lamp_state": Lamp.WORKING if at_work else LAMPS[row.state],
            "job": job,
            "at_work": at_work,
            "undecided": open_conflicts,
            "counts": counts,
            "summary": summary(row.counts),
            "report": report(counts),
            "rejected": counts.get("reject", 0) + counts.get("failed", 0),
        }

    def start_view(self, request: HttpRequest) -> HttpResponse:
        """The first step. POST reads the files and compares them; nothing is changed by that."""
        form = SourceForm(request.POST, request.FILES) if request.method == "POST" else SourceForm()
        if request.method == "POST" and form.is_valid():
            try:
                run = self._prepare(request, form.cleaned_data)
            except self.expected_errors as error:
                form.add_error(None, sentence_of(error))
            else:
                return HttpResponseRedirect(self.address_of(run))
        return self.page(
            request,
            "switchboard/import_start.html",
            title="Import mappings",
            form=form,
            back=reverse("admin:agents_mappingimport_changelist"),
            has_homeserver=Service.objects.filter(kind="homeserver", enabled=True).exists(),
        )

    def _prepare(self, request: HttpRequest, asked: dict[str, Any]) -> MappingImport:
        files: list[UploadedFile] = asked["upload"]
        return import_prepare(
            files=[(one.name or "file", one.read()) for one in files],
            database_url=asked["database"].strip(),
            service_name=asked["service"],
            homeserver=open_homeserver(),
            actor=actor_of(request),
        )

    def choose_view(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """What a page of conflicts says: about each of them, or about all that are undecided."""
        run = self._row(request, str(object_id))
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        back = f"{self.address_of(run)}?{request.POST.get('back', '')[:500]}"
        everything = request.POST.get("all", "")
        actor = actor_of(request)
        try:
            if everything in ImportChoice.values and everything:
                rows = undecided_with(run, everything)
                count = import_choose(run=run, rows=rows, choice=everything, actor=actor) if rows else 0
            else:
                said = choices_of(run, request.POST)
                count = sum(import_choose(run=run, rows=rows, choice=one, actor=actor) for one, rows in said.items())
        except self.expected_errors as error:
            messages.error(request, sentence_of(error))
        else:
            messages.success(
                request, f"{counted(count, 'choice')} saved." if count else "Nothing was chosen otherwise."
            )
        return HttpResponseRedirect(back)

    def rejects_view(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """The records that were not taken, as a file that can be mended and imported."""
        run = self._row(request, str(object_id))
        if run.state == ImportState.DISCARDED or not {"reject", "failed"} & {tab.key for tab in tabs_of(run)}:
            raise Http404("This import has no rejects.")
        response = HttpResponse(import_rejects(run), content_type="application/json")
        name = f"rejects-of-import-{run.pk}-{timezone.now():%Y-%m-%d}.json"
        response["Content-Disposition"] = f'attachment; filename="{name}"'
        return response


_NOUNS = {
    "create": ("new", "new"),
    "update": ("completes what is here", "complete what is here"),
    "conflict": ("needs a decision", "need a decision"),
    "unchanged": ("unchanged", "unchanged"),
    "reject": ("cannot be taken", "cannot be taken"),
}


def summary(counts: dict[str, int]) -> str:
    """``12 new, 1 needs a decision, 2 cannot be taken``."""
    parts = [f"{count:,} {_NOUNS[key][count != 1]}" for key in _NOUNS if (count := int(counts.get(key) or 0))]
    return ", ".join(parts) or "no records"


def report(counts: dict[str, int]) -> str:
    """``56 done, 3 unchanged, 1 failed``: what became of the records, by the groups of the page."""
    words = (("done", "done"), ("kept", "left as they were"), ("unchanged", "unchanged"), ("open", "not applied yet"))
    parts = [f"{counts[key]:,} {word}" for key, word in words if counts.get(key)]
    rejected = counts.get("reject", 0) + counts.get("failed", 0)
    return ", ".join([*parts, *([f"{rejected:,} could not be taken"] if rejected else [])]) or "No record was there"


def _buttons(request: HttpRequest, row: MappingImport) -> Panel:
    if row.state != ImportState.DONE:
        return Panel()
    return Panel(
        buttons=(
            Button("See what the next sync would do…", reverse("admin:agents_syncrun_plan"), primary=True),
            Button("To the mappings", reverse("admin:agents_mapping_changelist")),
        )
    )


register_panel("agents.mappingimport", _buttons)


def explain_apply(run: MappingImport) -> str:
    """What will happen, before it does."""
    counts = {key: int(run.counts.get(key) or 0) for key in _NOUNS}
    open_conflicts = undecided(run).count()
    decided = counts["conflict"] - open_conflicts
    lines = [
        f"{counted(counts['create'], 'record is', 'records are')} new here, {counts['update']:,} complete what is here, and "
        f"{counted(decided, 'decision is', 'decisions are')} carried out.",
        "Accounts and rooms are taken over as they are on the homeserver: the agents join nothing new, and no room is made.",
    ]
    if open_conflicts:
        lines.append(
            f"{counted(open_conflicts, 'conflict is', 'conflicts are')} not decided: for those nothing changes."
        )
    if counts["reject"]:
        lines.append(
            f"{counted(counts['reject'], 'record', 'records')} cannot be taken; afterwards they can be had as a file, mended and imported again."
        )
    return "\n".join(lines)
