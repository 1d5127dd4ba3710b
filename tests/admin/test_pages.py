"""Every page answers an operator and nobody else, shows no secret, and asks no more for many agents than for few."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from agents.models import MemoryEdit, SyncRun
from chat.models import Message, RefusedEvent
from ops.models import AuditEvent, CheckState
from tests.admin.conftest import SECRET, World, make_agents

# Pages are registered when addresses are looked up, which nobody has done yet.
admin.autodiscover()
LISTS = sorted(
    f"{model._meta.app_label}_{model._meta.model_name}"
    for model in admin.site._registry
    if model._meta.app_label in {"ops", "agents", "chat"}
)


def addresses(world: World) -> dict[str, str]:
    message = Message.objects.get(seq=1)
    return {
        "dashboard": reverse("admin:index"),
        "agent": reverse("admin:agents_agent_change", args=[world.agent.pk]),
        "room": reverse("admin:agents_room_change", args=[world.mapping.room_id]),
        "sync run": reverse("admin:agents_syncrun_change", args=[SyncRun.objects.latest("id").pk]),
        "sync plan": reverse("admin:agents_syncrun_plan"),
        "memory": reverse("admin:agents_agent_memory", args=[world.agent.pk]),
        "memory edit": reverse("admin:agents_memoryedit_change", args=[MemoryEdit.objects.latest("id").pk]),
        "conversation": reverse("admin:chat_conversation_change", args=[world.conversation.pk]),
        "conversation, earlier": reverse("admin:chat_conversation_change", args=[world.conversation.pk]) + "?before=3",
        "turn": reverse("admin:chat_turn_change", args=[world.failed.pk]),
        "delivery": reverse("admin:chat_delivery_change", args=[world.dead.pk]),
        "dead letters": reverse("admin:dead_letters"),
        "refused": reverse("admin:chat_refusedevent_change", args=[RefusedEvent.objects.latest("id").pk]),
        "test message": reverse("admin:chat_test", args=[world.agent.pk]),
        "test, watched": reverse("admin:chat_test_watch", args=[world.agent.pk, message.pk]),
        "test, live": reverse("admin:chat_test_live", args=[world.agent.pk, message.pk]),
        "service": reverse("admin:ops_service_change", args=[world.homeserver.pk]),
        "service form": reverse("admin:ops_service_edit", args=[world.demo.pk]),
        "service kinds": reverse("admin:ops_service_add"),
        "new service": reverse("admin:ops_service_new", args=["anthropic"]),
        "check": reverse("admin:ops_checkstate_change", args=[CheckState.objects.latest("id").pk]),
        "job": reverse("admin:ops_job_change", args=[world.job.pk]),
        "job, live": reverse("admin:ops_job_live", args=[world.job.pk]),
        "audit": reverse("admin:ops_auditevent_change", args=[AuditEvent.objects.order_by("id").first().pk]),
        "token": reverse("admin:ops_apitoken_change", args=[world.token.pk]),
        "new token": reverse("admin:ops_apitoken_add"),
        "person": reverse("admin:chat_person_change", args=[world.person.pk]),
        "new person": reverse("admin:chat_person_add"),
        "search": reverse("admin:search") + "?s=agent&extended=1",
        "explained deed": reverse("admin:agents_agent_deed", args=[world.agent.pk, "recreate"]),
    }


def test_every_page_opens_for_an_operator_without_secrets(world: World, client: Any) -> None:
    for name, address in addresses(world).items():
        answer = client.get(address)
        assert answer.status_code == 200, name
        assert SECRET not in answer.content.decode(), name
        assert "http-equiv" not in answer.content.decode(), name


@pytest.mark.parametrize("name", LISTS)
def test_every_list_opens_searches_and_is_empty_with_words(world: World, client: Any, name: str) -> None:
    address = reverse(f"admin:{name}_changelist")
    page = client.get(address)
    assert page.status_code == 200
    assert SECRET not in page.content.decode()
    found = client.get(address, {"q": "nothing-of-this-name"})
    assert found.status_code == 200
    assert "Nothing fits" in found.content.decode()


def test_nobody_else_gets_in(world: World, client: Any) -> None:
    pages = [*addresses(world).values(), *(reverse(f"admin:{name}_changelist") for name in LISTS)]
    client.force_login(world.person)
    for address in pages:
        answer = client.get(address)
        assert answer.status_code == 302, address
        assert "/login/" in answer["Location"], address
    client.logout()
    for address in pages:
        assert client.get(address).status_code == 302, address


def test_pages_name_no_other_host(world: World, client: Any) -> None:
    """Only links that somebody clicks may lead elsewhere: nothing is loaded from another host."""
    import re

    for address in (reverse("admin:index"), reverse("admin:agents_agent_change", args=[world.agent.pk])):
        text = client.get(address).content.decode()
        assert not re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=[\"']?(?:https?:)?//", text)


@pytest.mark.parametrize("name", ["index", "agents_agent_changelist", "agents_mapping_changelist", "agents_room_changelist", "agents_account_changelist"])  # fmt: skip
def test_queries_do_not_grow_with_agents(world: World, client: Any, name: str) -> None:
    make_agents(world.demo, world.homeserver, 9, start=1)
    client.get(reverse("admin:index"))  # the session's use is noted once a minute
    few = _queries(client, reverse(f"admin:{name}"))
    make_agents(world.demo, world.homeserver, 190, start=10)
    assert _queries(client, reverse(f"admin:{name}")) == few
    assert few <= 40


def _queries(client: Any, address: str) -> int:
    with CaptureQueriesContext(connection) as asked:
        assert client.get(address).status_code == 200
    return len(asked)


def test_search_finds_what_an_operator_may_paste(world: World, client: Any) -> None:
    for term in ("@agent_0:hs.test", "!r0:hs.test", "#agent_0:hs.test", "id-0", "Agent 000"):
        text = client.get(reverse("admin:search"), {"s": term, "extended": "1"}).content.decode()
        assert "Agent 000" in text, term
    job = client.get(reverse("admin:search"), {"s": str(world.job.pk), "extended": "1"}).content.decode()
    assert reverse("admin:ops_job_change", args=[world.job.pk]) in job


def test_the_dashboard_says_what_needs_the_operator(world: World, client: Any) -> None:
    text = client.get(reverse("admin:index")).content.decode()
    assert "need you." in text
    assert "1 answer failed and 1 delivery was given up." in text
    assert "The last sync stopped and asks" in text
    assert "No worker is running" in text


def test_the_root_leads_to_the_dashboard(world: World, client: Any) -> None:
    assert client.get("/")["Location"] == reverse("admin:index")
