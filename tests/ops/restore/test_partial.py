"""Restoring some kinds of rows into an installation that keeps the others."""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet
from django.contrib.auth import get_user_model
from django.utils import timezone

from agents.models import Agent
from chat.models import AgentGrant, Conversation, Message, Participant, ProgramLogin, Turn, UsageDay
from ops.models import ApiToken, AuditEvent, Service
from ops.services import restores

Person = get_user_model()


@pytest.fixture
def service(house):
    return Service.objects.create(name="letta", kind="demo", credentials={"token": "of-the-backup"})


def agent(service, name, **more):
    return Agent.objects.create(service=service, external_id=name, name=name, **more)


def restored(path, *kinds, **more):
    planned = restores.restore_plan(path=path, kinds=kinds, actor="command", **more)
    return restores.restore_apply(restore=planned, actor="command")


def table(restore, model):
    return next((one for one in restore.plan["models"] if one["model"] == model), None)


def test_only_what_was_asked_for_changes(service, backup_of):
    ada = Person.objects.create_user("ada", first_name="Ada")
    talk = Conversation.objects.create(title="Before")
    path = backup_of()
    Person.objects.filter(pk=ada.pk).update(first_name="Changed")
    Conversation.objects.filter(pk=talk.pk).update(title="Changed")
    Service.objects.filter(pk=service.pk).update(enabled=False)

    done = restored(path, "people")

    ada.refresh_from_db()
    talk.refresh_from_db()
    service.refresh_from_db()
    assert (ada.first_name, talk.title, service.enabled) == ("Ada", "Changed", False)
    assert {one["kind"] for one in done.plan["models"]} == {"people"}


def test_what_has_another_number_here_is_followed(service, backup_of):
    """The agents were made anew since, in another order: who refers to them refers to the right ones afterwards."""
    first, second = agent(service, "first"), agent(service, "second")
    path = backup_of()
    numbers = {"first": first.pk, "second": second.pk}
    Agent.objects.all().delete()
    Agent.objects.create(pk=numbers["second"], service=service, external_id="first", name="first")
    Agent.objects.create(pk=numbers["first"], service=service, external_id="second", name="second")
    ada = Person.objects.create_user("ada")
    for name in numbers:
        UsageDay.objects.create(
            day="2026-01-01", person=ada, agent=Agent.objects.get(external_id=name), messages=len(name)
        )
        AgentGrant.objects.create(person=ada, agent=Agent.objects.get(external_id=name))

    restored(path, "mappings")

    assert dict(Agent.objects.values_list("external_id", "pk")) == numbers
    assert set(UsageDay.objects.values_list("agent__external_id", "messages")) == {("first", 5), ("second", 6)}
    assert AgentGrant.objects.count() == 2


def test_rows_that_others_need_stay_and_are_named(service, backup_of):
    agent(service, "old")
    path = backup_of()
    new, idle = agent(service, "new"), agent(service, "idle")
    talk = Conversation.objects.create(title="With the new one", agent=new)

    done = restored(path, "mappings")

    assert set(Agent.objects.values_list("external_id", flat=True)) == {"old", "new"}
    counted = table(done, "agents.Agent")
    assert (counted["kept"], counted["same"], counted["removed"]) == (1, 1, 1), "each row is counted once"
    assert any("new" in one["sentence"] for one in done.findings if one["code"] == "restore.kept")
    talk.refresh_from_db()
    assert talk.agent_id == new.pk
    assert not Agent.objects.filter(pk=idle.pk).exists()


def test_a_row_that_others_need_makes_room_for_the_number_of_the_backups(service, backup_of):
    old = agent(service, "old")
    number = old.pk
    path = backup_of()
    old.delete()
    other = Agent.objects.create(pk=number, service=service, external_id="other", name="other")
    talk = Conversation.objects.create(title="With the other", agent=other)

    restored(path, "mappings")

    talk.refresh_from_db()
    assert talk.agent.external_id == "other"
    assert talk.agent_id != number
    assert Agent.objects.get(pk=number).external_id == "old"


def test_what_refers_to_nothing_is_left_out_and_named(service, backup_of):
    """Conversations of an agent and a person who are gone, restored without them."""
    gone, stays = agent(service, "gone"), agent(service, "stays")
    ada = Person.objects.create_user("ada")
    talk = Conversation.objects.create(title="Old", agent=gone)
    said = Participant.objects.create(conversation=talk, kind="agent", agent=gone, external_id="gone")
    now = timezone.now()
    message = Message.objects.create(
        conversation=talk,
        seq=1,
        sender=said,
        role="assistant",
        text="Hello",
        transport="t",
        received_at=now,
        stored_at=now,
    )
    Turn.objects.create(message=message, conversation=talk, agent=gone, seq=1, not_before=now, created_at=now)
    path = backup_of()
    Conversation.objects.all().delete()
    gone.delete()
    ada.delete()

    done = restored(path, "conversations")

    talk = Conversation.objects.get()
    assert (talk.title, talk.agent_id) == ("Old", None)
    assert Message.objects.get().text == "Hello"
    assert stays.pk
    assert not Turn.objects.exists(), "a turn is of an agent"
    assert {one["code"] for one in done.findings} >= {"restore.emptied", "restore.left_out"}


def test_what_was_revoked_since_stays_revoked(service, backup_of):
    bob = Person.objects.create_user("bob")
    ada = Person.objects.create_user("ada")
    token = ApiToken.objects.create(owner=bob, name="t", prefix="swb_1234")
    path = backup_of()
    Person.objects.filter(pk=bob.pk).update(is_active=False)
    Person.objects.filter(pk=ada.pk).delete()
    ApiToken.objects.filter(pk=token.pk).update(revoked_at=timezone.now())

    done = restored(path, "people")

    assert not Person.objects.get(username="bob").is_active
    assert ApiToken.objects.get(pk=token.pk).revoked_at
    assert Person.objects.get(username="ada").is_active, "who was deleted comes back"
    assert any(one["code"] == "restore.stays_revoked" for one in done.findings)


def test_whoever_has_the_number_of_somebody_else_now_is_not_signed_in_as_them(house, backup_of):
    """Person 7 of the backup is not person 7 of today: what signs today's in goes."""
    ada = Person.objects.create_user("ada")
    path = backup_of()
    number = ada.pk
    ada.delete()
    Person.objects.create(pk=number, username="mallory", date_joined=timezone.now())
    ProgramLogin.objects.create(person_id=number, **_login(ProgramLogin))

    restored(path)

    assert Person.objects.get(pk=number).username == "ada"
    assert not ProgramLogin.objects.exists()


def _login(model):
    values = {}
    for field in model._meta.local_concrete_fields:
        if field.name in ("id", "person") or field.null or field.has_default():
            continue
        kind = field.get_internal_type()
        values[field.name] = timezone.now() if kind == "DateTimeField" else "x"
    return values


def test_what_was_seen_outside_is_no_difference(service, backup_of):
    path = backup_of()
    Service.objects.filter(pk=service.pk).update(status="down", version="9", checked_at=timezone.now())

    planned = restores.restore_plan(path=path, kinds=("settings",), actor="command")

    assert table(planned, "ops.Service")["changed"] == 0


def test_a_secret_is_no_difference_only_because_it_was_written_anew(service, backup_of):
    path = backup_of()
    service.credentials = {"token": "of-the-backup"}
    service.save()
    same = restores.restore_plan(path=path, kinds=("settings",), actor="command")
    service.credentials = {"token": "another"}
    service.save()
    other = restores.restore_plan(path=path, kinds=("settings",), actor="command")

    assert table(same, "ops.Service")["changed"] == 0
    assert table(other, "ops.Service")["changed"] == 1
    assert "of-the-backup" not in str(other.plan)
    restores.restore_apply(restore=other, actor="command")
    assert Service.objects.get(pk=service.pk).credentials == {"token": "of-the-backup"}


def test_secrets_of_other_keys_are_read_with_ours_afterwards(service, backup_of, settings):
    path = backup_of()
    settings.FIELD_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    (settings.DATA_DIR / "keys").mkdir()
    (settings.DATA_DIR / "keys" / "field_encryption_keys").write_text(settings.FIELD_ENCRYPTION_KEYS[0])
    ours = settings.FIELD_ENCRYPTION_KEYS[0]
    Service.objects.filter(pk=service.pk).update(credentials={"token": "another"})

    restored(path, "settings")

    settings.FIELD_ENCRYPTION_KEYS = [ours]  # as a process that was not told of the backup's
    assert Service.objects.get(pk=service.pk).credentials == {"token": "of-the-backup"}


def test_history_is_only_added_to(house, backup_of):
    AuditEvent.objects.create(actor="a", action="kept.event")
    path = backup_of()
    AuditEvent.objects.create(actor="a", action="since.event")

    restored(path)
    restored(path)

    assert AuditEvent.objects.filter(action="kept.event").count() == 1
    assert AuditEvent.objects.filter(action="since.event").count() == 1


def test_history_whose_number_something_else_has_comes_in_once(service, backup_of):
    ada = agent(service, "ada")
    days = [UsageDay.objects.create(day=f"2026-01-0{number}", agent=ada, messages=number) for number in (1, 2)]
    numbers = [one.pk for one in days]
    path = backup_of()
    UsageDay.objects.all().delete()
    # The first is a guest's, who is nobody here. Its number is another day's by now, and the second stands here under another number.
    UsageDay.objects.create(pk=numbers[0], day="2026-02-01", agent=ada, messages=5)
    UsageDay.objects.create(pk=numbers[1] + 10, day="2026-01-02", agent=ada, messages=7)

    for _ in range(2):
        restored(path)
        assert sorted(f"{one.day} {one.messages}" for one in UsageDay.objects.all()) == [
            "2026-01-01 1",
            "2026-01-02 7",
            "2026-02-01 5",
        ]


def test_numbers_that_changed_places_and_what_must_be_alone(house, backup_of):
    """Two services that swapped their names, which are unique."""
    one = Service.objects.create(name="one", kind="demo")
    two = Service.objects.create(name="two", kind="demo")
    path = backup_of()
    Service.objects.filter(pk=one.pk).update(name="x")
    Service.objects.filter(pk=two.pk).update(name="one")
    Service.objects.filter(pk=one.pk).update(name="two")

    restored(path, "settings")

    assert dict(Service.objects.values_list("pk", "name")) == {one.pk: "one", two.pk: "two"}
