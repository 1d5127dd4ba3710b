"""Files that people sent: whose, how large, what they really are."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString
from unfold.decorators import display

from chat.models import Attachment
from ops import html
from ops.admin.base import OperatorAdmin
from ops.doctor_data.usage import text as size_text


class KindFilter(admin.SimpleListFilter):
    """Pictures, other files, and those that were never sent."""

    title = "kind"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("image", "Pictures"), ("file", "Other files"), ("unsent", "Never sent")]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if self.value() == "image":
            return queryset.filter(media_type__startswith="image/")
        if self.value() == "file":
            return queryset.exclude(media_type__startswith="image/")
        return queryset.filter(message=None) if self.value() == "unsent" else queryset


@admin.register(Attachment)
class AttachmentAdmin(OperatorAdmin):
    list_display = ("name_text", "media_type", "size_text", "whose", "where", "sent")
    list_filter = (KindFilter,)
    list_select_related = ("owner", "conversation", "message")
    search_fields = ("name", "sha256", "owner__username")
    search_help_text = "Name, owner, or digest (SHA-256)"
    ordering = ("-created_at", "-id")
    detail_template = "switchboard/attachment.html"
    intro = (
        "Files that people sent along with messages. What they are was found by looking into them; they lie in the data directory, never "
        "under the web root, and one that was never sent goes after a day."
    )
    empty_title = "No file was sent"

    @display(description="File", ordering="name")
    def name_text(self, row: Attachment) -> str:
        return row.name

    @display(description="Size", ordering="size")
    def size_text(self, row: Attachment) -> str:
        return size_text(row.size)

    @display(description="Whose")
    def whose(self, row: Attachment) -> str | SafeString:
        if row.owner is None:
            return html.quiet("nobody's any more")
        return html.link(reverse("admin:chat_person_change", args=[row.owner_id]), row.owner)

    @display(description="Where")
    def where(self, row: Attachment) -> str | SafeString:
        if row.conversation is None:
            return html.quiet("never sent")
        at = f"?at={row.message.seq}#m{row.message.seq}" if row.message is not None else ""
        return html.link(reverse("admin:chat_conversation_change", args=[row.conversation_id]) + at, row.conversation)

    @display(description="Uploaded", ordering="created_at")
    def sent(self, row: Attachment) -> SafeString:
        return html.ago(row.created_at)

    def detail_context(self, request: HttpRequest, row: Attachment) -> dict[str, Any]:
        same = Attachment.objects.filter(sha256=row.sha256).exclude(pk=row.pk).count()
        return {"size": size_text(row.size), "same": same, "where": self.where(row), "whose": self.whose(row)}
