"""Invitations, for operators."""

from __future__ import annotations

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from ninja import Field, Query, Router

from chat.api.desk_people import agents_at
from chat.api.desk_render import invite_dict
from chat.api.desk_schemas import CodeIn, InviteChangeIn, InviteCheckOut, InviteIn, InviteList, InviteMadeOut, InviteOut
from chat.invite_words import invites_in, true_state
from chat.models import Invite, Person
from chat.services.invites import invite_check, invite_create, invite_extend, invite_revoke, invite_unrevoke, link_of
from ops.api.answers import answer, answer_once_shown
from ops.api.inputs import Id
from ops.api.paging import Paging, page
from ops.api.principals import principal_of
from ops.api.problems import not_found

router = Router(tags=["Invitations"])


class InviteFilter(Paging):
    state: str = Field("", pattern="^(open|used_up|expired|revoked)?$", description="Only those in this state.")


def _rows() -> QuerySet[Invite]:
    return Invite.objects.select_related("created_by").prefetch_related("agents", "used_by")


def _at(invite_id: int) -> Invite:
    row = _rows().filter(pk=invite_id).first()
    if row is None:
        raise not_found("invitation", invite_id)
    return row


@router.get("", response=InviteList, operation_id="invites_list", summary="List invitations, newest first")
def invites_list(request: HttpRequest, query: Query[InviteFilter]) -> HttpResponse:
    return page(request, invites_in(_rows(), query.state), query, render=invite_dict, order=("-id",))


@router.post("", response={201: InviteMadeOut}, operation_id="invites_create", summary="Make an invitation")
def invites_create(request: HttpRequest, body: InviteIn) -> HttpResponse:
    """The code is in this answer and nowhere else."""
    principal = principal_of(request)
    row, code = invite_create(
        role=body.role,
        max_uses=body.max_uses,
        expires_at=body.expires_at,
        all_agents=body.all_agents,
        agents=agents_at(body.agents),
        note=body.note,
        created_by=principal.person if isinstance(principal.person, Person) else None,
        actor=principal.actor,
    )
    return answer_once_shown({**invite_dict(_at(row.pk)), "code": code, "link": link_of(code)})


@router.post("/check", response=InviteCheckOut, operation_id="invites_check", summary="Say what is true about a code")
def invites_check(request: HttpRequest, body: CodeIn) -> HttpResponse:
    """People are told one sentence for every reason; here stands the true one."""
    found, reason = invite_check(body.code.rpartition("#")[2].strip())
    return answer(
        {
            "counts": reason == "ok",
            "reason": reason,
            "sentence": true_state(found, reason),
            "invite": found.pk if found is not None else None,
        }
    )


@router.get("/{invite_id}", response=InviteOut, operation_id="invites_get", summary="Get an invitation")
def invites_get(request: HttpRequest, invite_id: Id) -> HttpResponse:
    return answer(invite_dict(_at(invite_id)))


@router.patch("/{invite_id}", response=InviteOut, operation_id="invites_change", summary="Let it count longer, or for more people")  # fmt: skip
def invites_change(request: HttpRequest, invite_id: Id, body: InviteChangeIn) -> HttpResponse:
    changed = {name: getattr(body, name) for name in body.model_fields_set}
    invite_extend(invite=_at(invite_id), actor=principal_of(request).actor, **changed)
    return answer(invite_dict(_at(invite_id)))


@router.post("/{invite_id}/revoke", response=InviteOut, operation_id="invites_revoke", summary="Revoke an invitation")
def invites_revoke(request: HttpRequest, invite_id: Id) -> HttpResponse:
    """Whoever has joined by it stays."""
    invite_revoke(invite=_at(invite_id), actor=principal_of(request).actor)
    return answer(invite_dict(_at(invite_id)))


@router.post("/{invite_id}/bring-back", response=InviteOut, operation_id="invites_bring_back", summary="Let a revoked invitation count again")  # fmt: skip
def invites_bring_back(request: HttpRequest, invite_id: Id) -> HttpResponse:
    invite_unrevoke(invite=_at(invite_id), actor=principal_of(request).actor)
    return answer(invite_dict(_at(invite_id)))
