"""Backups come and go: one is made, one is brought, one is fetched. Files of any size pass as streams, and leave only with somebody
who has just shown who they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django import forms
from django.contrib import messages
from django.core.cache import cache
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.urls import URLPattern, path, reverse

from ops.admin.base import actor_of, is_operator, sentence_of
from ops.backup.components import components
from ops.backup.errors import BackupError
from ops.fresh import ask_unless_fresh
from ops.models import Backup, BackupPlan, JobTrigger
from ops.services import audit
from ops.services.jobs import job_start
from ops.streams import send_file

_SHOWN = 100


class MakeForm(forms.Form):
    """What to take along, and why."""

    note = forms.CharField(
        required=False,
        max_length=300,
        help_text="For whoever looks for it later: before moving, before the upgrade.",
    )
    contents = forms.MultipleChoiceField(
        required=False, widget=forms.CheckboxSelectMultiple, label="Besides what is always in it"
    )
    drill = forms.BooleanField(
        required=False,
        initial=True,
        label="Drill it right afterwards",
        help_text="It is restored into a scratch place, checked and thrown away: only then it counts as good.",
    )

    def __init__(self, data: Any = None, *, plan: BackupPlan | None = None) -> None:
        super().__init__(data, initial={"contents": list(plan.contents) if plan else [], "drill": True})
        field = self.fields["contents"]
        assert isinstance(field, forms.MultipleChoiceField)
        field.choices = optional_choices()
        if not field.choices:
            del self.fields["contents"]


class BringForm(forms.Form):
    """A backup that somebody has."""

    file = forms.FileField(
        label="The file",
        help_text="A .sbk file: of this installation from before a loss, or of another one. Only its beginning and its checksums are "
        "read now; nothing is restored by that.",
    )


def optional_choices() -> list[tuple[str, str]]:
    """The parts that are taken along only when somebody asks, and can be had here."""
    found = []
    for one in components():
        if one.optional:
            why = one.unavailable()
            if not why:
                found.append((one.name, one.label))
    return found


class BackupFiles:
    """The pages, for the admin that hangs them into its addresses."""

    admin_site: Any
    page: Any
    address_of: Any
    _row: Any

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("new/", wrap(self.new_view), name="ops_backup_new"),
            path("bring/", wrap(self.bring_view), name="ops_backup_bring"),
            path("look/", wrap(self.look_view), name="ops_backup_look"),
            path("prune/", wrap(self.prune_view), name="ops_backup_prune"),
            path("<uuid:object_id>/download/", wrap(self.download_view), name="ops_backup_download"),
        ]
        return [*own, *super().get_urls()]  # type: ignore[misc]

    def new_view(self, request: HttpRequest) -> HttpResponse:
        """What goes into it is said before it is made."""
        from ops.services.backups import backup_start

        plan = BackupPlan.objects.order_by("pk").first()
        form = MakeForm(request.POST or None, plan=plan)
        if request.method == "POST" and form.is_valid():
            try:
                job = backup_start(
                    actor=actor_of(request),
                    note=form.cleaned_data["note"],
                    optional=form.cleaned_data.get("contents", []),
                    drill=form.cleaned_data["drill"],
                    trigger=JobTrigger.ADMIN,
                )
            except (BackupError, ValidationError, ValueError) as error:
                form.add_error(None, sentence_of(error))
            else:
                return HttpResponseRedirect(reverse("admin:ops_job_change", args=[job.pk]))
        from ops.admin.backup_words import standing

        return self.page(
            request,
            "switchboard/backup_new.html",
            title="Back up now",
            form=form,
            standing=standing(),
            parts=[(one.label, one.unavailable()) for one in components() if not one.optional],
            back=reverse("admin:ops_backup_changelist"),
        )

    def bring_view(self, request: HttpRequest) -> HttpResponse:
        """A file from outside. The page's script sends it to the API and shows how far it is; without it the form does the same."""
        from ops.services.backups import backup_upload

        form = BringForm(request.POST or None, request.FILES or None)
        if request.method == "POST" and form.is_valid():
            given = form.cleaned_data["file"]
            try:
                row = backup_upload(name=given.name or "", stream=given, actor=actor_of(request))
            except (BackupError, ValidationError, ValueError) as error:
                form.add_error("file", sentence_of(error))
            else:
                messages.success(request, f"{row.name} is here. Nothing was restored yet.")
                return HttpResponseRedirect(self.address_of(row))
        return self.page(
            request,
            "switchboard/backup_bring.html",
            title="Bring a backup",
            form=form,
            upload="/api/v1/backups/upload",
            back=reverse("admin:ops_backup_changelist"),
        )

    def look_view(self, request: HttpRequest) -> HttpResponse:
        """Ask every destination what lies there, as a job: one may be slow."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        job = job_start(kind="backup.look", actor=actor_of(request), trigger=JobTrigger.ADMIN, once=True)
        return HttpResponseRedirect(reverse("admin:ops_job_change", args=[job.pk]))

    def prune_view(self, request: HttpRequest) -> HttpResponse:
        """GET shows what the rules of each destination would remove; POST has it removed."""
        from ops.services.backup_pruning import prune

        if not is_operator(request):
            raise PermissionDenied
        if request.method == "POST":
            job = job_start(kind="backup.prune", actor=actor_of(request), trigger=JobTrigger.ADMIN, once=True)
            return HttpResponseRedirect(reverse("admin:ops_job_change", args=[job.pk]))
        planned = prune(dry_run=True, actor=actor_of(request))
        going = [verdict for _, verdict in planned.going]
        return self.page(
            request,
            "switchboard/backup_prune.html",
            title="What the rules would remove",
            plan=[(name, verdicts[:_SHOWN], max(0, len(verdicts) - _SHOWN)) for name, verdicts in planned.plan.items()],
            going=len(going),
            freed=sum(one.copy.size for one in going),
            back=reverse("admin:ops_backup_changelist"),
        )

    def download_view(self, request: HttpRequest, object_id: Any) -> HttpResponseBase:
        """The file itself."""
        if not is_operator(request):
            raise PermissionDenied
        ask_unless_fresh(request)
        row = Backup.objects.filter(pk=object_id).first()
        if row is None:
            raise Http404("There is no such backup.")
        try:
            return send_backup(request, row, actor=actor_of(request))
        except BackupError as error:
            messages.error(request, sentence_of(error))
            return HttpResponseRedirect(self.address_of(row))


def send_backup(request: HttpRequest, row: Backup, *, actor: str) -> HttpResponseBase:
    """The file as a stream, written into the audit log. Raises ``BackupError`` when no destination gives it."""
    from ops.services.backups import backup_fetch

    where: Path = backup_fetch(row)
    file = where.open("rb")
    # One line for all pieces in which a browser fetches a file; but whoever asks for nothing else than pieces leaves one, too.
    is_first = cache.add(f"backup-downloaded:{actor}:{row.pk}", True, 3600)
    if is_first or not request.headers.get("Range"):
        audit.record(actor=actor, action="backup.downloaded", target=row, message=f"{row.name} was downloaded.")
    return send_file(
        request,
        file,
        size=where.stat().st_size,
        etag=row.sha256 or str(row.pk),
        name=f"{row.name}.sbk",
        media_type="application/octet-stream",
        cache="no-store",
    )
