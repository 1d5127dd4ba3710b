"""Errors of the last while in groups, and the dictionary of known ones."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from unfold.decorators import display

from ops import html
from ops.admin.base import Deed, OperatorAdmin, actor_of, is_operator
from ops.admin.log_lines import Places, ShownLine, explain_address
from ops.admin.panels import Button
from ops.logbook.signatures import groups_since, pattern_for, shipped
from ops.models import ErrorSignature, LogLine
from ops.services.logbook import signature_add, signature_remove
from ops.words import counted

SPANS = ((1, "Last hour"), (24, "Last day"), (168, "Last week"))


def errors_view(page: OperatorAdmin) -> Callable[[HttpRequest], HttpResponse]:
    """The page of the groups, in the frame of ``page``."""

    def view(request: HttpRequest) -> HttpResponse:
        if not is_operator(request):
            raise PermissionDenied
        given = request.GET.get("hours", "24")
        hours = int(given) if given in {str(span) for span, _ in SPANS} else 24
        groups = groups_since(timedelta(hours=hours))
        places = Places({one.signature.check for one in groups if one.signature is not None and one.signature.check})
        rows = []
        for one in groups[:200]:
            shown = ShownLine(LogLine(pk=one.line_id))
            if one.signature is not None:
                places.fill(shown, one.signature.check)
            address = reverse("admin:ops_logline_change", args=[one.line_id])
            rows.append({"group": one, "shown": shown, "address": address, "explain": explain_address(one.line_id)})
        unknown = sum(one.signature is None for one in groups)
        return page.page(
            request,
            "switchboard/log_errors.html",
            title="Errors in groups",
            sentence=_sentence(len(groups), unknown, dict(SPANS)[hours].lower()),
            groups=rows,
            spans=SPANS,
            span=hours,
        )

    return view


def _sentence(count: int, unknown: int, span: str) -> str:
    if not count:
        return f"No errors in the {span}."
    kinds = counted(count, "kind of error", "kinds of errors")
    return f"{kinds} in the {span}, {unknown or 'none'} of them new."


class SignatureForm(forms.Form):
    """A new entry of the dictionary."""

    pattern = forms.CharField(
        max_length=300,
        help_text="A regular expression. Upper and lower case are the same; what differs from case to case may be \\S+.",
    )
    meaning = forms.CharField(max_length=500, label="What it means", widget=forms.Textarea(attrs={"rows": 2}))
    remedy = forms.CharField(
        max_length=500, label="What to do", required=False, widget=forms.Textarea(attrs={"rows": 2})
    )
    check_id = forms.CharField(
        max_length=100,
        label="Check",
        required=False,
        help_text="The id of the check that is about it, if there is one.",
    )


@admin.register(ErrorSignature)
class ErrorSignatureAdmin(OperatorAdmin):
    list_display = ("meaning", "pattern_text", "check_id", "created_by", "added")
    search_fields = ("pattern", "meaning", "remedy", "check_id")
    detail_template = "switchboard/log_signature.html"
    intro = (
        "Error texts in words. Switchboard knows many; here are those that you added, which are asked first. "
        "New errors are offered for explanation on the page of the errors."
    )
    empty_title = "You have added none yet"
    empty_text = "Open an unknown error in the logs and write down what it means: the next one who sees it knows too."

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.new_view)
        return [path("new/", view, name="ops_errorsignature_new"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        buttons = [
            Button("Add an entry", reverse("admin:ops_errorsignature_new"), primary=True),
            Button("Errors in groups", reverse("admin:ops_logline_errors")),
        ]
        return super().changelist_view(request, {**(extra_context or {}), "list_buttons": buttons})

    @display(description="Pattern")
    def pattern_text(self, row: ErrorSignature) -> str:
        return html.copyable(row.pattern)

    @display(description="Added", ordering="created_at")
    def added(self, row: ErrorSignature) -> str:
        return html.ago(row.created_at)

    def deeds(self) -> tuple[Deed, ...]:
        return (
            Deed(
                "remove",
                "Remove the entry",
                self.remove,
                explain=lambda row: "Lines that only this entry explains count as new errors again.",
                danger=True,
            ),
        )

    def remove(self, request: HttpRequest, row: ErrorSignature) -> HttpResponse:
        signature_remove(signature=row, actor=actor_of(request))
        return HttpResponseRedirect(reverse("admin:ops_errorsignature_changelist"))

    def detail_context(self, request: HttpRequest, row: ErrorSignature) -> dict[str, Any]:
        return {"shipped": len(shipped())}

    def new_view(self, request: HttpRequest) -> HttpResponse:
        """A form, filled with a pattern from ``line`` when there is one."""
        if not is_operator(request):
            raise PermissionDenied
        number = request.GET.get("line", "")
        line = LogLine.objects.filter(pk=int(number)).first() if number.isdigit() and len(number) < 19 else None
        form = SignatureForm(
            request.POST if request.method == "POST" else None,
            initial={"pattern": pattern_for(line.event)} if line else None,
        )
        if request.method == "POST" and form.is_valid():
            try:
                row = signature_add(actor=actor_of(request), **form.cleaned_data)
            except ValidationError as error:
                form.add_error(None, error) if not hasattr(error, "error_dict") else form.add_error(
                    None, error.messages
                )
            else:
                return HttpResponseRedirect(self.address_of(row))
        sentence = f"The line says: {line.event}" if line else "From then on, lines that fit are shown in words."
        return self.page(
            request,
            "switchboard/form.html",
            title="Write down what an error means",
            form=form,
            sentence=sentence,
            submit="Add to the dictionary",
            back=reverse("admin:ops_logline_errors"),
        )
