"""Whatever an operator pastes opens its object."""

from __future__ import annotations

import pytest
from django.urls import reverse
from django.utils import timezone

from ops.logbook import explorer
from ops.models import Issue, LogLine
from tests.admin.conftest import world  # noqa: F401


@pytest.fixture
def operator(world, client):  # noqa: F811
    client.force_login(world.operator)
    return client


def addresses(term):
    return [found.address for found in explorer.search(term)]


def page(model, row):
    return reverse(f"admin:{model}_change", args=[row.pk])


def test_every_kind_of_id_opens_its_object(world, operator):  # noqa: F811
    from chat.models import Message, RefusedEvent

    message = Message.objects.exclude(external_id="").filter(transport="matrix").first() or Message.objects.first()
    Message.objects.filter(pk=message.pk).update(external_id="$event-of-this:hs")
    world.person.email = "ada@example.org"
    world.person.save()
    type(world.failed).objects.filter(pk=world.failed.pk).update(upstream_ref="run-0123456789")
    refused = RefusedEvent.objects.create(transport="matrix", external_id="$refused-event", reason="own")
    issue = Issue.objects.create(check_id="x", opened_at=timezone.now(), last_failed_at=timezone.now())
    room, account = world.mapping.room, world.mapping.account
    LogLine.objects.create(at=timezone.now(), level="info", event="x", request_id="0123456789abcdef")
    conversation = page("chat_conversation", world.conversation)
    for term, address in {
        world.agent.external_id: page("agents_agent", world.agent),
        world.agent.name: page("agents_agent", world.agent),
        account.user_id: page("agents_account", account),
        f"https://matrix.to/#/{account.user_id}": page("agents_account", account),
        room.room_id: page("agents_room", room),
        room.alias: page("agents_room", room),
        f"  `{room.room_id}` ": page("agents_room", room),
        "$event-of-this:hs": conversation,
        "$refused-event": page("chat_refusedevent", refused),
        f"message:{message.pk}": conversation,
        str(message.pk): conversation,
        f"turn {world.failed.pk}": page("chat_turn", world.failed),
        f"delivery:{world.dead.pk}": page("chat_delivery", world.dead),
        f"issue:{issue.pk}": page("ops_issue", issue),
        f"agent:{world.agent.pk}": page("agents_agent", world.agent),
        "run-0123456789": page("chat_turn", world.failed),
        str(world.job.pk): page("ops_job", world.job),
        "ada@example.org": page("chat_person", world.person),
        world.homeserver.name: page("ops_service", world.homeserver),
        world.token.name: page("ops_apitoken", world.token),
        "0123456789abcdef": reverse("admin:ops_logline_changelist"),
    }.items():
        found = [one.partition("?")[0].partition("#")[0] for one in addresses(term)]
        assert address in found, (term, found)
        for one in addresses(term):
            assert operator.get(one, follow=True).status_code == 200, one


@pytest.mark.parametrize(
    "term", ["", "x", "%", "\x00\x00", "$nothing", "@", "!", "9" * 40, "'; drop table", "a" * 5000, "turn:abc"]
)
def test_odd_terms_are_answered(world, term):  # noqa: F811
    explorer.search(term)


def test_one_broken_finder_costs_only_its_own(world, monkeypatch):  # noqa: F811
    def broken(term):
        raise RuntimeError("boom")

    first = explorer.finders()[0]
    monkeypatch.setitem(explorer._finders, "aa-broken", explorer.Finder("aa-broken", "broken", broken, first.sample))
    assert page("agents_agent", world.agent) in addresses(world.agent.external_id)


def test_the_search_of_the_site_uses_it(world, operator):  # noqa: F811
    answer = operator.get(reverse("admin:search") + f"?s={world.agent.external_id}&extended=1").content.decode()
    assert page("agents_agent", world.agent) in answer
