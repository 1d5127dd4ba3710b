"""Each button calls its service, says what it did, and leaves an audit event; GET never changes anything."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse

from agents.backends.base import MemoryBlock
from agents.models import MemoryEdit, MemoryPolicy
from chat.models import Delivery, DeliveryState, Message, Person, Turn, TurnState
from ops.models import ApiToken, AuditEvent, Job, Service
from ops.registry import TestResult
from tests.admin.conftest import SECRET, World, make_agents


@pytest.fixture(autouse=True)
def no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent to workers: the rows say what would be done."""
    monkeypatch.setattr("ops.services.jobs.wake", lambda job: None)
    monkeypatch.setattr("chat.wakeup._send", lambda task, *ids: None)


def deed(client: Any, kind: str, pk: Any, name: str, **data: str) -> Any:
    address = reverse(f"admin:{kind}_deed", args=[pk, name])
    assert client.get(address).status_code == 200
    return client.post(address, data, follow=True)


def audited(action: str) -> AuditEvent:
    event = AuditEvent.objects.filter(action=action).first()
    assert event is not None, f"no audit event {action}"
    assert event.actor == "person:ada"
    return event


def test_pause_and_resume(world: World, client: Any) -> None:
    page = deed(client, "agents_agent", world.agent.pk, "pause").content.decode()
    world.agent.refresh_from_db()
    assert world.agent.paused
    assert "Its messages wait." in page
    assert audited("agent.paused").after == {"paused": True}
    deed(client, "agents_agent", world.agent.pk, "resume")
    world.agent.refresh_from_db()
    assert not world.agent.paused
    audited("agent.resumed")


def test_explaining_changes_nothing(world: World, client: Any) -> None:
    before = AuditEvent.objects.count()
    own = client.get(reverse("admin:agents_agent_change", args=[world.agent.pk])).content.decode()
    address = reverse("admin:agents_agent_deed", args=[world.agent.pk, "pause"])
    # What has to be explained is a link to its explanation, not a button that does it.
    assert f'href="{address}"' in own
    assert f'action="{address}"' not in own
    page = client.get(reverse("admin:agents_agent_deed", args=[world.agent.pk, "pause"])).content.decode()
    assert "Messages are kept in order" in page
    assert "Agent 000" in page
    assert AuditEvent.objects.count() == before


def test_a_deed_that_does_not_fit_is_refused(world: World, client: Any) -> None:
    page = client.post(
        reverse("admin:agents_agent_deed", args=[world.agent.pk, "resume"]), follow=True
    ).content.decode()
    assert "not possible" in page
    assert not AuditEvent.objects.filter(action="agent.resumed").exists()


def test_quiet_room_from_agent_and_room(world: World, client: Any) -> None:
    deed(client, "agents_agent", world.agent.pk, "quiet")
    world.mapping.room.refresh_from_db()
    assert world.mapping.room.quiet
    audited("room.quieted")
    deed(client, "agents_room", world.mapping.room_id, "unquiet")
    world.mapping.room.refresh_from_db()
    assert not world.mapping.room.quiet
    audited("room.unquieted")


def test_memory_policy(world: World, client: Any) -> None:
    Service.objects.filter(pk=world.demo.pk).update(kind="letta")
    deed(client, "agents_agent", world.agent.pk, "share_memory")
    world.agent.refresh_from_db()
    assert world.agent.memory_policy == MemoryPolicy.SHARED
    assert audited("agent.memory_policy_set").before == {"memory_policy": "isolated"}


def test_recreate_starts_one_job(world: World, client: Any) -> None:
    deed(client, "agents_agent", world.agent.pk, "recreate")
    deed(client, "agents_agent", world.agent.pk, "recreate")
    job = Job.objects.get(kind="agents.recreate")
    assert job.params == {"mapping": world.mapping.pk}
    assert job.actor == "person:ada"


def test_memory_is_edited_with_its_history(world: World, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Backend:
        blocks = {
            "persona": MemoryBlock("persona", "old text", limit=20),
            "fixed": MemoryBlock("fixed", "x", read_only=True),
        }

        def read_memory(self, external_id: str) -> list[MemoryBlock]:
            return list(self.blocks.values())

        def write_memory(self, external_id: str, label: str, value: str) -> MemoryBlock:
            self.blocks[label] = MemoryBlock(label, value, limit=20)
            return self.blocks[label]

    monkeypatch.setattr("agents.services.memory.backend_for", lambda service: Backend())
    address = reverse("admin:agents_agent_memory", args=[world.agent.pk])
    assert "old text" in client.get(address).content.decode()
    client.post(address, {"label": "persona", "value": "new text"})
    edit = MemoryEdit.objects.first()
    assert edit is not None
    assert (edit.before, edit.after, edit.actor) == ("old text", "new text", "person:ada")
    event = audited("agent.memory_edited")
    assert "new text" not in f"{event.before}{event.after}{event.message}"
    for label, value, word in (
        ("fixed", "y", "read-only"),
        ("persona", "z" * 21, "holds 20"),
        ("none", "z", "no memory block"),
    ):
        assert word in client.post(address, {"label": label, "value": value}).content.decode()
    assert MemoryEdit.objects.count() == 2


def test_test_message_takes_the_whole_way(world: World, client: Any) -> None:
    page = client.post(reverse("admin:chat_test", args=[world.agent.pk]), {"text": "Are you there?"}, follow=True)
    message = Message.objects.get(text="Are you there?")
    assert message.sender.person == world.operator
    assert message.turns.get().state == TurnState.QUEUED
    audited("agent.test_message")
    text = page.content.decode()
    live = reverse("admin:chat_test_live", args=[world.agent.pk, message.pk])
    assert f'data-live="{live}"' in text
    Turn.objects.filter(message=message).update(state=TurnState.FAILED, error_reason="The server said 500.")
    message.turns.get().deliveries.all().delete()
    part = client.get(live).content.decode()
    assert "The server said 500." in part
    assert "data-live" not in part


def test_an_empty_test_message_is_refused_in_words(world: World, client: Any) -> None:
    page = client.post(reverse("admin:chat_test", args=[world.agent.pk]), {"text": "  "}).content.decode()
    assert "The message is empty." in page


def test_turns_are_retried_stopped_discarded(world: World, client: Any) -> None:
    deed(client, "chat_turn", world.failed.pk, "retry")
    world.failed.refresh_from_db()
    assert world.failed.state == TurnState.QUEUED
    audited("turn.retried")
    deed(client, "chat_turn", world.queued.pk, "cancel")
    world.queued.refresh_from_db()
    assert world.queued.state == TurnState.CANCELLED
    audited("turn.stopped")
    Turn.objects.filter(pk=world.failed.pk).update(state=TurnState.DEAD)
    deed(client, "chat_turn", world.failed.pk, "discard")
    world.failed.refresh_from_db()
    assert world.failed.finish_reason == "discarded"
    audited("turn.discarded")


def test_deliveries_are_sent_again_or_discarded(world: World, client: Any) -> None:
    deed(client, "chat_delivery", world.dead.pk, "retry")
    world.dead.refresh_from_db()
    assert world.dead.state == DeliveryState.QUEUED
    audited("delivery.retried")
    Delivery.objects.filter(pk=world.dead.pk).update(state=DeliveryState.DEAD)
    deed(client, "chat_delivery", world.dead.pk, "discard")
    audited("delivery.discarded")


def test_dead_letters_in_bulk(world: World, client: Any) -> None:
    address = reverse("admin:dead_letters")
    ticked = {"turn": str(world.failed.pk), "delivery": str(world.dead.pk)}
    asked = client.post(address, {"do": "discard", **ticked}).content.decode()
    assert "Discard 2 dead letters" in asked
    world.failed.refresh_from_db()
    assert world.failed.state == TurnState.DEAD
    page = client.post(address, {"do": "retry", **ticked}, follow=True).content.decode()
    assert "2 dead letters tried again." in page
    audited("turn.retried")
    audited("delivery.retried")
    assert "No dead letters" in page
    assert "Tick at least one" in client.post(address, {"do": "retry"}, follow=True).content.decode()
    late = client.post(address, {"do": "discard", "sure": "yes", **ticked}, follow=True).content.decode()
    assert "only a failed one can be discarded" in late


def test_sync_shows_its_plan_then_runs_as_a_job(world: World, client: Any) -> None:
    address = reverse("admin:agents_syncrun_plan")
    page = client.get(address, {"service": "demo"}).content.decode()
    assert "The plan" in page
    assert not Job.objects.exclude(pk=world.job.pk).exists()
    assert world.homeserver.name in page or "demo" in page
    client.post(address, {"service": "demo"})
    job = Job.objects.exclude(pk=world.job.pk).get()
    assert (job.kind, job.params) == ("agents.sync", {"service": "demo", "force": False})
    audited("job.started")


def test_a_stopped_plan_names_who_would_go_and_asks(world: World, client: Any) -> None:
    make_agents(world.demo, world.homeserver, 9, start=1)
    address = reverse("admin:agents_syncrun_plan")
    page = client.get(address).content.decode()
    assert "Needs a decision" in page
    assert "Apply anyway (force): archive 10 agents" in page
    assert "Agent 007" in page


def test_force_asks_for_a_word(world: World, client: Any) -> None:
    address = reverse("admin:agents_syncrun_plan")
    client.post(address, {"service": "", "force": "yes", "confirm": ""})
    assert not Job.objects.exclude(pk=world.job.pk).exists()
    client.post(address, {"service": "", "force": "yes", "confirm": "archive"})
    assert Job.objects.exclude(pk=world.job.pk).get().params == {"service": "", "force": True}


def test_a_job_is_cancelled_and_its_page_stops_asking(world: World, client: Any) -> None:
    live = reverse("admin:ops_job_live", args=[world.job.pk])
    assert "data-live" in client.get(live).content.decode()
    deed(client, "ops_job", world.job.pk, "cancel")
    audited("job.cancelled")
    assert "data-live" not in client.get(live).content.decode()


def test_a_service_is_tested(world: World, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    result = TestResult("ok", "Five demo agents answer.")
    monkeypatch.setattr("ops.services.services._ask", lambda known, service: result)
    assert "Five demo agents answer." in deed(client, "ops_service", world.demo.pk, "test").content.decode()
    audited("service.tested")


def test_a_service_is_made_and_its_secret_never_shown(world: World, client: Any) -> None:
    new = reverse("admin:ops_service_new", args=["letta"])
    data = {"name": "letta-1", "base_url": "http://127.0.0.1:8283", "enabled": "on", "field_token": SECRET}
    assert SECRET not in client.post(new, data, follow=True).content.decode()
    service = Service.objects.get(name="letta-1")
    assert service.credentials == {"token": SECRET}
    audited("service.created")
    edit = reverse("admin:ops_service_edit", args=[service.pk])
    assert SECRET not in client.get(edit).content.decode()
    client.post(edit, {"base_url": "http://127.0.0.1:8284", "enabled": "on", "field_token": ""})
    service.refresh_from_db()
    assert (service.base_url, service.credentials) == ("http://127.0.0.1:8284", {"token": SECRET})
    client.post(
        edit, {"base_url": "http://127.0.0.1:8284", "enabled": "on", "clear_field_token": "on", "clear_token": "on"}
    )
    service.refresh_from_db()
    assert service.credentials == {}
    refused = client.post(new, {"name": "Bad Name", "base_url": "ftp://x", "field_token": SECRET}).content.decode()
    assert "lower-case letters" in refused
    assert "An address starts with" in refused
    assert SECRET not in refused


def test_what_the_environment_manages_is_read_only(world: World, client: Any) -> None:
    page = client.get(reverse("admin:ops_service_edit", args=[world.homeserver.pk]), follow=True).content.decode()
    assert "The environment manages this service" in page
    assert "field_as_token" not in page


def test_services_are_switched_off_and_protected(world: World, client: Any) -> None:
    deed(client, "ops_service", world.demo.pk, "disable")
    world.demo.refresh_from_db()
    assert not world.demo.enabled
    audited("service.changed")
    page = deed(client, "ops_service", world.demo.pk, "delete").content.decode()
    assert "cannot be deleted" in page
    assert Service.objects.filter(pk=world.demo.pk).exists()


def test_a_token_is_shown_once(world: World, client: Any) -> None:
    made = client.post(reverse("admin:ops_apitoken_add"), {"name": "ci", "scope": "write", "days": "30"})
    token = ApiToken.objects.get(name="ci")
    text = made.content.decode()
    plaintext = text.split(f"swb_{token.prefix}.")[1].split('"')[0]
    assert "no-store" in made["Cache-Control"]
    audited("token.created")
    for address in (reverse("admin:ops_apitoken_change", args=[token.pk]), reverse("admin:ops_apitoken_changelist")):
        assert plaintext not in client.get(address).content.decode()
    deed(client, "ops_apitoken", token.pk, "revoke")
    token.refresh_from_db()
    assert token.revoked_at is not None
    audited("token.revoked")


def test_an_agent_is_defined_here(world: World, client: Any) -> None:
    service = Service.objects.create(name="claude", kind="anthropic")
    address = reverse("admin:agents_agent_define", args=[service.pk])
    assert "system prompt" in client.post(address, {"name": "Poet", "system_prompt": " "}).content.decode()
    client.post(address, {"name": "Poet", "system_prompt": "You rhyme."})
    agent = service.agents.get()
    assert (agent.external_id, agent.definition) == ("poet", {"system_prompt": "You rhyme."})
    audited("agent.defined")
    client.post(reverse("admin:agents_agent_redefine", args=[agent.pk]), {"name": "Bard", "system_prompt": "You sing."})
    agent.refresh_from_db()
    assert (agent.external_id, agent.name) == ("poet", "Bard")
    audited("agent.redefined")


def test_people_are_made_and_the_last_operator_stays(world: World, client: Any) -> None:
    client.post(
        reverse("admin:chat_person_add"),
        {
            "username": "cid",
            "usable_password": "true",
            "password1": "a long passphrase",
            "password2": "a long passphrase",
        },
    )
    assert Person.objects.filter(username="cid").exists()
    audited("person.created")
    address = reverse("admin:chat_person_change", args=[world.person.pk])
    client.post(
        address, {"username": "bea", "display_name": "Bea", "matrix_user_id": "@bea:hs.test", "is_active": "on"}
    )
    world.person.refresh_from_db()
    assert world.person.matrix_user_id == "@bea:hs.test"
    assert audited("person.changed").after["matrix_user_id"] == "@bea:hs.test"
    own = reverse("admin:chat_person_change", args=[world.operator.pk])
    assert "the only operator" in client.post(own, {"username": "ada", "is_active": "on"}).content.decode()
    world.operator.refresh_from_db()
    assert world.operator.is_staff
    password = reverse("admin:auth_user_password_change", args=[world.person.pk])
    client.post(
        password, {"usable_password": "true", "password1": "another passphrase", "password2": "another passphrase"}
    )
    world.person.refresh_from_db()
    assert world.person.check_password("another passphrase")
    audited("person.password_changed")


def test_nobody_else_can_do_anything(world: World, client: Any) -> None:
    client.force_login(world.person)
    client.post(reverse("admin:agents_agent_deed", args=[world.agent.pk, "pause"]))
    client.post(reverse("admin:dead_letters"), {"do": "retry", "turn": str(world.failed.pk)})
    world.agent.refresh_from_db()
    world.failed.refresh_from_db()
    assert not world.agent.paused
    assert world.failed.state == TurnState.DEAD
