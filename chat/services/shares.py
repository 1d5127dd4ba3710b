"""Links by which anybody may read a conversation as it was when the link was made."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from chat.models import ShareLink
from ops.services.audit import record


def shares_end(*, conversation_id: int, person_id: int, actor: str) -> int:
    """End every link that a person made to a conversation, at once. Returns how many."""
    with transaction.atomic():
        open_links = ShareLink.objects.filter(conversation_id=conversation_id, created_by_id=person_id, revoked_at=None)
        ended = open_links.update(revoked_at=timezone.now())
        if ended:
            record(actor=actor, action="share.ended", target=f"chat.conversation:{conversation_id}")
    return ended
