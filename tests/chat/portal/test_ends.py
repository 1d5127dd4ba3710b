"""How conversations end: deleted with their person, purged after a month, thinned out by age; and what stays."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from chat.models import Attachment, Conversation, Membership, Message, Role
from chat.retention import old_messages
from chat.services.portal import conversations_of_person_delete, purge_removed
from tests.api.people import ChatApi, conversation_with, person_named, said

pytestmark = pytest.mark.django_db


@pytest.fixture
def grace(db):
    return person_named("grace")


def test_with_their_person(grace, ada):
    alone, shared, held = (conversation_with(grace, ada, title) for title in ("alone", "shared", "held"))
    for membership in (alone, shared, held):
        said(membership, "One")
        said(membership, "Two", role=Role.ASSISTANT)
    Membership.objects.create(conversation=shared.conversation, person=person_named("mallory"))
    Conversation.objects.filter(pk=held.conversation_id).update(hold="court")
    Attachment.objects.create(
        message=alone.conversation.head, conversation=alone.conversation, name="x", media_type="text/plain", size=1,
        sha256="0" * 64, path="00/0",
    )  # fmt: skip
    assert conversations_of_person_delete(person=grace, actor="test") == 1
    assert set(Conversation.objects.values_list("title", flat=True)) == {"shared", "held"}
    assert not Membership.objects.filter(person=grace).exists()
    assert not Attachment.objects.exists()
    assert conversations_of_person_delete(person=grace, actor="test") == 0


def test_a_month_after_they_were_deleted(grace, ada):
    old, fresh, held, kept = (conversation_with(grace, ada, title) for title in ("old", "fresh", "held", "kept"))
    for membership in (old, fresh, held, kept):
        said(membership, "One")
    now = timezone.now()
    Membership.objects.filter(pk__in=[old.pk, held.pk]).update(removed_at=now - timedelta(days=31))
    Membership.objects.filter(pk=fresh.pk).update(removed_at=now - timedelta(days=29))
    Conversation.objects.filter(pk=held.conversation_id).update(hold="court")
    assert purge_removed() == 1
    assert set(Conversation.objects.values_list("title", flat=True)) == {"fresh", "held", "kept"}
    assert purge_removed() == 0


def test_what_age_takes_leaves_a_tree_that_can_be_read(grace, ada):
    """The tip that is shown stays though it is old; what is left begins where the oldest that is left stands."""
    membership = conversation_with(grace, ada)
    first = said(membership, "One")
    answer = said(membership, "Two", role=Role.ASSISTANT)
    shown = said(membership, "Three")
    said(membership, "Two again", role=Role.ASSISTANT, parent=first, head=False)
    long_ago = timezone.now() - timedelta(days=100)
    Message.objects.update(stored_at=long_ago)
    rows = old_messages(timezone.now() - timedelta(days=50))
    assert set(rows.values_list("pk", flat=True)) == {first.pk, answer.pk}
    Message.objects.filter(pk__in=list(rows.values_list("pk", flat=True))).delete()
    where = f"conversations/{membership.conversation_id}"
    page = ChatApi(grace)("get", f"{where}/messages")
    assert [row["text"] for row in page["items"]] == ["Three"]
    assert page["before"] is None
    assert page["head"] == shown.pk
