"""People, invitations and quotas as they were."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from agents.models import Agent
from chat.models import AgentGrant, Person, Quota
from chat.services.grants import person_agents_set
from chat.services.invites import invite_check, invite_create, invite_extend, invite_revoke
from chat.services.people import person_deactivate, person_delete, person_profile_save, person_save
from chat.services.quotas import quota_set
from ops.history.registry import CannotBringBack
from ops.models import ObjectVersion, Service
from ops.services.versions import bring_back, deleted_objects, difference, versions_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def agents(db: Any) -> list[Agent]:
    service = Service.objects.create(name="demo", kind="demo")
    return [Agent.objects.create(service=service, external_id=f"a{n}", name=f"Agent {n}") for n in range(3)]


def test_a_person_is_what_they_were(ada: Person, root: Person, agents: list[Agent]) -> None:
    person_agents_set(person=ada, all_agents=False, agents=agents[:2], actor="person:root")
    wanted = versions_of(ada).first()
    ada.email, ada.display_name = "else@example.org", "Somebody"
    person_save(person=ada, changed=["email", "display_name"], actor="person:eve")
    person_agents_set(person=ada, all_agents=True, actor="person:eve")
    ada.time_zone = "Europe/Berlin"
    person_profile_save(person=ada, changed=["time_zone"], actor="person:ada")
    person_deactivate(person=ada, reason="by mistake", actor="person:eve")
    assert {one.field for one in difference(wanted)} == {
        "email", "display_name", "is_active", "all_agents", "agents", "time_zone",
    }  # fmt: skip
    agents[1].delete()
    done = bring_back(version=wanted, actor="person:root")
    ada = Person.objects.get(pk=ada.pk)
    assert (ada.email, ada.display_name, ada.is_active, ada.time_zone) == ("ada@example.org", "Ada L.", True, "")
    assert not ada.all_agents
    assert list(AgentGrant.objects.filter(person=ada).values_list("agent_id", flat=True)) == [agents[0].pk]
    assert "1 agent that they might talk to then is no more." in done.sentence


def test_the_only_operator_stays_one(root: Person) -> None:
    root.display_name = "Root"
    person_save(person=root, changed=["display_name"], actor="person:root")
    version = versions_of(root).first()
    version.state["is_staff"] = False
    with pytest.raises(CannotBringBack, match="only operator"):
        bring_back(version=version, actor="person:root")
    root.refresh_from_db()
    assert root.is_staff


def test_a_deleted_person_comes_back_without_what_opened_doors(ada: Person, root: Person, agents: list[Agent]) -> None:
    person_agents_set(person=ada, all_agents=False, agents=agents[:1], actor="person:root")
    person_delete(person=ada, actor="person:eve")
    [gone] = deleted_objects("chat.person")
    done = bring_back(version=gone, actor="person:root")
    again = Person.objects.get(username="ada")
    assert (again.email, again.display_name, again.is_active) == ("ada@example.org", "Ada L.", True)
    assert not again.has_usable_password()
    assert "reset link" in done.sentence
    assert list(AgentGrant.objects.filter(person=again).values_list("agent_id", flat=True)) == [agents[0].pk]
    stored = repr(list(ObjectVersion.objects.filter(model="chat.person").values_list("state", "secret")))
    assert "md5$" not in stored


def test_a_name_that_somebody_else_has_now_is_left_to_them(ada: Person, root: Person) -> None:
    person_delete(person=ada, actor="person:root")
    other = Person.objects.create_user("ada", email="new@example.org")
    with pytest.raises(CannotBringBack, match="Somebody else"):
        bring_back(version=deleted_objects("chat.person").get(), actor="person:root")
    other.refresh_from_db()
    assert other.email == "new@example.org"


def test_an_invitation_is_open_again_and_its_code_counts(db: Any) -> None:
    invite, code = invite_create(max_uses=3, expires_at=timezone.now() + timedelta(days=2), actor="person:root")
    first = versions_of(invite).first()
    invite_extend(invite=invite, max_uses=1, expires_at=None, actor="person:eve")
    invite_revoke(invite=invite, actor="person:eve")
    assert {one.field for one in difference(first)} == {"max_uses", "expires_at", "revoked"}
    bring_back(version=first, actor="person:root")
    found, reason = invite_check(code)
    assert (found.max_uses, reason) == (3, "ok")
    first.state["expires_at"] = (timezone.now() - timedelta(days=1)).isoformat()
    with pytest.raises(CannotBringBack, match="which is over"):
        bring_back(version=first, actor="person:root")


def test_a_removed_quota_comes_back(ada: Person) -> None:
    quota_set(person=ada, messages_per_day=5, actor="person:root")
    quota_set(person=ada, messages_per_day=50, tokens_per_day=9, actor="person:eve")
    quota_set(person=ada, actor="person:eve")
    [gone] = deleted_objects("chat.quota")
    first = versions_of("chat.quota", gone.object_id).last()
    bring_back(version=first, actor="person:root")
    row = Quota.objects.get()
    assert (row.person, row.messages_per_day, row.tokens_per_day) == (ada, 5, None)
    assert versions_of(row).count() == 4
