"""People, invitations and quotas keep versions; bringing one back goes through the services that operators use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from agents.models import Agent
from chat.models import AgentGrant, Invite, Person
from ops.history.registry import CannotBringBack, Done, Wanted, register_versioned
from ops.words import counted

_IDENTITY = ("username", "display_name", "email", "matrix_user_id", "is_active", "is_staff", "is_superuser")
_OWN = ("language", "time_zone")


def _agents(pairs: QuerySet[Any], owner: str) -> dict[int, list[int]]:
    """Which agents those may talk to, or invite to, that may not all: ``{owner's key: agents' keys}``."""
    found: dict[int, list[int]] = {}
    for key, agent in pairs.order_by("agent_id").values_list(owner, "agent_id"):
        found.setdefault(key, []).append(agent)
    return found


def _more_of_people(rows: list[Person]) -> dict[int, dict[str, Any]]:
    limited = [row.pk for row in rows if not row.all_agents]
    agents = _agents(AgentGrant.objects.filter(person__in=limited), "person_id")
    return {row.pk: {"agents": agents.get(row.pk, [])} for row in rows}


def _set(person: Person, names: Iterable[str], state: Mapping[str, Any]) -> list[str]:
    """Give a person these values of a state; returns the names of those that were others."""
    changed = [name for name in names if getattr(person, name) != state[name]]
    for name in changed:
        setattr(person, name, state[name])
    return changed


def _person(wanted: Wanted) -> Done:
    from chat.services.grants import person_agents_set
    from chat.services.people import person_profile_save, person_save

    state, said = wanted.state, []
    person: Person | None = wanted.present
    with transaction.atomic():
        holder = Person.objects.filter(username=state["username"]).first()
        if holder is not None and holder != person:
            raise CannotBringBack(
                f"Somebody else is called {state['username']} now. Give them another name first.",
                code="version.name_taken",
            )
        if person is None:
            person = Person()
            person.set_unusable_password()
            said.append("They have no password and nothing open: give them a reset link.")
        if changed := _set(person, _IDENTITY, state):
            person = person_save(person=person, changed=changed, actor=wanted.actor)
        person_profile_save(person=person, changed=_set(person, _OWN, state), actor=wanted.actor)
        if not person.is_staff:
            agents = list(Agent.objects.filter(pk__in=state["agents"]))
            person_agents_set(person=person, all_agents=state["all_agents"], agents=agents, actor=wanted.actor)
            if gone := len(state["agents"]) - len(agents):
                said.append(
                    f"{counted(gone, 'agent')} that they might talk to then {'is' if gone == 1 else 'are'} no more."
                )
    said.insert(0, f"{person} is what they were.")
    return Done(" ".join(said), str(person.pk))


def _more_of_invites(rows: list[Invite]) -> dict[int, dict[str, Any]]:
    limited = [row.pk for row in rows if not row.all_agents]
    agents = _agents(Invite.agents.through.objects.filter(invite__in=limited), "invite_id")
    return {row.pk: {"revoked": row.revoked_at is not None, "agents": agents.get(row.pk, [])} for row in rows}


def _invite(wanted: Wanted) -> Done:
    from chat.services.invites import invite_extend, invite_revoke, invite_unrevoke

    state, invite = wanted.state, wanted.present
    if invite is None:
        raise CannotBringBack(
            f"The invitation {wanted.label} has no row any more, and its code is nowhere. Make a new one.",
            code="version.invite_gone",
        )
    expires = datetime.fromisoformat(state["expires_at"]) if state["expires_at"] else None
    changes: dict[str, Any] = {}
    if invite.expires_at != expires:
        if expires is not None and expires <= timezone.now():
            raise CannotBringBack(
                f"The invitation ended on {expires:%Y-%m-%d at %H:%M} UTC then, which is over. Revoke it if nobody is to use it.",
                code="version.expired",
            )
        changes["expires_at"] = expires
    if invite.max_uses != state["max_uses"]:
        changes["max_uses"] = state["max_uses"]
    with transaction.atomic():
        if changes:
            invite_extend(invite=invite, actor=wanted.actor, **changes)
        (invite_revoke if state["revoked"] else invite_unrevoke)(invite=invite, actor=wanted.actor)
    return Done(f"The invitation {invite} is as it was; who used it meanwhile did.")


def _quota(wanted: Wanted) -> Done:
    from chat.services.quotas import quota_set

    state = wanted.state
    person = Person.objects.filter(pk=state["person"]).first() if state["person"] else None
    agent = Agent.objects.filter(pk=state["agent"]).first() if state["agent"] else None
    if (state["person"] and person is None) or (state["agent"] and agent is None):
        raise CannotBringBack(f"{wanted.label}: who it was for is no more.", code="version.owner_gone")
    row = quota_set(
        actor=wanted.actor,
        person=person,
        agent=agent,
        role=state["role"],
        messages_per_day=state["messages_per_day"],
        tokens_per_day=state["tokens_per_day"],
    )
    return Done("The limits are as they were.", str(row.pk) if row is not None else "")


register_versioned(
    "chat.Person",
    label="Person",
    fields=(*_IDENTITY, "all_agents", *_OWN),
    more=_more_of_people,
    gone_by=("person.deleted",),
    labels={"agents": "agents they may talk to", "all_agents": "may talk to all agents", "is_staff": "operator"},
    bring_back=_person,
)
register_versioned(
    "chat.Invite",
    label="Invitation",
    fields=("role", "max_uses", "expires_at", "all_agents", "note"),
    more=_more_of_invites,
    bring_back=_invite,
)
register_versioned(
    "chat.Quota",
    label="Quota",
    fields=("person", "agent", "role", "messages_per_day", "tokens_per_day"),
    gone_by=("quota.removed",),
    bring_back=_quota,
)
