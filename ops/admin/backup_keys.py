"""Who can open backups: a key is made, shown once, typed back and tried. Whoever keeps it brings an empty machine back."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from unfold.decorators import display

from ops import html
from ops.admin.backup_words import machine_fingerprint
from ops.admin.base import Deed, OperatorAdmin, actor_of, sentence_of
from ops.admin.panels import Button
from ops.choices import Lamp
from ops.models import BackupKey

_PLAIN = {"autocomplete": "off", "autocapitalize": "off", "spellcheck": "false"}


class NewKeyForm(forms.Form):
    """A key that is made here, or the public half of one that was made elsewhere."""

    label = forms.CharField(
        max_length=100,
        label="Who keeps it, and where",
        help_text="For example: Ada, in the safe. Or: operators' password store.",
        widget=forms.TextInput(attrs=_PLAIN),
    )
    recipient = forms.CharField(
        required=False,
        max_length=100,
        label="Its public half, when you have a key already",
        help_text="age1…, from age-keygen. Left empty, a key is made here and shown to you once.",
        widget=forms.TextInput(attrs=_PLAIN),
    )


class ProofForm(forms.Form):
    """The secret half, typed back. It is tried on a test file and kept nowhere."""

    secret = forms.CharField(
        max_length=200,
        label="Type or paste the key from where you have put it",
        help_text="It begins with AGE-SECRET-KEY-1. A test file is sealed for the key and opened with what you type; then it is forgotten.",
        widget=forms.TextInput(attrs=_PLAIN),
    )


def key_state(row: BackupKey) -> tuple[Lamp, str, str]:
    """Lamp, word and sentence."""
    if row.retired_at:
        return Lamp.OFF, "Retired", "No new backup is made for it. Those that were made for it, it still opens."
    if row.confirmed_at:
        return Lamp.GOOD, "Proven", "Every new backup can be opened with it."
    return Lamp.ATTENTION, "Not proven", "It counts for no backup yet: nobody has shown that they have it."


@admin.register(BackupKey)
class BackupKeyAdmin(OperatorAdmin):
    list_display = ("kept_by", "state_lamp", "print", "proven", "created_by")
    list_display_links = ("kept_by",)
    search_fields = ("label", "fingerprint", "recipient")
    detail_template = "switchboard/backup_key.html"
    intro = (
        "Backups are encrypted. This machine opens its own for drills; should it be lost, only a recovery key opens them. Two people should "
        "keep one each, away from this machine."
    )
    empty_title = "Nobody keeps a recovery key"
    empty_text = (
        "Make one, put it where it is safe, and type it back. Without it a lost machine takes its backups along."
    )

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("new/", wrap(self.new_view), name="ops_backupkey_new"),
            path("<int:object_id>/prove/", wrap(self.prove_view), name="ops_backupkey_prove"),
        ]
        return [*own, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        buttons = [Button("Make a recovery key…", reverse("admin:ops_backupkey_new"), primary=True)]
        return super().changelist_view(request, {"list_buttons": buttons, **(extra_context or {})})

    @display(description="Kept by", ordering="label")
    def kept_by(self, row: BackupKey) -> str:
        return row.label

    @display(description="State")
    def state_lamp(self, row: BackupKey) -> str:
        lamp, word, _ = key_state(row)
        return html.lamp(lamp, word)

    @display(description="Fingerprint")
    def print(self, row: BackupKey) -> str:
        return html.copyable(row.fingerprint)

    @display(description="Proven", ordering="confirmed_at")
    def proven(self, row: BackupKey) -> str:
        return html.ago(row.confirmed_at)

    def deeds(self) -> tuple[Deed, ...]:
        return (
            Deed(
                "retire",
                "Retire",
                self.retire,
                button="Retire…",
                explain=explain_retire,
                danger=True,
                shown=lambda row: row.retired_at is None,
            ),
        )

    def retire(self, request: HttpRequest, row: BackupKey) -> str:
        from ops.services.backup_keys import key_retire

        key_retire(key=row, actor=actor_of(request))
        return f"{row.label} is retired: no new backup is made for this key."

    def detail_context(self, request: HttpRequest, row: BackupKey) -> dict[str, Any]:
        return {
            "standing": key_state(row),
            "prove": reverse("admin:ops_backupkey_prove", args=[row.pk]) if not row.confirmed_at and not row.retired_at else "",
            "machine": machine_fingerprint(),
        }  # fmt: skip

    def new_view(self, request: HttpRequest) -> HttpResponse:
        """The form, and after it the one page on which the key stands."""
        from ops.services.backup_keys import key_add, key_new

        form = NewKeyForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            label, recipient = form.cleaned_data["label"], form.cleaned_data["recipient"].strip()
            try:
                if recipient:
                    key = key_add(label=label, recipient=recipient, actor=actor_of(request))
                    return HttpResponseRedirect(reverse("admin:ops_backupkey_prove", args=[key.pk]))
                key, secret = key_new(label=label, actor=actor_of(request))
            except ValidationError as error:
                take(form, error)
            else:
                # Answered at once instead of after a redirect: the key is in this answer and nowhere else.
                return self._prove_page(request, key, ProofForm(), secret=secret)
        return self.page(
            request,
            "switchboard/form.html",
            title="Make a recovery key",
            form=form,
            submit="Make the key",
            back=reverse("admin:ops_backupkey_changelist"),
            sentence="It is shown once and kept nowhere here. You put it where it is safe, type it back from there, and only then it counts.",
        )

    def prove_view(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """The key is typed back and tried."""
        from ops.services.backup_keys import key_confirm

        row: BackupKey = self._row(request, str(object_id))
        if row.confirmed_at or row.retired_at:
            return HttpResponseRedirect(self.address_of(row))
        form = ProofForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            try:
                key_confirm(key=row, secret=form.cleaned_data["secret"], actor=actor_of(request))
            except ValidationError as error:
                take(form, error)
            else:
                messages.success(
                    request, f"The key of {row.label} opens. Every backup from now on can be opened with it."
                )
                return HttpResponseRedirect(reverse("admin:ops_backupkey_changelist"))
            # What was typed is a secret: it does not come back in the answer.
            form.data = {"secret": ""}
        return self._prove_page(request, row, form)

    def _prove_page(self, request: HttpRequest, row: BackupKey, form: ProofForm, *, secret: str = "") -> HttpResponse:
        return self.page(
            request,
            "switchboard/backup_key_prove.html",
            title=f"Recovery key of {row.label}",
            row=row,
            form=form,
            secret=secret,
            prove=reverse("admin:ops_backupkey_prove", args=[row.pk]),
            back=reverse("admin:ops_backupkey_changelist"),
        )


def explain_retire(row: BackupKey) -> str:
    """What will happen, before it does."""
    from ops.services.backup_keys import kept_after_retiring, usable_keys

    lines = ["No new backup is made for this key.", kept_after_retiring(row)]
    if row.confirmed_at and len(usable_keys()) == 1:
        lines.append("It is the last one: after this, nobody can open new backups when this machine is lost.")
    return "\n".join(lines)


def take(form: forms.Form, error: ValidationError) -> None:
    """Show what the service refused beside the field it is about."""
    if not hasattr(error, "error_dict"):
        form.add_error(None, sentence_of(error))
        return
    for name, sentences in error.message_dict.items():
        form.add_error(name if name in form.fields else None, sentences)
