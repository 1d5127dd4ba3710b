"""Who am I?"""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from ninja import Router

from ops.api.answers import answer
from ops.api.principals import principal_of
from ops.api.schemas import MeOut

router = Router(tags=["Me"])


@router.get("", response=MeOut, operation_id="me", summary="Who is calling, and what they may do")
def me(request: HttpRequest) -> HttpResponse:
    principal = principal_of(request)
    token, person = principal.token, principal.person
    return answer(
        {
            "actor": principal.actor,
            "scope": str(principal.scope),
            "person": {"id": person.pk, "username": person.get_username(), "name": str(person)},
            "token": token
            and {
                "name": token.name,
                "prefix": token.prefix,
                "expires_at": token.expires_at,
                "last_used_at": token.last_used_at,
            },
            "version": settings.VERSION,
        }
    )
