"""Asking for a new password. The answer is the same for every name, and as fast: a worker looks who it is and sends the mail."""

from __future__ import annotations

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from chat.access import attempts, limits
from chat.access.client import address_of
from chat.access.names import LONGEST_EMAIL
from chat.models import AttemptKind
from chat.portal.people_limited import limited_page
from chat.services.reset_mail import reset_asked


class ResetForm(forms.Form):
    """Whose password it is."""

    login = forms.CharField(
        label=_("User name or e-mail"),
        max_length=LONGEST_EMAIL,
        widget=forms.TextInput(attrs={"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false"}),
    )


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def password_reset(request: HttpRequest) -> HttpResponse:
    """``/account/password/reset/``."""
    form = ResetForm(request.POST or None)
    status = 200
    if request.method == "POST":
        status = 400
        if form.is_valid():
            login = form.cleaned_data["login"].strip()
            try:
                limits.take("reset", address=address_of(request), account=login)
            except limits.Limited as limited:
                attempts.note(AttemptKind.RESET, attempts.LIMITED, name=login, request=request)
                return limited_page(request, limited)
            reset_asked(login=login, request=request)
            return redirect("account_reset_password_done")
    return render(request, "account/password_reset.html", {"form": form}, status=status)
