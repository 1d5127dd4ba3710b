"""After a loss: our rows anew from a living homeserver, or a homeserver anew from our rows. Which of the two was lost decides."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from agents.admin.common import EXPECTED
from agents.models import Mapping, Room
from agents.services.backends import backend_services, homeserver_of, homeserver_service
from agents.services.rebuild import RebuildPlan, rebuild_plan
from agents.services.sync import UnknownService
from ops.admin.base import OperatorAdmin, actor_of, sentence_of
from ops.models import JobTrigger
from ops.services.jobs import job_start

SHOWN = 200


def restore_view(page: OperatorAdmin, request: HttpRequest) -> HttpResponse:
    """GET explains both ways; with ``look`` it asks the homeserver what it has of ours. POST writes the rows as a job."""
    service = homeserver_service()
    wanted = request.POST.get("service", "") or request.GET.get("service", "")
    if request.method == "POST":
        return _start(request, wanted)
    plan: RebuildPlan | None = None
    problem = ""
    if service is not None and request.GET.get("look"):
        try:
            plan = rebuild_plan(homeserver=homeserver_of(service), service_name=wanted)
        except (UnknownService, *EXPECTED) as error:
            problem = sentence_of(error)
    return page.page(
        request,
        "switchboard/restore.html",
        title="After a loss",
        homeserver=service,
        services=backend_services(),
        wanted=wanted,
        problem=problem,
        mapped=Mapping.objects.filter(room__room_id__isnull=False).count(),
        rooms=Room.objects.filter(room_id__isnull=False).count(),
        **_found(plan),
    )


def _found(plan: RebuildPlan | None) -> dict[str, Any]:
    if plan is None:
        return {"plan": None}
    found = plan.search
    return {
        "plan": plan,
        "claims": found.claims[:SHOWN],
        "more": max(0, len(found.claims) - SHOWN),
        "doubts": found.doubts[:SHOWN],
        "absent": len(found.absent),
        "unclaimed": found.unclaimed[:SHOWN],
        "total": len(found.claims),
    }


def _start(request: HttpRequest, service: str) -> HttpResponse:
    job = job_start(
        kind="agents.rebuild",
        title=f"Rebuild mappings{' of ' + service if service else ''} from the homeserver",
        actor=actor_of(request),
        trigger=JobTrigger.ADMIN,
        params={"service": service},
        once=True,
    )
    return HttpResponseRedirect(reverse("admin:ops_job_change", args=[job.pk]))
