"""Signing in: the page, and the dialog of the chat page in which somebody signs in again without leaving it."""

from __future__ import annotations

import json
from typing import Any

from allauth.account.adapter import get_adapter
from allauth.account.internal.flows.login import record_authentication
from allauth.account.views import LoginView
from allauth.mfa.base.forms import AuthenticateForm
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.middleware.csrf import get_token
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods

from chat.access.accounts import signed_in
from chat.access.limits import Limited
from chat.access.second_factor import has_second_factor
from chat.access.signing_in import sign_in_check, take_sign_in, wait_sentence
from chat.models import Person
from chat.portal.people_limited import limited_page
from ops.logs import unlogged

_LARGEST = 16_384


class SignInView(LoginView):
    """allauth's, which answers 429 with a time to whoever tried too often."""

    def form_invalid(self, form: Any) -> HttpResponse:
        limited = getattr(self.request, "limited", None)
        if isinstance(limited, Limited):
            return limited_page(self.request, limited)
        response: HttpResponse = super().form_invalid(form)
        return response


@never_cache
@ensure_csrf_cookie
@sensitive_post_parameters("password", "code")
@sensitive_variables("given")
@require_http_methods(["GET", "POST"])
def again(request: HttpRequest) -> HttpResponse:
    """``/account/again``. GET: who is signed in here, and a CSRF token: ``{"person": {"id", "username"} | null, "csrf"}``.

    POST ``{"username", "password", "code"?}`` signs in and answers the same. Else a problem: 401 ``again.wrong``, 401 ``again.code_needed``
    (send it again with the code of the second factor), 401 ``again.code_wrong``, 403 ``again.closed``, 429 ``access.limited``.
    """
    if request.method == "GET":
        return _standing(request, request.user if isinstance(request.user, Person) else None)
    given = _given(request)
    if given is None:
        return _problem(400, "request.malformed", _("Send a JSON object with username and password."))
    login, password, code = given
    try:
        person, outcome = sign_in_check(request, login, password)
        if person is None or outcome in {"unknown", "wrong_password"}:
            return _problem(401, "again.wrong", _("The name or the password is not right."))
        if outcome == "inactive":
            return _problem(403, "again.closed", _("This account is closed. Ask an operator."))
        methods: list[AuthenticateForm] = []
        if has_second_factor(person):
            if not code:
                return _problem(401, "again.code_needed", _("Enter the code of your authenticator app."))
            taken = take_sign_in(request, person.get_username(), action="code")
            form = AuthenticateForm(user=person, data={"code": code})
            if not form.is_valid():
                return _problem(401, "again.code_wrong", " ".join(form.errors.get("code", [])))
            taken.give_back()
            methods.append(form)
    except Limited as limited:
        response: HttpResponse = _problem(429, limited.code, wait_sentence(limited), retry_after=limited.retry_after)
        response["Retry-After"] = str(limited.retry_after)
        return unlogged(response)
    record_authentication(request, person, method="password", username=person.get_username())
    for form in methods:
        form.save()
    get_adapter(request).login(request, person)
    request.session.set_expiry(settings.SESSION_COOKIE_AGE)
    response = _standing(request, person)
    signed_in(request, response, person)
    return response


def _given(request: HttpRequest) -> tuple[str, str, str] | None:
    if int(request.META.get("CONTENT_LENGTH") or 0) > _LARGEST:
        return None
    data: Any = request.POST
    if request.content_type == "application/json":
        try:
            data = json.loads(request.body)
        except ValueError:
            return None
    if not hasattr(data, "get"):
        return None
    values = [data.get(name, "") for name in ("username", "password", "code")]
    if not all(isinstance(value, str) for value in values) or not values[0] or not values[1]:
        return None
    return values[0], values[1], values[2].strip()[:64]


def _standing(request: HttpRequest, person: Person | None) -> JsonResponse:
    who = {"id": person.pk, "username": person.get_username()} if person is not None else None
    return JsonResponse({"person": who, "csrf": get_token(request)})


def _problem(status: int, code: str, detail: str, **more: Any) -> JsonResponse:
    body = {"type": "about:blank", "status": status, "code": code, "detail": detail, **more}
    return JsonResponse(body, status=status, content_type="application/problem+json")
