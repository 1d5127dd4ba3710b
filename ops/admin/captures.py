"""Captured calls: started for some minutes, shown one by one, and handed on as an HTTP archive."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Count, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from unfold.decorators import display

from ops import html
from ops.admin.base import Deed, OperatorAdmin, actor_of, is_operator
from ops.admin.panels import Button
from ops.logbook.capture import MOST_EXCHANGES, to_har
from ops.models import Capture, Exchange, Service
from ops.services.logbook import capture_delete, capture_start, capture_stop, exchanges_of

ON_PAGE = 200


class CaptureForm(forms.Form):
    """What to write down, and for how long."""

    minutes = forms.TypedChoiceField(
        coerce=int,
        choices=[(1, "1 minute"), (5, "5 minutes"), (15, "15 minutes"), (60, "1 hour")],
        initial=5,
        label="For",
    )
    service = forms.ChoiceField(required=False, label="Calls to")
    agent = forms.CharField(
        required=False, max_length=200, help_text="Name, id or Matrix id: only calls for this agent. Empty: for all."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names = Service.objects.order_by("name").values_list("name", flat=True)
        self.fields["service"].choices = [("", "all services"), *((name, name) for name in names)]  # type: ignore[attr-defined]


@admin.register(Capture)
class CaptureAdmin(OperatorAdmin):
    list_display = ("label", "state_lamp", "count", "ends", "started_by")
    search_fields = ("service", "agent", "started_by")
    ordering = ("-started_at",)
    detail_template = "switchboard/capture.html"
    intro = (
        "Calls to the homeserver and the backends, written down for some minutes: address, status, time, headers and bodies, without "
        "secrets. What people say is in the bodies; captures are deleted after three days."
    )
    empty_title = "Nothing is captured"
    empty_text = "Start a capture when you want to see what Switchboard and a server really say to each other. It ends by itself."

    def get_queryset(self, request: HttpRequest) -> QuerySet[Capture]:
        return super().get_queryset(request).annotate(calls=Count("exchanges"))

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("start/", wrap(self.start_view), name="ops_capture_start"),
            path("<uuid:object_id>/live/", wrap(self.live_view), name="ops_capture_live"),
            path("<uuid:object_id>/har/", wrap(self.har_view), name="ops_capture_har"),
            path("<uuid:object_id>/call/<int:number>/", wrap(self.call_view), name="ops_capture_call"),
            *super().get_urls(),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        buttons = [Button("Capture calls", reverse("admin:ops_capture_start"), primary=True)]
        return super().changelist_view(request, {**(extra_context or {}), "list_buttons": buttons})

    @display(description="Captured")
    def label(self, row: Capture) -> str:
        return _label(row)

    @display(description="State")
    def state_lamp(self, row: Capture) -> str:
        return html.lamp("working", "Capturing") if _runs(row) else html.lamp("good", "Ended")

    @display(description="Calls")
    def count(self, row: Any) -> int:
        return int(row.calls)

    @display(description="Until", ordering="until")
    def ends(self, row: Capture) -> str:
        return html.ago(row.until)

    def deeds(self) -> tuple[Deed, ...]:
        return (
            Deed("stop", "End it now", self.stop, shown=_runs, primary=True),
            Deed(
                "delete",
                "Delete the capture",
                self.delete,
                explain=lambda row: "The capture and all calls in it are deleted for good.",
                danger=True,
            ),
        )

    def stop(self, request: HttpRequest, row: Capture) -> str:
        return "It ended." if capture_stop(capture=row, actor=actor_of(request)) else "It had ended already."

    def delete(self, request: HttpRequest, row: Capture) -> HttpResponse:
        capture_delete(capture=row, actor=actor_of(request))
        return HttpResponseRedirect(reverse("admin:ops_capture_changelist"))

    def start_view(self, request: HttpRequest) -> HttpResponse:
        """GET asks what to capture, POST starts."""
        if not is_operator(request):
            raise PermissionDenied
        form = CaptureForm(
            request.POST if request.method == "POST" else None, initial={"agent": request.GET.get("agent")}
        )
        if request.method == "POST" and form.is_valid():
            try:
                row = capture_start(actor=actor_of(request), **form.cleaned_data)
            except ValidationError as error:
                form.add_error(None, error.messages)
            else:
                return HttpResponseRedirect(self.address_of(row))
        return self.page(
            request,
            "switchboard/form.html",
            title="Capture calls",
            form=form,
            sentence=f"Every process starts within two seconds and ends by itself, at the latest after {MOST_EXCHANGES} calls. "
            "Secrets are hidden; what people say is not.",
            submit="Capture",
            back=reverse("admin:ops_capture_changelist"),
        )

    def detail_context(self, request: HttpRequest, row: Capture) -> dict[str, Any]:
        return {"title": _label(row), **self.live_context(row)}

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None) -> Any:
        row = self._row(request, object_id)
        return self.page(
            request, self.detail_template, row=row, deeds=self.offered_deeds(row), **self.detail_context(request, row)
        )

    def live_view(self, request: HttpRequest, object_id: Any) -> HttpResponse:
        """The part of the page that is fetched again while the capture runs."""
        from django.shortcuts import render

        return render(request, "switchboard/capture_live.html", self.live_context(self._row(request, str(object_id))))

    def live_context(self, row: Capture) -> dict[str, Any]:
        """The calls, newest first, without their bodies."""
        rows = exchanges_of(row)
        calls = list(
            rows.order_by("-id").defer("request_body", "response_body", "request_headers", "response_headers")[:ON_PAGE]
        )
        return {
            "capture": row,
            "runs": _runs(row),
            "calls": [(one, _lamp(one)) for one in calls],
            "count": rows.count(),
            "live": reverse("admin:ops_capture_live", args=[row.pk]) if _runs(row) else "",
        }

    def call_view(self, request: HttpRequest, object_id: Any, number: int) -> HttpResponse:
        """One call with headers and bodies."""
        row = self._row(request, str(object_id))
        call = Exchange.objects.filter(capture=row, pk=min(number, 2**62)).first()
        if call is None:
            raise Http404("There is no such call.")
        return self.page(
            request,
            "switchboard/capture_call.html",
            title=f"{call.method} {call.url}"[:120],
            call=call,
            mark=_lamp(call),
            back=self.address_of(row),
        )

    def har_view(self, request: HttpRequest, object_id: Any) -> HttpResponse:
        """All calls as an HTTP archive."""
        row = self._row(request, str(object_id))
        content = json.dumps(to_har(exchanges_of(row).iterator(chunk_size=100), settings.VERSION), ensure_ascii=False)
        answer = HttpResponse(content, content_type="application/json")
        answer["Content-Disposition"] = f'attachment; filename="switchboard-{row.started_at:%Y%m%d-%H%M%S}.har"'
        return answer


def _runs(row: Capture) -> bool:
    return row.until > timezone.now()


def _label(row: Capture) -> str:
    what = row.service or "all services"
    return f"Calls to {what} for {row.agent}" if row.agent else f"Calls to {what}"


def _lamp(call: Exchange) -> tuple[str, str]:
    if call.status is None:
        return "trouble", "no answer"
    if call.status >= 500:
        return "trouble", str(call.status)
    return ("attention" if call.status >= 400 else "good"), str(call.status)
