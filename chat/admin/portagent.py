"""Moving over from Portagent: upload or name its data, see row by row what would become of it, then bring it over. Each step is a job."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from agents.models import Agent, AgentState
from chat.jobs import IMPORT
from chat.models import Person
from chat.portagent import folder
from chat.portagent.databases import NotPortagent
from ops.admin.base import OperatorAdmin, actor_of
from ops.models import Job, JobState, JobTrigger
from ops.services.jobs import job_start

_LABELS = {
    "user": "People",
    "invite": "Invitations",
    "image": "Conversations",
    "message": "Messages",
    "file": "Files",
    "kv": "Unreadable rows",
}
_ACTIONS = ("create", "unchanged", "changed", "reject")
_WISHES = ("path", "agent", "orphans", "match", "operators")
_SHOWN = 100


class SourceForm(forms.Form):
    """What is brought over, and how."""

    path = forms.CharField(
        max_length=500,
        required=False,
        label="Where it lies",
        help_text="A file or folder below DATA_DIR/imports: AGENTX_DIR, its data folder, one database, or a file of rejects.",
    )
    upload = forms.FileField(
        required=False,
        label="Or upload a database",
        help_text="portagent.db or agentx.db, or a file of rejects. With a -wal file beside it, use the folder.",
    )
    agent = forms.ModelChoiceField(
        Agent.objects.none(),
        required=False,
        label="Who answers from now on",
        help_text="Without one the conversations can be read, not continued.",
    )
    orphans = forms.CharField(
        max_length=150, required=False, label="Who gets conversations of nobody", help_text="A user name."
    )
    match = forms.BooleanField(required=False, label="Same name or e-mail as somebody here: the same person")
    operators = forms.BooleanField(required=False, label="Portagent's administrators become operators")

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        field = self.fields["agent"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = Agent.objects.exclude(state=AgentState.ARCHIVED).order_by("name")

    def clean_orphans(self) -> int | None:
        name = str(self.cleaned_data["orphans"]).strip()
        person = Person.objects.filter(username__iexact=name).first() if name else None
        if name and person is None:
            raise ValidationError(f"Nobody is called {name}.")
        return person.pk if person is not None else None

    def clean(self) -> dict[str, Any]:
        cleaned = dict(super().clean() or self.cleaned_data)
        if bool(cleaned.get("upload")) == bool(cleaned.get("path")):
            raise ValidationError("Name a place or upload a file: one of the two.")
        return cleaned

    def params(self) -> dict[str, Any]:
        """The parameters of the job. Raises ``NotPortagent`` for a place outside of the folder."""
        asked = self.cleaned_data
        if asked["upload"]:
            place = folder.receive([(asked["upload"].name or "file", asked["upload"].file)]).name
        else:
            place = str(folder.inside(asked["path"]).relative_to(folder.root().resolve()))
        agent = asked["agent"]
        return {
            "path": place,
            "agent": agent.pk if agent is not None else None,
            "orphans": asked["orphans"],
            "match": asked["match"],
            "operators": asked["operators"],
        }


def portagent_view(page: OperatorAdmin, request: HttpRequest) -> HttpResponse:
    """The first step; after it a dry run starts."""
    form = SourceForm(request.POST, request.FILES) if request.method == "POST" else SourceForm()
    if request.method == "POST" and form.is_valid():
        try:
            return _start(request, {**form.params(), "dry_run": True})
        except NotPortagent as error:
            form.add_error(None, str(error))
    recent = Job.objects.filter(kind=IMPORT).order_by("-created_at")[:10]
    return page.page(request, "switchboard/portagent.html", title="Import from Portagent", form=form, recent=recent)


def portagent_job_view(page: OperatorAdmin, request: HttpRequest, job_id: str) -> HttpResponse:
    """What a run found. POST brings over what a dry run has shown, with the same wishes."""
    from django.http import Http404

    job = Job.objects.filter(kind=IMPORT, pk=job_id).first()
    if job is None:
        raise Http404("There is no such import.")
    if request.method == "POST" and job.params.get("dry_run") and job.state == JobState.SUCCEEDED:
        return _start(request, {**{name: job.params.get(name) for name in _WISHES}, "dry_run": False})
    result = job.result or {}
    counts = result.get("counts", {})
    rows = [
        {"label": label, "numbers": [int(counts.get(action, {}).get(kind, 0)) for action in _ACTIONS]}
        for kind, label in _LABELS.items()
        if any(counts.get(action, {}).get(kind) for action in _ACTIONS)
    ]
    return page.page(
        request,
        "switchboard/portagent_job.html",
        title="Import from Portagent",
        job=job,
        over=job.state not in (JobState.QUEUED, JobState.RUNNING),
        done=job.state == JobState.SUCCEEDED,
        dry=bool(job.params.get("dry_run")),
        rows=rows,
        result=result,
        findings=result.get("findings", [])[:_SHOWN],
        agentless=not job.params.get("agent"),
    )


def _start(request: HttpRequest, params: dict[str, Any]) -> HttpResponse:
    job = job_start(kind=IMPORT, actor=actor_of(request), trigger=JobTrigger.ADMIN, params=params)
    return HttpResponseRedirect(reverse("admin:portagent_job", args=[job.pk]))
