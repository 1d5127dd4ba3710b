"""The page of the logs: a live tail that keeps the reader's place, filters, levels, processes, errors in groups, profiles."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse, StreamingHttpResponse
from django.template.loader import render_to_string
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from ops.admin.base import OperatorAdmin, actor_of, is_operator, safe_next
from ops.admin.log_errors import errors_view
from ops.admin.log_lines import logs_address, show
from ops.admin.log_profiles import profile_file_view, profile_view, profiled_view, recent_profiles
from ops.admin.raw import raw_view
from ops.admin.support import SupportPages
from ops.logbook import reader
from ops.logbook.levels import WELL_KNOWN
from ops.logbook.reader import FilterInvalid, LogFilter
from ops.logbook.rows import RANKS
from ops.logbook.status import statuses
from ops.models import LogLine
from ops.services.logbook import current_levels, log_level_clear, log_level_set
from ops.words import counted, verb

ON_PAGE = 300
# One answer of the tail; what is more comes with the next one.
AT_ONCE = 500


@admin.register(LogLine)
class LogLineAdmin(SupportPages, OperatorAdmin):
    detail_template = "switchboard/log_line.html"

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("tail/", wrap(self.tail_view), name="ops_logline_tail"),
            path("download/", wrap(self.download_view), name="ops_logline_download"),
            path("level/", wrap(require_POST(self.level_view)), name="ops_logline_level"),
            path("errors/", wrap(errors_view(self)), name="ops_logline_errors"),
            path("profile/", wrap(require_POST(profile_view)), name="ops_logline_profile"),
            path("profile/<uuid:job_id>/", wrap(profiled_view(self)), name="ops_logline_profiled"),
            path("profile/<uuid:job_id>/<slug:form>/", wrap(profile_file_view), name="ops_logline_profile_file"),
            path("raw/<slug:kind>/<str:key>/", wrap(raw_view(self)), name="ops_logline_raw"),
            *self.support_urls(),
            *super().get_urls(),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not is_operator(request):
            raise PermissionDenied
        wanted = _wanted(request)
        before = request.GET.get("before", "")
        rows = reader.lines(wanted)
        if before.isdigit() and len(before) < 19:
            rows = rows.filter(id__lt=int(before))
        found = list(rows[: ON_PAGE + 1])
        earlier = found[ON_PAGE - 1].pk if len(found) > ON_PAGE else None
        lines = reader.oldest_first(found[:ON_PAGE])
        newest = lines[-1].pk if lines else _newest_id()
        return self.page(
            request,
            "switchboard/log_page.html",
            title="Logs",
            sentence=_sentence(wanted, len(lines), earlier is not None),
            lines=show(lines),
            wanted=wanted,
            query=wanted.query,
            conditions=[
                {"label": label, "value": value, "query": wanted.without(name).query or "level="}
                for name, label, value in wanted.words()
            ],
            kept=[(name, getattr(wanted, name)) for name in ("process", "logger") if getattr(wanted, name)],
            newest=newest,
            earlier=earlier,
            later=bool(before),
            levels=[(name, name) for name in RANKS],
            roles=["up", "web", "worker", "beat"],
            services=reader.known_values("service"),
            agents=reader.known_values("agent"),
            loggers=WELL_KNOWN,
            changed=[(name, _with_time(one)) for name, one in sorted(current_levels().items())],
            processes=statuses()[:20],
            profiles=recent_profiles(),
            here=request.get_full_path(),
        )

    def tail_view(self, request: HttpRequest) -> HttpResponse:
        """Lines behind ``after``, or before ``before``, as pieces of the page: ``{html, count, newest, oldest, more}``."""
        wanted = _wanted(request)
        rows = reader.lines(wanted)
        after, before = request.GET.get("after", ""), request.GET.get("before", "")
        if before.isdigit() and len(before) < 19:
            found = list(rows.filter(id__lt=int(before))[: ON_PAGE + 1])
            more = len(found) > ON_PAGE
            lines = reader.oldest_first(found[:ON_PAGE])
        else:
            start = int(after) if after.isdigit() and len(after) < 19 else _newest_id()
            lines = reader.behind(wanted, start, most=AT_ONCE)
            more = len(lines) == AT_ONCE
        return JsonResponse(
            {
                "html": render_to_string("switchboard/log_lines.html", {"lines": show(lines)}) if lines else "",
                "count": len(lines),
                "newest": lines[-1].pk if lines else None,
                "oldest": lines[0].pk if lines else None,
                "more": more,
            }
        )

    def download_view(self, request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
        """The lines that fit, as JSON lines or text, piece by piece."""
        wanted = _wanted(request)
        form = "jsonl" if request.GET.get("form") == "jsonl" else "text"
        kind = "application/x-ndjson" if form == "jsonl" else "text/plain; charset=utf-8"
        answer = StreamingHttpResponse(
            (piece.encode("utf-8", "replace") for piece in reader.export(wanted, form)), content_type=kind
        )
        suffix = "jsonl" if form == "jsonl" else "txt"
        answer["Content-Disposition"] = f'attachment; filename="switchboard-{timezone.now():%Y%m%d-%H%M%S}.{suffix}"'
        return answer

    def level_view(self, request: HttpRequest) -> HttpResponse:
        """Set a logger's level for a while, or take it back."""
        logger, level = request.POST.get("logger", "").strip(), request.POST.get("level", "")
        try:
            if level == "ordinary":
                log_level_clear(logger=logger, actor=actor_of(request))
                messages.success(request, f"{logger} has its ordinary level again.")
            else:
                minutes = request.POST.get("minutes", "15")
                until = log_level_set(
                    logger=logger,
                    level=level,
                    minutes=float(minutes) if minutes.isdigit() else 15,
                    actor=actor_of(request),
                )
                messages.success(
                    request, f"{logger} is at {level} until {until:%H:%M} UTC, then it falls back by itself."
                )
        except ValidationError as error:
            messages.error(request, " ".join(error.messages))
        return HttpResponseRedirect(safe_next(request) or reverse("admin:ops_logline_changelist"))

    def detail_context(self, request: HttpRequest, row: LogLine) -> dict[str, Any]:
        (shown,) = show([row])
        around = f"{logs_address(level='debug')}&{urlencode({'before': row.pk + 20})}"
        return {"title": f"Log line {row.pk}", "shown": shown, "around": around}

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None) -> Any:
        if not object_id.isdigit() or len(object_id) > 18:
            raise Http404("There is no such line.")
        row = self._row(request, object_id)
        return self.page(request, self.detail_template, row=row, **self.detail_context(request, row))


def _wanted(request: HttpRequest) -> LogFilter:
    """The filter of the address; what cannot be used is told of and left out."""
    given = {name: value for name, value in request.GET.items() if name not in ("before", "after", "form")}
    given.setdefault("level", "info")
    # As every list of the site calls it.
    given.setdefault("text", given.pop("q", ""))
    try:
        return LogFilter.parse(given)
    except FilterInvalid as error:
        messages.warning(request, str(error))
        return LogFilter()


def _newest_id() -> int:
    return LogLine.objects.order_by("-id").values_list("id", flat=True).first() or 0


def _with_time(one: dict[str, Any]) -> dict[str, Any]:
    from datetime import datetime

    return {**one, "until": datetime.fromisoformat(one["until"]) if one["until"] else None}


def _sentence(wanted: LogFilter, count: int, more: bool) -> str:
    narrowed = wanted != LogFilter(level=wanted.level)
    if not count:
        return "Nothing fits: no line meets these conditions." if narrowed else "No line has been kept yet."
    what = f"{counted(count, 'line')} {verb(count, 'that fits', 'that fit') if narrowed else 'of all processes'}"
    return f"The last {what}." if more else f"{what}."
