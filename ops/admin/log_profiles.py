"""Profiles of processes: asked for on the page of the logs, shown as a flame view and tables, and to be downloaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from ops.admin.base import OperatorAdmin, actor_of, is_operator
from ops.logbook.profile import collapsed, flame, speedscope
from ops.models import Job, JobTrigger
from ops.services.logbook import profile_start

_BOX = 20
_MOST_BOXES = 1500


def recent_profiles() -> list[Job]:
    """The last ones."""
    return list(Job.objects.filter(kind="ops.profile").defer("result").order_by("-created_at")[:5])


def profile_view(request: HttpRequest) -> HttpResponse:
    """Start one."""
    if not is_operator(request):
        raise PermissionDenied
    seconds = request.POST.get("seconds", "10")
    try:
        job = profile_start(
            process=request.POST.get("process", ""),
            seconds=float(seconds) if seconds.isdigit() else 10,
            actor=actor_of(request),
            trigger=JobTrigger.ADMIN,
        )
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
        return HttpResponseRedirect(reverse("admin:ops_logline_changelist"))
    return HttpResponseRedirect(reverse("admin:ops_logline_profiled", args=[job.pk]))


def profiled_view(page: OperatorAdmin) -> Callable[[HttpRequest, UUID], HttpResponse]:
    """The page of one profile, in the frame of ``page``; while it is made, the job."""

    def view(request: HttpRequest, job_id: UUID) -> HttpResponse:
        job = _job(request, job_id)
        profile = _profile(job)
        boxes = [{**box, "top": box["depth"] * _BOX} for box in flame(profile.get("stacks", []))[:_MOST_BOXES]]
        return page.page(
            request,
            "switchboard/log_profile.html",
            title=job.title,
            job=job,
            profile=profile,
            boxes=boxes,
            flame_height=(max((box["depth"] for box in boxes), default=0) + 1) * _BOX,
            lines=[],
            live="" if job.is_final else reverse("admin:ops_job_live", args=[job.pk]),
            took=None,
            result=job.result if isinstance(job.result, dict) else {},
        )

    return view


def profile_file_view(request: HttpRequest, job_id: UUID, form: str) -> HttpResponse:
    """``speedscope`` or ``collapsed``."""
    job = _job(request, job_id)
    profile = _profile(job)
    if not profile or form not in ("speedscope", "collapsed"):
        raise Http404("There is no such file.")
    if form == "speedscope":
        answer = HttpResponse(json.dumps(speedscope(profile, job.title)), content_type="application/json")
        name = f"profile-{job.pk}.speedscope.json"
    else:
        answer = HttpResponse(collapsed(profile), content_type="text/plain; charset=utf-8")
        name = f"profile-{job.pk}.collapsed.txt"
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer


def _job(request: HttpRequest, job_id: UUID) -> Job:
    if not is_operator(request):
        raise PermissionDenied
    job = Job.objects.filter(pk=job_id, kind="ops.profile").first()
    if job is None:
        raise Http404("There is no such profile.")
    return job


def _profile(job: Job) -> dict[str, Any]:
    result = job.result if isinstance(job.result, dict) else {}
    found = result.get("profile")
    return found if isinstance(found, dict) else {}
