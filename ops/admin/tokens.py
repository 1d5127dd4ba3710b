"""API tokens: made here, shown once, revoked here."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from unfold.decorators import display

from ops import html
from ops.admin.base import Deed, OperatorAdmin, actor_of
from ops.models import ApiToken, TokenScope
from ops.services.tokens import token_create, token_revoke


class TokenForm(forms.Form):
    """What a new token is for, what it may do, and until when."""

    name = forms.CharField(max_length=100, help_text="What it is for, for example: backup script on the server.")
    scope = forms.ChoiceField(choices=TokenScope.choices, label="May")
    days = forms.ChoiceField(
        label="Valid for", initial="90", choices=[("7", "7 days"), ("30", "30 days"), ("90", "90 days"), ("365", "One year"), ("", "No end")], required=False
    )  # fmt: skip


@admin.register(ApiToken)
class ApiTokenAdmin(OperatorAdmin):
    list_display = ("name", "state_lamp", "token_start", "scope", "owner", "last_used", "expires")
    list_filter = ("scope",)
    list_select_related = ("owner",)
    search_fields = ("name", "prefix", "owner__username")
    detail_template = "switchboard/token.html"
    intro = "Tokens for scripts and other programs that use the API. A token is shown once, when it is made; only its digest is kept."
    empty_title = "No token yet"
    empty_text = "Make one for a script that reads or writes through the API."

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_view_permission(request)

    @display(description="State")
    def state_lamp(self, row: ApiToken) -> str:
        return html.lamp(*_state(row))

    @display(description="Begins with", ordering="prefix")
    def token_start(self, row: ApiToken) -> str:
        return f"swb_{row.prefix}…"

    @display(description="Last used", ordering="last_used_at")
    def last_used(self, row: ApiToken) -> str:
        return html.ago(row.last_used_at)

    @display(description="Expires", ordering="expires_at")
    def expires(self, row: ApiToken) -> str:
        return html.ago(row.expires_at, "no end")

    def deeds(self) -> tuple[Deed, ...]:
        return (
            Deed(
                "revoke",
                "Revoke",
                self.revoke,
                explain=lambda row: (
                    f"Whatever uses {row} is refused from its next request on. A revoked token cannot be given back; make a new one."
                ),
                danger=True,
                shown=lambda row: row.revoked_at is None,
            ),
        )

    def revoke(self, request: HttpRequest, row: ApiToken) -> str:
        token_revoke(token=row, actor=actor_of(request))
        return f"{row.name} is revoked."

    def detail_context(self, request: HttpRequest, row: ApiToken) -> dict[str, Any]:
        lamp, word = _state(row)
        return {"lamp_state": lamp, "word": word}

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The form, and after it the one page on which the token stands."""
        form = TokenForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            days = form.cleaned_data["days"]
            expires = timezone.now() + timedelta(days=int(days)) if days else None
            try:
                token, plaintext = token_create(
                    owner=request.user,
                    name=form.cleaned_data["name"],
                    scope=form.cleaned_data["scope"],
                    expires_at=expires,
                    actor=actor_of(request),
                )
            except ValidationError as error:
                form.add_error(None, error)
            else:
                # Answered at once instead of after a redirect: the token is in this answer and nowhere else.
                # The site's pages are never cached (``admin_view``), so no proxy or browser keeps it either.
                return self.page(
                    request, "switchboard/token_made.html", title="New token", row=token, plaintext=plaintext
                )
        return self.page(
            request,
            "switchboard/form.html",
            title="Make a token",
            form=form,
            submit="Make the token",
            back=reverse("admin:ops_apitoken_changelist"),
            sentence=f"The token will be yours ({request.user}) and end when your account is closed.",
        )


def _state(row: ApiToken) -> tuple[str, str]:
    if row.revoked_at is not None:
        return "off", "Revoked"
    return ("good", "Active") if row.is_usable() else ("off", "Expired")
