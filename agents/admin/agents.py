"""Agents: who is connected to whom, and what can be done about it."""

from __future__ import annotations

from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from unfold.decorators import display

from agents.admin.agent_deeds import compare_deed, session_deeds, speaks_by_session
from agents.admin.common import EXPECTED, account_state, agent_status, client_address, mapping_of
from agents.admin.drift import drift_lines, drift_word, open_drift
from agents.admin.filters import AgentDriftFilter, ConnectionFilter, PausedFilter
from agents.admin.moving import move_view, moving_deeds
from agents.backends.registry import BACKENDS
from agents.models import Agent, AgentState, MemoryPolicy
from agents.services.agents import agent_define, agent_pause, agent_resume, agent_set_memory_policy
from agents.services.memory import has_memory
from agents.services.moving import CannotMove
from agents.services.rooms import room_set_quiet
from ops import html
from ops.admin.base import Deed, OperatorAdmin, actor_of
from ops.admin.panels import Button
from ops.models import JobTrigger, Service
from ops.services.jobs import job_start


class DefinitionForm(forms.Form):
    """What an agent that is defined here consists of."""

    name = forms.CharField(max_length=255)
    system_prompt = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 10}), help_text="Who the agent is and how it behaves."
    )
    model = forms.CharField(max_length=255, required=False, help_text="The service's own default when empty.")
    description = forms.CharField(max_length=1000, required=False)
    max_tokens = forms.IntegerField(required=False, min_value=1, label="Longest answer, in tokens")


@admin.register(Agent)
class AgentAdmin(OperatorAdmin):
    list_display = ("name", "state_lamp", "drift", "account", "room", "service", "seen")
    list_display_links = ("name",)
    list_filter = (
        ConnectionFilter,
        AgentDriftFilter,
        PausedFilter,
        "state",
        ("service", admin.RelatedOnlyFieldListFilter),
        "memory_policy",
    )
    list_select_related = ("service", "mapping__account", "mapping__room")
    search_fields = (
        "name", "external_id", "mapping__account__user_id", "mapping__room__room_id", "mapping__room__alias",
    )  # fmt: skip
    search_help_text = "Name, agent id, Matrix id or room id"
    detail_template = "switchboard/agent.html"
    expected_errors = (ValidationError, CannotMove, *EXPECTED)
    intro = "Every agent with the account it speaks as and the room it speaks in."
    empty_title = "No agent yet"
    empty_text = "Agents appear here when a service on which agents live is set up and a sync has read its list."

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("define/<int:service_id>/", wrap(self.define_view), name="agents_agent_define"),
            path("<int:object_id>/move/", wrap(partial(move_view, self)), name="agents_agent_move"),
            path("<path:object_id>/define/", wrap(self.redefine_view), name="agents_agent_redefine"),
        ]
        return [*own, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        buttons = [Button("Sync now…", reverse("admin:agents_syncrun_plan"), primary=True)]
        kinds = [kind.kind for kind in BACKENDS.values() if kind.traits.defined_here]
        for service in Service.objects.filter(kind__in=kinds, enabled=True):
            buttons.append(
                Button(f"Define an agent on {service.name}", reverse("admin:agents_agent_define", args=[service.pk]))
            )
        return super().changelist_view(request, {"list_buttons": buttons, **(extra_context or {})})

    @display(description="State", ordering="state")
    def state_lamp(self, row: Agent) -> str:
        return html.lamp(*agent_status(row))

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related(open_drift("mapping__drifts"))

    @display(description="Drift")
    def drift(self, row: Agent) -> str:
        return drift_word(mapping_of(row))

    @display(description="Account", ordering="mapping__account__user_id")
    def account(self, row: Agent) -> str:
        mapping = mapping_of(row)
        return html.copyable(mapping.account.user_id if mapping else "")

    @display(description="Room")
    def room(self, row: Agent) -> str:
        mapping = mapping_of(row)
        address = client_address(mapping.room if mapping else None)
        return html.outside(address, "Open") if address else ""

    @display(description="Updated", ordering="updated_at")
    def seen(self, row: Agent) -> str:
        return html.ago(row.updated_at)

    def deeds(self) -> tuple[Deed, ...]:
        isolated, shared = MemoryPolicy.ISOLATED, MemoryPolicy.SHARED
        return (
            Deed("resume", "Resume", self.resume, primary=True, shown=lambda row: row.paused),
            Deed(
                "pause",
                "Pause",
                self.pause,
                explain=lambda row: (
                    f"{row} finishes what it is answering and then answers nothing. Messages are kept in order and answered when "
                    "you resume it. People are not told."
                ),
                shown=lambda row: not row.paused and row.state != AgentState.ARCHIVED,
            ),
            Deed(
                "quiet", "Quiet room", lambda r, a: self.quiet(r, a, True), shown=lambda row: _room_is(row, quiet=False)
            ),
            Deed(
                "unquiet",
                "End quiet",
                lambda r, a: self.quiet(r, a, False),
                shown=lambda row: _room_is(row, quiet=True),
            ),
            Deed(
                "share_memory",
                "Share one memory",
                lambda r, a: self.policy(r, a, shared),
                explain=lambda row: (
                    f"All conversations with {row} go into one history from now on: what one person says may come up in somebody "
                    "else's chat. What was said until now stays where it is."
                ),
                danger=True,
                shown=lambda row: _keeps_history(row) and row.memory_policy == isolated,
            ),
            Deed(
                "isolate_memory",
                "Keep conversations apart",
                lambda r, a: self.policy(r, a, isolated),
                explain=lambda row: f"From now on each conversation with {row} has a history of its own.",
                shown=lambda row: _keeps_history(row) and row.memory_policy == shared,
            ),
            Deed(
                "recreate",
                "Re-create on the homeserver",
                self.recreate,
                explain=lambda row: (
                    "The homeserver is asked what is there, and only what is missing is made: the account, its name and picture, "
                    "its room, the room's place in the space. A room that the agent can get into is kept. If it cannot, a new room is "
                    "made and takes over the address; everybody is invited again, and what was said stays in the conversation here "
                    "but not in the new room."
                ),
                danger=True,
                shown=lambda row: mapping_of(row) is not None and row.state != AgentState.ARCHIVED,
            ),
            compare_deed(),
            *session_deeds(),
            *moving_deeds(),
        )

    def pause(self, request: HttpRequest, row: Agent) -> str:
        agent_pause(agent=row, actor=actor_of(request))
        return f"{row} is paused. Its messages wait."

    def resume(self, request: HttpRequest, row: Agent) -> str:
        agent_resume(agent=row, actor=actor_of(request))
        return f"{row} answers again, beginning with what has waited."

    def quiet(self, request: HttpRequest, row: Agent, quiet: bool) -> str:
        room = row.mapping.room
        assert room is not None
        room_set_quiet(room=room, quiet=quiet, actor=actor_of(request))
        return (
            f"{row} answers in its room only when it is mentioned."
            if quiet
            else f"{row} answers everything in its room."
        )

    def policy(self, request: HttpRequest, row: Agent, policy: MemoryPolicy) -> str:
        agent_set_memory_policy(agent=row, policy=policy, actor=actor_of(request))
        return f"{row}: {policy.label}."

    def recreate(self, request: HttpRequest, row: Agent) -> HttpResponse:
        job = job_start(
            kind="agents.recreate",
            title=f"Put {row} back on the homeserver",
            actor=actor_of(request),
            trigger=JobTrigger.ADMIN,
            params={"mapping": row.mapping.pk},
            once=True,
        )
        return HttpResponseRedirect(reverse("admin:ops_job_change", args=[job.pk]))

    def detail_context(self, request: HttpRequest, row: Agent) -> dict[str, Any]:
        mapping = mapping_of(row)
        lamp, word = agent_status(row)
        return {
            "mapping": mapping,
            "lamp_state": lamp,
            "word": word,
            "sentence": _sentence(row),
            "room_address": client_address(mapping.room if mapping else None),
            "has_memory": has_memory(row),
            "session": account_state(mapping.account) if mapping and speaks_by_session(row) else None,
            "drift": drift_lines(mapping.drifts.filter(mended_at=None).order_by("mends", "-found_at")[:20])
            if mapping
            else [],
            "edits": list(row.memory_edits.all()[:5]),
            "define_address": reverse("admin:agents_agent_redefine", args=[row.pk]) if row.definition else "",
        }

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Agent | None:
        rows = Agent.objects.select_related(*self.list_select_related, "mapping__account__homeserver")
        return rows.filter(pk=object_id).first() if object_id.isdigit() else None

    def define_view(self, request: HttpRequest, service_id: int) -> HttpResponse:
        """The form of a new agent on a service whose agents live here."""
        service = Service.objects.filter(pk=service_id).first()
        if service is None:
            messages.error(request, "This service no longer exists.")
            return HttpResponseRedirect(reverse("admin:agents_agent_changelist"))
        return self._definition(request, service, None)

    def redefine_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The form of an agent that is defined here."""
        row = self._row(request, object_id)
        return self._definition(request, row.service, row)

    def _definition(self, request: HttpRequest, service: Service, row: Agent | None) -> HttpResponse:
        initial = {"name": row.name, "description": row.description, **row.definition} if row else {}
        form = DefinitionForm(request.POST or None, initial=initial)
        if request.method == "POST" and form.is_valid():
            try:
                agent = agent_define(service=service, agent=row, actor=actor_of(request), **form.cleaned_data)
            except ValidationError as error:
                for name, sentences in error.message_dict.items():
                    form.add_error(name if name in form.fields else None, sentences)
            else:
                messages.success(request, f"{agent} is defined. The next sync gives it its account and its room.")
                return HttpResponseRedirect(self.address_of(agent))
        return self.page(
            request,
            "switchboard/form.html",
            title=f"Define {row}" if row else f"Define an agent on {service.name}",
            form=form,
            back=self.address_of(row) if row else reverse("admin:agents_agent_changelist"),
            sentence="A model is no agent yet: a name and a system prompt make it one.",
        )


def _room_is(row: Agent, *, quiet: bool) -> bool:
    mapping = mapping_of(row)
    return mapping is not None and mapping.room is not None and mapping.room.quiet is quiet


def _keeps_history(row: Agent) -> bool:
    kind = BACKENDS.get(row.service.kind)
    return kind is not None and kind.traits.has_conversations


def _sentence(row: Agent) -> str:
    mapping = mapping_of(row)
    if row.state == AgentState.ARCHIVED:
        return f"{row} has left {row.service}. Its room stays with all that was said, and is no longer listed."
    if mapping is not None and mapping.problem:
        return mapping.problem
    if row.state == AgentState.MISSING:
        return f"{row.service} no longer lists it. It is archived when it stays away."
    if row.paused:
        return "An operator paused it: messages are kept and wait."
    if mapping is None or mapping.room is None or not mapping.room.room_id:
        return "It has no room yet. A sync makes one as soon as a homeserver is set up."
    return f"It speaks as {mapping.account.user_id} and answers in its room."
