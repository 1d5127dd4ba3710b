"""Agents that a person may talk to."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from ninja import Field, Query, Router

from chat.access.grants import agents_for
from chat.api.people.auth import caller_of
from chat.api.people.render import agent_json
from chat.api.people.schemas import AgentChoiceList
from ops.api.inputs import Text
from ops.api.paging import Paging, page

router = Router(tags=["Portal: agents"])


class AgentsFilter(Paging):
    q: Text = Field("", max_length=200, description="Only those with this in their name.")


@router.get("/agents", response=AgentChoiceList, operation_id="chat_agents", summary="List agents to talk to")
def agents(request: HttpRequest, query: Query[AgentsFilter]) -> HttpResponse:
    rows = agents_for(caller_of(request).person)
    if query.q:
        rows = rows.filter(name__icontains=query.q)
    return page(request, rows, query, render=agent_json, order=("name", "id"))
