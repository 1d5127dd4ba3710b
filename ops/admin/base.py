"""What every page of the operator's site is made of: lists, detail pages, and deeds that call one service function each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from unfold.admin import ModelAdmin
from unfold.paginator import InfinitePaginator

from ops.admin.panels import Button, panels_of
from ops.models import AuditEvent

AUDIT_ON_PAGE = 12


def actor_of(request: HttpRequest) -> str:
    """How the audit log names whoever sent the request."""
    return f"person:{request.user.get_username()}"


def is_operator(request: HttpRequest) -> bool:
    """An operator is an active person with ``is_staff``; all operators may do the same."""
    return bool(request.user.is_active and request.user.is_staff)


def sentence_of(error: Exception) -> str:
    """What an expected failure has to say to the operator."""
    if isinstance(error, ValidationError):
        return " ".join(error.messages)
    return str(getattr(error, "sentence", "") or getattr(error, "reason", "") or error)


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing that can be done to a row. ``run(request, row)`` calls one service function and returns a sentence or a response.

    With ``explain`` the operator first reads what will happen; ``danger`` makes the button look like what it is. ``form(data, row)``
    makes the form of what has to be said with it (a reason, a choice, a word to type); ``run`` then gets its clean values as well.
    """

    name: str
    label: str
    run: Callable[..., str | HttpResponse]
    explain: Callable[[Any], str] | None = None
    danger: bool = False
    primary: bool = False
    shown: Callable[[Any], bool] = lambda row: True
    button: str = ""
    form: Callable[[Any, Any], forms.Form] | None = None

    @property
    def asks(self) -> bool:
        """Whether the operator reads what will happen before it does."""
        return self.explain is not None or self.danger or self.form is not None


class OperatorAdmin(ModelAdmin):
    """Base of all pages: operators may see everything, and change only what a subclass offers a deed or a form for."""

    list_fullwidth = True
    show_full_result_count = False
    list_per_page = 50
    paginator = InfinitePaginator
    list_before_template = "switchboard/list_intro.html"
    actions = None

    intro: ClassVar[str] = ""
    empty_title: ClassVar[str] = "Nothing here yet"
    empty_text: ClassVar[str] = ""
    detail_template: ClassVar[str] = ""
    expected_errors: ClassVar[tuple[type[Exception], ...]] = (ValidationError,)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return is_operator(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return is_operator(request)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    # Deeds

    def deeds(self) -> tuple[Deed, ...]:
        """What can be done to a row of this kind."""
        return ()

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_deed"
        own = [path("<path:object_id>/do/<slug:deed>/", self.admin_site.admin_view(self.deed_view), name=name)]
        return [*own, *super().get_urls()]

    def deed_view(self, request: HttpRequest, object_id: str, deed: str) -> HttpResponse:
        """GET explains, POST does."""
        row = self._row(request, object_id)
        known = next((one for one in self.deeds() if one.name == deed), None)
        if known is None or not known.shown(row):
            messages.warning(request, "That is not possible (any more); this is how it stands now.")
            return HttpResponseRedirect(self.address_of(row))
        if request.method not in {"GET", "POST"}:
            return HttpResponseNotAllowed(["GET", "POST"])
        form = known.form(request.POST if request.method == "POST" else None, row) if known.form else None
        if request.method == "GET" or (form is not None and not form.is_valid()):
            return self.page(
                request,
                "switchboard/confirm.html",
                title=known.label,
                row=row,
                deed=known,
                form=form,
                explanation=known.explain(row) if known.explain else "",
                back=self.address_of(row),
            )
        try:
            outcome = known.run(request, row, form.cleaned_data) if form is not None else known.run(request, row)
        except self.expected_errors as error:
            messages.error(request, sentence_of(error))
            return HttpResponseRedirect(self.address_of(row))
        if isinstance(outcome, HttpResponse):
            return outcome
        if outcome:
            messages.success(request, outcome)
        return HttpResponseRedirect(self.address_after(request, row))

    def offered_deeds(self, row: Any) -> list[dict[str, Any]]:
        """The deeds that fit the row, with their addresses, dangerous ones last."""
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_deed"
        found = [
            {"deed": deed, "address": reverse(name, args=[row.pk, deed.name])}
            for deed in self.deeds()
            if deed.shown(row)
        ]
        return sorted(found, key=lambda one: one["deed"].danger)

    # Pages

    def detail_context(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """What the detail template shows besides the row, its deeds, its panels and its audit trail."""
        return {}

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.detail_template:
            return super().change_view(request, object_id, form_url, extra_context)
        if request.method not in {"GET", "HEAD"}:
            return HttpResponseNotAllowed(["GET"])
        row = self._row(request, object_id)
        panels = panels_of(request, row)
        buttons: list[Button] = [button for panel in panels for button in panel.buttons]
        return self.page(
            request,
            self.detail_template,
            title=str(row),
            row=row,
            deeds=self.offered_deeds(row),
            first_panels=[panel for panel in panels if panel.template and panel.first],
            panels=[panel for panel in panels if panel.template and not panel.first],
            buttons=buttons,
            audit=audit_of(row),
            **self.detail_context(request, row),
        )

    def page(
        self, request: HttpRequest, template: str, *, title: str, status: int = 200, **context: Any
    ) -> HttpResponse:
        """A page of the admin with its frame around it."""
        request.current_app = self.admin_site.name
        # With a row the header leads back to its list; a page of its own has only its title there.
        place = {"opts": self.opts, "original": context["row"]} if context.get("row") is not None else {}
        frame = {**self.admin_site.each_context(request), **place}
        return TemplateResponse(
            request, template, {**frame, "title": title, "model_admin": self, **context}, status=status
        )

    def address_of(self, row: Any) -> str:
        """The page of a row."""
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_change", args=[row.pk])

    def address_after(self, request: HttpRequest, row: Any) -> str:
        """Where a deed leads: back to the page that asked for it when that is one of ours, else to the row's own page."""
        return safe_next(request) or self.address_of(row)

    def _row(self, request: HttpRequest, object_id: str) -> Any:
        if not self.has_view_permission(request):
            raise PermissionDenied
        row = self.get_object(request, object_id)
        if row is None:
            raise Http404(f"There is no {self.opts.verbose_name} {object_id}.")
        return row


def safe_next(request: HttpRequest) -> str:
    """The ``next`` of a form when it leads to a page of the admin, else ""."""
    wanted = request.POST.get("next", "")
    return wanted if wanted.startswith(reverse("admin:index")) and "//" not in wanted and "\\" not in wanted else ""


def audit_of(row: Any, limit: int = AUDIT_ON_PAGE) -> list[AuditEvent]:
    """The last events about a row, newest first."""
    return list(AuditEvent.objects.filter(target_type=row._meta.label_lower, target_id=str(row.pk))[:limit])
