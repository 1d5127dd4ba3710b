"""The set-up page: a link's form, and what comes after it."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth import login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import NoReverseMatch, reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_safe

from agents.models import Room, RoomKind
from agents.services.backends import homeserver_service
from chat.models import Person
from chat.services.matrix_account import accounts_homeserver
from controlplane.models import SetupLink
from controlplane.setup.forms import OperatorForm, PasswordForm
from controlplane.setup.links import find_link
from controlplane.setup.services import (
    LinkUsed,
    create_first_operator,
    give_matrix_account,
    set_password,
)

_SENTENCE = "setup_sentence"


@never_cache
@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
def setup(request: HttpRequest, token: str) -> HttpResponse:
    """``/setup/<token>/``: the form; 404 with an explanation when the link is unknown, used or expired."""
    link = find_link(token)
    if link is None:
        return _page(request, "setup/closed.html", status=404)
    form = _form(request, link)
    if request.method != "POST" or not form.is_valid():
        status = 400 if form.is_bound else 200
        form.focus()
        service = accounts_homeserver()
        context = {
            "form": form,
            "person": link.person,
            "homeserver": service,
            "server_name": service.options.get("server_name", "") if service else "",
            "gets_account": service is not None and not (link.person and link.person.matrix_user_id),
        }
        return _page(request, "setup/form.html", context, status=status)
    try:
        person = _apply(link, form.cleaned_data)
    except LinkUsed:
        return _page(request, "setup/closed.html", status=404)
    outcome = give_matrix_account(person=person, password=form.cleaned_data["password"])
    login(request, person, backend="django.contrib.auth.backends.ModelBackend")
    request.session[_SENTENCE] = outcome.sentence
    return redirect("setup-done")


@never_cache
@require_safe
def done(request: HttpRequest) -> HttpResponse:
    """``/setup/done/``: what is ready now, and how to enter it with a Matrix client. For the one who is signed in."""
    if not isinstance(request.user, Person):
        return _page(request, "setup/closed.html", status=404)
    service = homeserver_service()
    space = Room.objects.filter(homeserver=service, kind=RoomKind.SPACE).first() if service else None
    context = {
        "person": request.user,
        "sentence": request.session.get(_SENTENCE, ""),
        "homeserver": service,
        "local": bool(service and service.options.get("local")),
        "space_name": (space.name if space else "") or settings.MATRIX_SPACE_NAME,
        "admin_url": _named("admin:index"),
    }
    return _page(request, "setup/done.html", context)


def _form(request: HttpRequest, link: SetupLink) -> PasswordForm:
    data = request.POST if request.method == "POST" else None
    return OperatorForm(data) if link.person is None else PasswordForm(data, person=link.person)


def _apply(link: SetupLink, data: dict[str, Any]) -> Person:
    if link.person is not None:
        return set_password(link=link, password=data["password"])
    return create_first_operator(
        link=link, username=data["username"], display_name=data["display_name"], password=data["password"]
    )


def _page(
    request: HttpRequest, template: str, context: dict[str, Any] | None = None, *, status: int = 200
) -> HttpResponse:
    response = render(request, template, {"admin_url": _named("admin:index"), **(context or {})}, status=status)
    # The address is the secret: it must not travel on to other servers. (With "no-referrer" browsers would send the form with
    # the origin "null", which the protection against forged requests refuses.)
    response["Referrer-Policy"] = "same-origin"
    response["X-Robots-Tag"] = "noindex"
    response["Content-Security-Policy"] = (
        "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
    return response


def _named(name: str) -> str:
    try:
        return reverse(name)
    except NoReverseMatch:
        return ""
