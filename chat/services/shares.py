"""Links by which anybody may read a conversation as it was when the link was made. Off until an operator turns sharing on."""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from chat.models import Membership, ShareLink
from ops.live import live, register_live
from ops.services.audit import record

KEY = "portal.sharing"
MOST_OPEN = 50
_FORM = re.compile(r"[A-Za-z0-9_-]{43}\Z")


class CannotShare(Exception):
    """``sentence`` says why; ``code`` is stable."""

    def __init__(self, sentence: str, *, code: str) -> None:
        super().__init__(sentence)
        self.sentence, self.code = sentence, code


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("Give true or false.")
    return value


register_live(
    KEY,
    label="Sharing by link",
    help="Whether people may let anybody read a conversation by a link. Turning it off closes every link until it is on again.",
    parse=_switch,
    default=lambda: False,
)


def sharing_allowed() -> bool:
    """Whether links may be made and read now."""
    return bool(live(KEY))


def share_create(*, membership: Membership, expires_in_days: int | None = None, actor: str) -> tuple[ShareLink, str]:
    """A link to the branch that is shown, up to what was said last. Returns the row and the token, which nobody can see again.

    Raises ``CannotShare`` (``share.off``, ``share.too_many``, ``share.empty``).
    """
    if not sharing_allowed():
        raise CannotShare("Sharing by link is switched off here. Ask an operator to turn it on.", code="share.off")
    token = secrets.token_urlsafe(32)
    with transaction.atomic():
        conversation = type(membership.conversation).objects.select_for_update().get(pk=membership.conversation_id)
        if conversation.head_id is None:
            raise CannotShare("Nothing was said in this conversation yet.", code="share.empty")
        if ShareLink.objects.filter(conversation=conversation, revoked_at=None).count() >= MOST_OPEN:
            raise CannotShare(f"There are {MOST_OPEN} links already. End one of them first.", code="share.too_many")
        link = ShareLink.objects.create(
            conversation=conversation,
            digest=_digest(token),
            hint=token[:6],
            through_seq=conversation.next_seq - 1,
            head_id=conversation.head_id,
            created_by_id=membership.person_id,
            expires_at=timezone.now() + timedelta(days=expires_in_days) if expires_in_days else None,
        )
        record(
            actor=actor,
            action="share.created",
            target=conversation,
            after={"hint": link.hint, "expires_at": link.expires_at},
        )
    return link, token


def share_revoke(*, link: ShareLink, actor: str) -> None:
    """End one link, at once. Doing it again changes nothing."""
    with transaction.atomic():
        if ShareLink.objects.filter(pk=link.pk, revoked_at=None).update(revoked_at=timezone.now()):
            record(actor=actor, action="share.ended", target=link.conversation, after={"hint": link.hint})


def shares_end(*, conversation_id: int, person_id: int, actor: str) -> int:
    """End every link that a person made to a conversation, at once. Returns how many."""
    with transaction.atomic():
        open_links = ShareLink.objects.filter(conversation_id=conversation_id, created_by_id=person_id, revoked_at=None)
        ended = open_links.update(revoked_at=timezone.now())
        if ended:
            record(actor=actor, action="share.ended", target=f"chat.conversation:{conversation_id}")
    return ended


def share_find(token: str, now: datetime | None = None) -> ShareLink | None:
    """The link that a token opens: known, usable, of somebody who is still active and still has the conversation, while sharing is on."""
    if not _FORM.match(token) or not sharing_allowed():
        return None
    link = ShareLink.objects.filter(digest=_digest(token)).select_related("conversation__agent", "created_by").first()
    if link is None or not link.is_usable(now) or link.created_by is None or not link.created_by.is_active:
        return None
    still = Membership.objects.filter(
        conversation=link.conversation_id, person=link.created_by_id, removed_at=None
    ).exists()
    return link if still else None


def share_viewed(*, link: ShareLink) -> None:
    """Count one look."""
    ShareLink.objects.filter(pk=link.pk).update(views=F("views") + 1)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
