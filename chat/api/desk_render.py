"""Rows about people as plain values, for the operators' API and for commands with ``--json``."""

from __future__ import annotations

from typing import Any

from django.urls import reverse

from chat.models import AccessAttempt, Invite


def person_dict(row: Any) -> dict[str, Any]:
    """A person of ``queries_people.with_numbers``."""
    return {
        "id": row.pk,
        "username": row.username,
        "display_name": row.display_name,
        "email": row.email,
        "role": str(row.role),
        "is_active": row.is_active,
        "matrix_user_id": row.matrix_user_id,
        "all_agents": row.is_staff or row.all_agents,
        "second_factor": row.has_second,
        "sessions": row.open_sessions or 0,
        "failures": row.failed or 0,
        "joined_at": row.date_joined,
        "last_seen_at": row.seen_at,
        "deactivated_at": row.deactivated_at,
        "deactivated_by": row.deactivated_by,
        "deactivated_reason": row.deactivated_reason,
        "url": reverse("admin:chat_person_change", args=[row.pk]),
    }


def invite_dict(row: Invite) -> dict[str, Any]:
    """An invitation, its ``agents``, ``used_by`` and ``created_by`` fetched before."""
    return {
        "id": row.pk,
        "code_begins": row.hint,
        "state": row.state(),
        "role": row.role,
        "uses": row.uses,
        "max_uses": row.max_uses,
        "expires_at": row.expires_at,
        "all_agents": row.all_agents,
        "agents": [agent.pk for agent in row.agents.all()],
        "note": row.note,
        "made_by": row.created_by.get_username() if row.created_by else None,
        "created_at": row.created_at,
        "revoked_at": row.revoked_at,
        "revoked_by": row.revoked_by,
        "joined": [one.name for one in list(row.used_by.all())[:100]],
        "url": reverse("admin:chat_invite_change", args=[row.pk]),
    }


def quota_dict(row: Any) -> dict[str, Any]:
    """A quota of ``quota_figures.with_use``."""
    return {
        "id": row.pk,
        "person": row.person_id,
        "agent": row.agent_id,
        "role": row.role,
        "messages_per_day": row.messages_per_day,
        "tokens_per_day": row.tokens_per_day,
        "messages_used": row.used_messages,
        "tokens_used": row.used_tokens,
    }


def attempt_dict(row: AccessAttempt) -> dict[str, Any]:
    """An attempt to get in."""
    return {
        "id": row.pk,
        "kind": row.kind,
        "outcome": row.outcome,
        "name": row.name,
        "person": row.person_id,
        "invite": row.invite_id,
        "address": row.address,
        "user_agent": row.user_agent,
        "at": row.at,
    }


def session_dict(one: dict[str, Any]) -> dict[str, Any]:
    """One of ``open_things.sessions_of``."""
    return {
        "kind": one["kind"],
        "key": one["key"],
        "what": one["what"],
        "address": one["address"] or None,
        "since": one["since"],
        "last_used_at": one["seen"],
    }
