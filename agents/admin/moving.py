"""Moving an agent to another server: choose the server, choose its agent there, read what happens. Account and room stay."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from agents.admin.common import mapping_of
from agents.backends.errors import BackendError
from agents.models import Agent, AgentState
from agents.services.backends import backend_for, backend_services
from agents.services.moving import CannotMove, agent_move, agent_release
from agents.sync.stops import MOVED
from ops.admin.base import Deed, OperatorAdmin, actor_of
from ops.models import Service

# A longer list is no help: there the id is typed.
MOST_LISTED = 300


class MoveForm(forms.Form):
    """Which agent of the chosen server answers from now on."""

    external_id = forms.CharField(max_length=255, label="Agent there")
    keep = forms.ChoiceField(
        required=False,
        label="If that agent has a room already",
        choices=[
            ("", "Do not move: it is said, and nothing changes"),
            ("own", "This agent's room goes on"),
            ("theirs", "That agent's room goes on"),
        ],
        widget=forms.RadioSelect,
        initial="",
        help_text="The other room is archived with everything in it.",
    )

    def __init__(self, data: Any, *, listed: list[tuple[str, str]], own: str) -> None:
        super().__init__(data)
        ids = [key for key, _ in listed]
        if listed and len(listed) <= MOST_LISTED:
            self.fields["external_id"] = forms.ChoiceField(choices=listed, label="Agent there")
        else:
            self.fields["external_id"].help_text = f"Its id on that server, which lists {len(listed):,} agents."
        self.order_fields(["external_id", "keep"])
        if own in ids:
            self.initial["external_id"] = own


def move_view(page: OperatorAdmin, request: HttpRequest, object_id: int) -> HttpResponse:
    """GET asks for the server, then lists its agents; POST moves."""
    row: Agent = page._row(request, str(object_id))
    services = backend_services()
    wanted = request.POST.get("service", "") or request.GET.get("service", "")
    service = next((one for one in services if one.name == wanted), None)
    listed, problem = _listed(service) if service is not None else ([], "")
    form: MoveForm | None = None
    if service is not None and not problem:
        form = MoveForm(request.POST if request.method == "POST" else None, listed=listed, own=row.external_id)
        if request.method == "POST" and form.is_valid():
            asked = form.cleaned_data
            try:
                moved = agent_move(
                    agent=row, service=service, external_id=asked["external_id"], keep=asked["keep"],
                    actor=actor_of(request),
                )  # fmt: skip
            except CannotMove as error:
                form.add_error(None, error.sentence)
            else:
                messages.success(
                    request,
                    f"{moved} is answered by {service} now. Its account, room and conversations are the same.",
                )
                return HttpResponseRedirect(page.address_of(moved))
    mapping = mapping_of(row)
    return page.page(
        request,
        "switchboard/move.html",
        title=f"Move {row}",
        row=row,
        mapping=mapping,
        services=services,
        service=service,
        problem=problem,
        empty=service is not None and not problem and not listed,
        form=form,
        back=page.address_of(row),
    )


def _listed(service: Service) -> tuple[list[tuple[str, str]], str]:
    """(id, words) of the agents that a server lists, or why it cannot be read."""
    try:
        found = backend_for(service).list_agents().agents
    except BackendError as error:
        return [], f"The agents of {service.name} could not be read: {error.reason}"
    words = [(one.external_id, f"{one.name} ({one.external_id})") for one in found]
    return sorted(words, key=lambda one: one[1].casefold()), ""


def moving_deeds() -> tuple[Deed, ...]:
    """Leads to the page of a move; and lets what was left behind be taken up again."""
    return (
        Deed(
            "move",
            "Move to another server…",
            lambda request, row: HttpResponseRedirect(reverse("admin:agents_agent_move", args=[row.pk])),
            shown=lambda row: row.state != AgentState.ARCHIVED,
        ),
        Deed(
            "release",
            "Take it up again",
            _release,
            button="Take it up again…",
            explain=lambda row: (
                f"{row} is what an agent left behind on {row.service} when it moved, so sync passes it by. Afterwards sync takes it up "
                "as an agent of its own, with an account and a room of its own."
            ),
            shown=lambda row: row.fingerprint == MOVED,
        ),
    )


def _release(request: HttpRequest, row: Agent) -> str:
    agent_release(agent=row, actor=actor_of(request))
    return f"The next sync takes up {row}, with an account and a room of its own."
