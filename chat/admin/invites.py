"""Invitations: made and shown once, extended, taken back, checked; who joined by them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import partial
from typing import Any

from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.safestring import mark_safe
from unfold.decorators import display

from chat.access.registration import mode
from chat.admin.invite_forms import CodeForm, ExtendForm, InviteForm, end_of
from chat.admin.portagent import portagent_job_view, portagent_view
from chat.invite_words import invites_in, true_state
from chat.models import AccessAttempt, Invite, Person
from chat.services.invites import (
    invite_check,
    invite_create,
    invite_extend,
    invite_revoke,
    invite_unrevoke,
    link_of,
    qr_svg,
)
from ops import html
from ops.admin.base import Deed, OperatorAdmin, actor_of
from ops.admin.panels import Button
from ops.csv_files import safe_cell
from ops.words import counted

STATES = {
    "open": ("good", "Open"),
    "used_up": ("off", "Used up"),
    "expired": ("off", "Expired"),
    "revoked": ("off", "Revoked"),
}
_MODES = {
    "open": "Anybody may join now, with or without an invitation.",
    "invite": "Whoever has an invitation may join.",
    "closed": "Nobody may join now: registration is closed.",
}


class StateFilter(admin.SimpleListFilter):
    """By what an invitation is worth now."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(key, word) for key, (_, word) in STATES.items()]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return invites_in(queryset, self.value() or "")


@admin.register(Invite)
class InviteAdmin(OperatorAdmin):
    list_display = ("code_start", "state_lamp", "role", "used", "expires", "note", "made_by", "made")
    list_filter = (StateFilter, "role")
    list_select_related = ("created_by",)
    search_fields = ("hint", "note", "used_by__name", "created_by__username")
    search_help_text = "Beginning of the code, note, or who joined by it"
    ordering = ("-id",)
    detail_template = "switchboard/invite.html"
    empty_title = "No invitation yet"
    empty_text = "Make one, and hand over its link or QR code. Only the beginning of the code is kept here."

    @property
    def intro(self) -> str:  # type: ignore[override]
        """What an invitation is worth depends on who may join at all."""
        return f"{_MODES[mode()]} An invitation says what somebody may do who joins by it; its code is shown once, when it is made."

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_view_permission(request)

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("check/", wrap(self.check_view), name="chat_invite_check"),
            path("csv/", wrap(self.csv_view), name="chat_invite_csv"),
            path("portagent/", wrap(partial(portagent_view, self)), name="portagent"),
            path("portagent/<uuid:job_id>/", wrap(partial(portagent_job_view, self)), name="portagent_job"),
        ]
        return [*own, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        query = request.GET.urlencode()
        buttons = (
            Button("Make an invitation", reverse("admin:chat_invite_add"), primary=True),
            Button("Check a code", reverse("admin:chat_invite_check")),
            Button("CSV", reverse("admin:chat_invite_csv") + (f"?{query}" if query else "")),
        )
        return super().changelist_view(request, {"list_buttons": buttons, **(extra_context or {})})

    # The list

    @display(description="Code")
    def code_start(self, row: Invite) -> str:
        return f"{row.hint}…"

    @display(description="State")
    def state_lamp(self, row: Invite) -> str:
        return html.lamp(*STATES[row.state()])

    @display(description="Joined", ordering="uses")
    def used(self, row: Invite) -> str:
        return f"{row.uses} of {row.max_uses if row.max_uses is not None else 'any number'}"

    @display(description="Expires", ordering="expires_at")
    def expires(self, row: Invite) -> str:
        return html.ago(row.expires_at, "no end")

    @display(description="Made by")
    def made_by(self, row: Invite) -> str:
        return str(row.created_by or "")

    @display(description="Made", ordering="created_at")
    def made(self, row: Invite) -> str:
        return html.ago(row.created_at)

    # The page

    def deeds(self) -> tuple[Deed, ...]:
        return (
            Deed("extend", "Extend", self.extend, form=ExtendForm, button="Extend…",
                 explain=lambda row: "The same code counts longer, or for more people. Its link stays as it was."),
            Deed("unrevoke", "Bring back", self.unrevoke, primary=True, shown=lambda row: row.revoked_at is not None),
            Deed(
                "revoke", "Revoke", self.revoke, danger=True, shown=lambda row: row.revoked_at is None,
                explain=lambda row: f"Nobody can join by {row} any more. Whoever has joined stays; you can bring the invitation back.",
            ),
        )  # fmt: skip

    def extend(self, request: HttpRequest, row: Invite, asked: dict[str, Any]) -> str:
        end = {} if asked["days"] == "keep" else {"expires_at": end_of(asked["days"])}
        invite_extend(invite=row, max_uses=asked["uses"], actor=actor_of(request), **end)
        return f"{row} is {STATES[row.state()][1].lower()}."

    def revoke(self, request: HttpRequest, row: Invite) -> str:
        invite_revoke(invite=row, actor=actor_of(request))
        return f"{row} is revoked."

    def unrevoke(self, request: HttpRequest, row: Invite) -> str:
        invite_unrevoke(invite=row, actor=actor_of(request))
        return f"{row} is {STATES[row.state()][1].lower()} again."

    def detail_context(self, request: HttpRequest, row: Invite) -> dict[str, Any]:
        lamp, word = STATES[row.state()]
        return {
            "lamp_state": lamp,
            "word": word,
            "used_by": list(row.used_by.select_related("person")[:200]),
            "agents": list(row.agents.order_by("name")[:100]),
            "attempts": AccessAttempt.objects.filter(invite=row).exclude(outcome="ok").count(),
        }

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The form, and after it the one page on which the code stands."""
        form = InviteForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            try:
                by = request.user if isinstance(request.user, Person) else None
                row, code = invite_create(created_by=by, actor=actor_of(request), **form.arguments())
            except ValidationError as error:
                form.add_error(None, error)
            else:
                # Answered at once instead of after a redirect: the code is in this answer and nowhere else.
                many = "any number of people" if row.max_uses is None else counted(row.max_uses, "person", "people")
                return self.page(
                    request,
                    "switchboard/link_made.html",
                    title="New invitation",
                    row=row,
                    sentence=f"Hand over this link, or the code. It lets {many} join.",
                    link=link_of(code),
                    code=code,
                    qr=mark_safe(qr_svg(link_of(code))),  # noqa: S308 - drawn here, from numbers
                    back=self.address_of(row),
                )
        return self.page(
            request,
            "switchboard/form.html",
            title="Make an invitation",
            form=form,
            submit="Make the invitation",
            back=reverse("admin:chat_invite_changelist"),
            sentence=_MODES[mode()],
        )

    def check_view(self, request: HttpRequest) -> HttpResponse:
        """Says what is true about a code that somebody cannot join with. Sent by POST: no code stands in an address or a log."""
        form = CodeForm(request.POST or None)
        found: dict[str, Any] = {}
        if request.method == "POST" and form.is_valid():
            invite, reason = invite_check(form.cleaned_data["code"])
            found = {
                "invite": invite,
                "lamp": "good" if reason == "ok" else "attention",
                "sentence": true_state(invite, reason),
            }
            form = CodeForm()
        return self.page(
            request,
            "switchboard/invite_check.html",
            title="Check a code",
            form=form,
            found=found,
            back=reverse("admin:chat_invite_changelist"),
        )

    def csv_view(self, request: HttpRequest) -> StreamingHttpResponse:
        """What the list shows, as a file: without codes, of which nobody knows more than the beginning."""
        rows = invites_in(
            Invite.objects.select_related("created_by").prefetch_related("used_by"), request.GET.get("state", "")
        )
        response = StreamingHttpResponse(
            csv_lines(rows.order_by("-id").iterator(500)), content_type="text/csv; charset=utf-8"
        )
        response["Content-Disposition"] = f'attachment; filename="invites-{timezone.now():%Y-%m-%d}.csv"'
        return response


def csv_lines(rows: Iterable[Invite]) -> Iterator[str]:
    """The lines of the file."""

    class Line:
        def write(self, text: str) -> str:
            return text

    writer = csv.writer(Line())
    yield writer.writerow(
        ["id", "code_begins", "state", "role", "uses", "max_uses", "expires_at", "note", "made_by", "made_at", "joined"]
    )
    for row in rows:
        joined = " ".join(one.name for one in row.used_by.all())
        cells = [
            row.pk, row.hint, row.state(), row.role, row.uses, row.max_uses if row.max_uses is not None else "", _iso(row.expires_at),
            row.note, row.created_by or "", _iso(row.created_at), joined,
        ]  # fmt: skip
        yield writer.writerow([safe_cell(cell) for cell in cells])


def _iso(moment: datetime | None) -> str:
    return moment.isoformat(timespec="seconds") if moment else ""
