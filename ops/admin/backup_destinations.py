"""Destinations of backups: folders and S3-compatible storage, each with its own result and its own rules of what is kept."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Count, Q, Sum
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from unfold.decorators import display

from ops import html
from ops.admin.backup_keys import take
from ops.admin.backups import WordForm
from ops.admin.base import Deed, OperatorAdmin, actor_of, sentence_of
from ops.admin.panels import Button, Panel, register_panel
from ops.backup.errors import BackupError
from ops.choices import Lamp
from ops.evidence_html import size
from ops.models import BackupDestination, CopyState, DestinationKind
from ops.words import counted

_COPIES = 30
_PLAIN = {"autocomplete": "off", "autocapitalize": "off", "spellcheck": "false"}
_NUMBER = {"class": "sb-short"}


class PlaceForm(forms.Form):
    """What all places have in common: a name, and how long copies are kept."""

    name = forms.CharField(
        max_length=64, help_text="How it is called here: nas, offsite.", widget=forms.TextInput(attrs=_PLAIN)
    )
    keep_last = forms.IntegerField(
        label="Keep the newest", min_value=1, initial=3, widget=forms.NumberInput(attrs=_NUMBER)
    )
    keep_daily = forms.IntegerField(
        label="One for each of so many days", min_value=0, initial=7, widget=forms.NumberInput(attrs=_NUMBER)
    )
    keep_weekly = forms.IntegerField(
        label="One for each of so many weeks", min_value=0, initial=4, widget=forms.NumberInput(attrs=_NUMBER)
    )
    keep_monthly = forms.IntegerField(
        label="One for each of so many months",
        min_value=0,
        initial=6,
        widget=forms.NumberInput(attrs=_NUMBER),
        help_text="A copy stays while any of these wants it. The last good one always stays, and so do pinned ones.",
    )  # fmt: skip
    enabled = forms.BooleanField(required=False, initial=True, label="Send copies there")

    kind = ""
    own: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    called: ClassVar[dict[str, str]] = {}

    def __init__(self, data: Any = None, *, row: BackupDestination | None = None) -> None:
        super().__init__(data)
        # What is special to the kind stands below the name.
        order = ["name", *self.own, *self.secrets]
        self.order_fields([*order, *(name for name in self.fields if name not in order)])
        if row is not None:
            names = ("name", "keep_last", "keep_daily", "keep_weekly", "keep_monthly", "enabled")
            self.initial.update({name: getattr(row, name) for name in names})
            self.initial.update({name: row.options.get(self.called.get(name, name), "") for name in self.own})
            for name in self.secrets:
                self.fields[name].required = False
                self.fields[name].help_text = "One is set; type a new one to replace it."

    def save_arguments(self, row: BackupDestination | None) -> dict[str, Any]:
        """The keyword arguments of ``destination_save``, without actor."""
        data = dict(self.cleaned_data)
        options = {self.called.get(name, name): data.pop(name) for name in self.own}
        typed = {name: value for name in self.secrets if (value := data.pop(name))}
        # A new pair replaces the stored one; with nothing typed that one stays.
        credentials = typed if typed or row is None else None
        return {"destination": row, "kind": self.kind, "options": options, "credentials": credentials, **data}


class FolderForm(PlaceForm):
    path = forms.CharField(
        max_length=500,
        label="Folder",
        help_text="A path on this host: a mounted disk or share. A relative one lies below the data directory, on the same disk.",
        widget=forms.TextInput(attrs=_PLAIN),
    )
    kind = DestinationKind.FOLDER
    own = ("path",)


class S3Form(PlaceForm):
    endpoint_url = forms.CharField(
        required=False,
        max_length=500,
        label="Address",
        help_text="https://s3.example.org. Empty for Amazon.",
        widget=forms.TextInput(attrs=_PLAIN),
    )
    bucket = forms.CharField(max_length=200, widget=forms.TextInput(attrs=_PLAIN), help_text="It must exist already.")
    # A form has a prefix of its own.
    below = forms.CharField(
        required=False,
        max_length=200,
        label="Prefix",
        help_text="A folder within the bucket: switchboard/.",
        widget=forms.TextInput(attrs=_PLAIN),
    )
    region = forms.CharField(required=False, max_length=100, widget=forms.TextInput(attrs=_PLAIN))
    addressing = forms.ChoiceField(
        required=False,
        label="How the bucket is named",
        choices=[("", "as the server likes it"), ("path", "in the path"), ("virtual", "in the host name")],
    )
    access_key = forms.CharField(max_length=300, widget=forms.PasswordInput(attrs={"autocomplete": "off"}))
    secret_key = forms.CharField(max_length=300, widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}))
    kind = DestinationKind.S3
    own = ("endpoint_url", "bucket", "below", "region", "addressing")
    called = {"below": "prefix"}
    secrets = ("access_key", "secret_key")


FORMS: dict[str, type[PlaceForm]] = {DestinationKind.FOLDER: FolderForm, DestinationKind.S3: S3Form}


def place_state(row: BackupDestination) -> tuple[Lamp, str, str]:
    """Lamp, word and sentence."""
    if not row.enabled:
        return Lamp.OFF, "Off", "Nothing is sent there. What lies there stays."
    if row.last_error and (row.last_ok_at is None or (row.last_error_at and row.last_error_at > row.last_ok_at)):
        return Lamp.TROUBLE, "Does not work", row.last_error
    if row.last_ok_at:
        return Lamp.GOOD, "Works", "It took what was sent there last."
    return (
        Lamp.ATTENTION,
        "Not tried yet",
        "Nothing was sent there yet. Test it: a small file is written, read back and removed.",
    )


def place_words(row: BackupDestination) -> str:
    """Where it is, without secrets."""
    options = row.options or {}
    if row.kind == DestinationKind.S3:
        prefix = str(options.get("prefix") or "").strip("/")
        host = str(options.get("endpoint_url") or "Amazon S3")
        return f"{options.get('bucket', '')}{'/' + prefix if prefix else ''} at {host}"
    return str(options.get("path") or "")


def keeps_words(row: BackupDestination) -> str:
    """``the newest 3, 7 days, 4 weeks, 6 months``."""
    parts = [f"the newest {row.keep_last}"]
    rules = ((row.keep_daily, "day"), (row.keep_weekly, "week"), (row.keep_monthly, "month"))
    return ", ".join([*parts, *(counted(number, word) for number, word in rules if number)])


@admin.register(BackupDestination)
class BackupDestinationAdmin(OperatorAdmin):
    list_display = ("name", "state_lamp", "place", "holds", "last_ok")
    list_display_links = ("name",)
    list_filter = ("kind", "enabled")
    search_fields = ("name",)
    detail_template = "switchboard/backup_destination.html"
    expected_errors = (ValidationError, BackupError, ValueError)
    intro = "Where copies of backups lie. One that fails leaves the others alone, and is tried again. Have one that does not burn with this machine."
    empty_title = "No destination"
    empty_text = "Backups need a destination: a folder on a mounted disk, or a bucket of S3-compatible storage."

    def get_queryset(self, request: HttpRequest) -> Any:
        stored = Q(copies__state=CopyState.STORED)
        return super().get_queryset(request).annotate(
            stored=Count("copies", filter=stored), stored_size=Sum("copies__size", filter=stored)
        )  # fmt: skip

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("new/<slug:kind>/", wrap(self.new_view), name="ops_backupdestination_new"),
            path("<int:object_id>/edit/", wrap(self.edit_view), name="ops_backupdestination_edit"),
        ]
        return [*own, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        buttons = [
            Button("Add a folder…", reverse("admin:ops_backupdestination_new", args=["folder"]), primary=True),
            Button("Add S3 storage…", reverse("admin:ops_backupdestination_new", args=["s3"])),
        ]
        return super().changelist_view(request, {"list_buttons": buttons, **(extra_context or {})})

    @display(description="State")
    def state_lamp(self, row: BackupDestination) -> str:
        lamp, word, _ = place_state(row)
        return html.lamp(lamp, word)

    @display(description="Where")
    def place(self, row: BackupDestination) -> str:
        lamp, _, sentence = place_state(row)
        if lamp is not Lamp.TROUBLE:
            return place_words(row)
        return format_html('<span>{}<br><span class="sb-quiet sb-small">{}</span></span>', place_words(row), sentence)

    @display(description="Holds", ordering="stored_size")
    def holds(self, row: Any) -> str:
        held = counted(row.stored, "copy", "copies")
        return f"{held}, {size(row.stored_size)}" if row.stored_size else held

    @display(description="Last worked", ordering="last_ok_at")
    def last_ok(self, row: BackupDestination) -> str:
        return html.ago(row.last_ok_at)

    def deeds(self) -> tuple[Deed, ...]:
        return (
            Deed("test", "Test", self.test, button="Test it", primary=True),
            Deed("on", "Switch on", lambda r, row: self.switch(r, row, True), shown=lambda row: not row.enabled),
            Deed(
                "off",
                "Switch off",
                lambda r, row: self.switch(r, row, False),
                explain=lambda row: (
                    "Nothing is sent there until it is switched on again. What lies there stays, and can be restored."
                ),
                shown=lambda row: row.enabled,
            ),
            Deed(
                "remove",
                "Remove",
                self.remove,
                button="Remove…",
                explain=lambda row: (
                    "Nothing is sent there any more, and the copies there are no longer listed. The files themselves stay where they are: "
                    "add it again, and they are found."
                ),
                danger=True,
                form=lambda data, row: WordForm(data, row.name, what="Copies there no longer count."),
            ),
        )

    def test(self, request: HttpRequest, row: BackupDestination) -> str:
        from ops.services.backup_destinations import destination_test

        outcome = destination_test(destination=row, actor=actor_of(request))
        if outcome.ok:
            return f"{row.name} works. {outcome.sentence}"
        messages.error(request, f"{row.name} does not work. {outcome.sentence}")
        return ""

    def switch(self, request: HttpRequest, row: BackupDestination, enabled: bool) -> str:
        from ops.services.backup_destinations import destination_switch

        destination_switch(destination=row, enabled=enabled, actor=actor_of(request))
        return f"{row.name} is switched {'on' if enabled else 'off'}."

    def remove(self, request: HttpRequest, row: BackupDestination, asked: dict[str, Any]) -> HttpResponse:
        from ops.services.backup_destinations import destination_remove

        name = row.name
        destination_remove(destination=row, actor=actor_of(request))
        messages.success(request, f"{name} is removed from the list. What lies there stays there.")
        return HttpResponseRedirect(reverse("admin:ops_backupdestination_changelist"))

    def detail_context(self, request: HttpRequest, row: BackupDestination) -> dict[str, Any]:
        return {
            "standing": place_state(row),
            "place": place_words(row),
            "keeps": keeps_words(row),
            "copies": list(row.copies.select_related("backup").defer("backup__manifest").order_by("-backup__made_at")[:_COPIES]),
        }  # fmt: skip

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_view_permission(request)

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Which kind is asked first."""
        return self.page(
            request,
            "switchboard/backup_place_kinds.html",
            title="Add a destination",
            back=reverse("admin:ops_backupdestination_changelist"),
        )

    def new_view(self, request: HttpRequest, kind: str) -> HttpResponse:
        """The form of a new place."""
        if kind not in FORMS:
            return HttpResponseRedirect(reverse("admin:ops_backupdestination_add"))
        return self._form(request, kind, None)

    def edit_view(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """The form of a place that is there."""
        row = self._row(request, str(object_id))
        return self._form(request, row.kind, row)

    def _form(self, request: HttpRequest, kind: str, row: BackupDestination | None) -> HttpResponse:
        from ops.services.backup_destinations import destination_save

        form = FORMS[kind](request.POST or None, row=row)
        if request.method == "POST" and form.is_valid():
            try:
                saved = destination_save(actor=actor_of(request), **form.save_arguments(row))
            except ValidationError as error:
                take(form, error)
            except BackupError as error:
                form.add_error(None, sentence_of(error))
            else:
                messages.success(request, f"{saved.name} is saved. Test it, so that you know whether it works.")
                return HttpResponseRedirect(self.address_of(saved))
        what = "folder" if kind == DestinationKind.FOLDER else "S3 storage"
        return self.page(
            request,
            "switchboard/form.html",
            title=f"Edit {row.name}" if row else f"Add {'a ' if what == 'folder' else ''}{what}",
            form=form,
            back=self.address_of(row) if row else reverse("admin:ops_backupdestination_changelist"),
            sentence="What is written there is encrypted already: whoever runs it reads nothing of it.",
        )


def _edit_button(request: HttpRequest, row: BackupDestination) -> Panel:
    return Panel(buttons=(Button("Edit", reverse("admin:ops_backupdestination_edit", args=[row.pk])),))


register_panel("ops.backupdestination", _edit_button)
