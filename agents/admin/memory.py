"""An agent's memory: its blocks as the server has them now, and who changed what through Switchboard."""

from __future__ import annotations

import difflib
from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from unfold.decorators import display

from agents.admin.history import memory_history
from agents.backends.base import MemoryBlock
from agents.backends.errors import BackendError
from agents.models import Agent, MemoryEdit
from agents.services.memory import memory_read, memory_write
from ops import html
from ops.admin.base import OperatorAdmin, actor_of


@admin.register(MemoryEdit)
class MemoryEditAdmin(OperatorAdmin):
    list_display = ("label", "agent", "actor", "when")
    list_select_related = ("agent",)
    search_fields = ("label", "agent__name", "actor")
    detail_template = "switchboard/memory_edit.html"
    intro = "Changes of agents' memories that were made through Switchboard, with the text before and after."
    empty_title = "No memory was changed"
    empty_text = "Changes that somebody makes to an agent's memory on its page appear here."

    def get_urls(self) -> list[URLPattern]:
        # The page hangs on the agent, not on one edit: its address says so.
        view = self.admin_site.admin_view(self.memory_view)
        return [path("of/<int:agent_id>/", view, name="agents_agent_memory"), *super().get_urls()]

    @display(description="When", ordering="id")
    def when(self, row: MemoryEdit) -> str:
        return html.ago(row.at)

    def detail_context(self, request: HttpRequest, row: MemoryEdit) -> dict[str, Any]:
        lines = difflib.unified_diff(
            row.before.splitlines(), row.after.splitlines(), "before", "after", lineterm="", n=2
        )
        return {"diff": "\n".join(lines)}

    def memory_view(self, request: HttpRequest, agent_id: int) -> HttpResponse:
        """GET shows the blocks; POST replaces the text of one."""
        agent = Agent.objects.select_related("service").filter(pk=agent_id).first()
        if agent is None:
            messages.error(request, "This agent no longer exists.")
            return HttpResponseRedirect(reverse("admin:agents_agent_changelist"))
        typed: dict[str, str] = {}
        if request.method == "POST":
            label, value = request.POST.get("label", ""), request.POST.get("value", "").replace("\r\n", "\n")
            try:
                memory_write(agent=agent, label=label, value=value, actor=actor_of(request))
            except BackendError as error:
                messages.error(request, error.reason)
                typed[label] = value
            else:
                messages.success(request, f"The block {label} of {agent} is saved.")
                return HttpResponseRedirect(request.path)
        blocks: list[MemoryBlock] = []
        problem = ""
        try:
            blocks = memory_read(agent=agent)
        except BackendError as error:
            problem = error.reason
        return self.page(
            request,
            "switchboard/memory.html",
            title=f"Memory of {agent}",
            agent=agent,
            problem=problem,
            blocks=[
                (block, typed.get(block.label, block.value), len(block.value), memory_history(agent, block.label))
                for block in blocks
            ],
            edits=list(agent.memory_edits.all()[:30]),
        )
