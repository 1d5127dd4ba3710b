"""The wizard of restores for real: compare, look, apply with the word, report, take back; beginning anew; what objects were."""

from __future__ import annotations

from typing import Any

from django.test import Client
from django.urls import reverse

from agents.models import Agent
from agents.services.agents import agent_pause
from chat.models import Person
from chat.services.messages import message_send
from chat.services.portal import conversation_start
from ops.models import Job, ObjectVersion, Restore, RestoreState, Service
from ops.services.backup_keys import key_confirm, key_new
from ops.services.backups import backup_now
from ops.services.services import service_delete, service_save
from tests.admin.restores import compare, page, run_all, signed_in_again


def test_the_whole_way_and_back(house: Client) -> None:
    backup = backup_now(actor="person:ada", note="before")
    agent_pause(agent=Agent.objects.get(), actor="person:ada")
    Person.objects.create_user("newcomer", password="a long passphrase")
    assert backup.name in page(house, reverse("admin:ops_restore_start"))
    assert "What of it" in page(house, f"{reverse('admin:ops_restore_start')}?backup={backup.pk}")

    row, address = compare(house, backup)
    text = page(house, address)
    assert "Nothing was changed yet" in text
    assert "1 would be set as it was" in text
    assert "newcomer" in text
    assert "Librarian" in text
    assert Agent.objects.get().paused

    apply = reverse("admin:ops_restore_deed", args=[row.pk, "apply"])
    assert "A backup of what is here now is made first" in page(house, apply)
    refused = house.post(apply, {"typed": "yes"})
    assert "That is not the word" in refused.content.decode()
    assert not Job.objects.filter(kind="restore.apply").exists()
    assert house.post(apply, {"typed": "restore"}).status_code == 302
    waiting = page(house, address)
    assert 'data-then="reload"' in waiting
    assert apply not in waiting
    run_all()
    signed_in_again(house)
    row.refresh_from_db()
    assert row.state == RestoreState.DONE, row.error
    assert not Agent.objects.get().paused
    assert not Person.objects.filter(username="newcomer").exists()
    text = page(house, address)
    assert "Restored" in text
    assert row.safety.name in text

    undo = reverse("admin:ops_restore_deed", args=[row.pk, "undo"])
    assert row.safety.name in page(house, undo)
    house.post(undo, {"typed": "undo"})
    run_all()
    signed_in_again(house)
    assert Agent.objects.get().paused
    assert Person.objects.filter(username="newcomer").exists()
    assert "It was taken back" in page(house, address)
    assert "takes a restore back" in page(house, reverse("admin:ops_restore_changelist"))


def test_only_some_kinds(house: Client) -> None:
    backup = backup_now(actor="person:ada")
    agent_pause(agent=Agent.objects.get(), actor="person:ada")
    Person.objects.create_user("newcomer", password="a long passphrase")
    nothing = house.post(reverse("admin:ops_restore_start"), {"backup": str(backup.pk), "everything": "no"})
    assert "Choose at least one kind" in nothing.content.decode()
    row, address = compare(house, backup, everything="no", kinds=["mappings"])
    assert row.kinds == ["mappings"]
    assert "newcomer" not in page(house, address)
    house.post(reverse("admin:ops_restore_deed", args=[row.pk, "discard"]))
    row.refresh_from_db()
    assert row.state == RestoreState.DISCARDED


def test_what_was_said_since_is_told_and_goes_only_when_that_is_ticked(house: Client) -> None:
    backup = backup_now(actor="person:ada")
    assert "Remove what was said since" in page(house, f"{reverse('admin:ops_restore_start')}?backup={backup.pk}")
    ada = Person.objects.get()
    talk = conversation_start(person=ada, agent=Agent.objects.get(), title="Plans", actor="person:ada").conversation
    message_send(agent=Agent.objects.get(), text="Said since", person=ada, conversation=talk, transport="portal")

    row, address = compare(house, backup)
    assert row.plan["words_since"]
    assert "1 message in 1 conversation from after the backup is kept as history (Plans (1))" in page(house, address)
    assert "1 message from since then stays as history" in page(
        house, reverse("admin:ops_restore_deed", args=[row.pk, "apply"])
    )
    row, address = compare(house, backup, without_words="on")
    assert not row.plan["words_since"]
    assert "1 message in 1 conversation from after the backup is removed (Plans (1))" in page(house, address)


def test_a_key_is_asked_for_when_this_machine_s_own_does_not_open_it(house: Client, settings: Any) -> None:
    key, secret = key_new(label="safe", actor="person:ada")
    key_confirm(key=key, secret=secret, actor="person:ada")
    backup = backup_now(actor="person:ada")
    choose = f"{reverse('admin:ops_restore_start')}?backup={backup.pk}"
    assert "Recovery key" not in page(house, choose)

    from pyrage import x25519

    settings.BACKUP_MACHINE_KEY = str(x25519.Identity.generate())
    text = page(house, choose)
    assert "own key does not open it" in text
    assert "safe" in text
    other = str(x25519.Identity.generate())
    start, said = reverse("admin:ops_restore_start"), {"backup": str(backup.pk), "everything": "yes"}
    refused = house.post(start, {**said, "key": other})
    assert refused.status_code == 200
    assert other not in refused.content.decode()
    assert 'role="alert"' in refused.content.decode()
    assert not Restore.objects.exists()
    row, address = compare(house, backup, key=secret)
    assert row.state == RestoreState.PLANNED, row.error
    assert secret not in page(house, address)
    assert secret not in str([*Job.objects.values(), *Restore.objects.values()])


def test_beginning_anew_wants_its_word_and_can_be_taken_back(house: Client) -> None:
    Person.objects.create_user("bea", password="a long passphrase")
    address = reverse("admin:reset")
    assert "Begin anew" in page(house, address)
    assert "Choose at least one." in page(house, f"{address}?look=yes")
    plan = page(house, f"{address}?look=yes&scope=people")
    assert "reset people" in plan
    refused = house.post(address, {"scope": "people", "typed": "people"})
    assert refused.status_code == 422
    assert Person.objects.filter(username="bea").exists()
    assert not Job.objects.exists()
    started = house.post(address, {"scope": "people", "typed": "reset people"})
    assert started.status_code == 302
    run_all()
    signed_in_again(house)
    assert not Person.objects.filter(username="bea").exists()
    text = page(house, address)
    assert "The last one" in text
    back = house.post(reverse("admin:reset_undo"))
    run_all()
    row = Restore.objects.latest("created_at")
    assert back["Location"] == reverse("admin:ops_restore_change", args=[row.pk])
    assert row.state == RestoreState.PLANNED, row.error
    assert "bea" in page(house, back["Location"])


def test_what_an_object_was_comes_back_with_a_button(house: Client) -> None:
    agent = Agent.objects.get()
    agent_pause(agent=agent, actor="person:ada")
    versions = ObjectVersion.objects.filter(model="agents.agent", object_id=str(agent.pk)).order_by("id")
    first = versions.first()
    assert "What it was" in page(house, reverse("admin:agents_agent_change", args=[agent.pk]))
    history = page(house, reverse("admin:ops_objectversion_of", args=["agents.agent", agent.pk]))
    assert "agent.paused" in history
    assert "Paused" in history
    assert reverse("admin:ops_objectversion_change", args=[first.pk]) in history
    shown = page(house, reverse("admin:ops_objectversion_change", args=[first.pk]))
    assert "Nothing was changed yet" in shown
    done = house.post(reverse("admin:ops_objectversion_deed", args=[first.pk, "bring_back"]))
    assert done["Location"] == reverse("admin:agents_agent_change", args=[agent.pk])
    agent.refresh_from_db()
    assert not agent.paused


def test_what_was_deleted_comes_back(house: Client) -> None:
    row = service_save(actor="person:ada", name="spare", kind="demo", credentials={"api_key": "sk-never-shown-91"})
    service_delete(service=row, actor="person:ada")
    version = ObjectVersion.objects.filter(model="ops.service", label="spare", deleted=True).get()
    listed = page(house, f"{reverse('admin:ops_objectversion_changelist')}?deleted__exact=1")
    assert "spare" in listed
    shown = page(house, reverse("admin:ops_objectversion_change", args=[version.pk]))
    assert "is gone" in shown
    assert "sk-never-shown-91" not in shown
    house.post(reverse("admin:ops_objectversion_deed", args=[version.pk, "bring_back"]))
    assert Service.objects.get(name="spare").credentials["api_key"] == "sk-never-shown-91"
