"""Where everybody comes in: the site's root, and the page on which an invited person joins."""

from __future__ import annotations

from allauth.account.adapter import get_adapter
from allauth.account.models import EmailAddress
from django.conf import settings
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_safe

from chat.access import attempts, limits, registration
from chat.access.accounts import signed_in
from chat.access.client import address_of
from chat.models import AttemptKind, Person
from chat.portal.people_forms import JoinForm
from chat.portal.people_limited import limited_page
from chat.services.joining import JoinRefused, join_check, person_register


@never_cache
@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """``/``: operators to the desk, people to the chat, everybody else to the door."""
    if not request.user.is_authenticated:
        return redirect("account_login")
    return redirect("admin:index" if request.user.is_staff else "chat")


@never_cache
@ensure_csrf_cookie
@sensitive_post_parameters("password", "code")
@require_http_methods(["GET", "HEAD", "POST"])
def join(request: HttpRequest) -> HttpResponse:
    """``/join``: the form; the code of a link stands in its fragment, from where the page's script takes it."""
    if request.user.is_authenticated:
        return render(request, "portal/people_joined.html")
    form = JoinForm(request.POST or None)
    if request.method != "POST":
        return _page(request, form)
    try:
        return _try(request, form)
    except limits.Limited as limited:
        return limited_page(request, limited)


def _try(request: HttpRequest, form: JoinForm) -> HttpResponse:
    code = request.POST.get("code", "")[:200]
    address = address_of(request)
    try:
        guess = limits.take("invite", address=address)
    except limits.Limited:
        attempts.note(AttemptKind.INVITE, attempts.LIMITED, request=request)
        raise
    try:
        invite = join_check(code)
    except JoinRefused as refused:
        return _refused(request, form, refused)
    guess.give_back()
    if not form.is_valid():
        return _page(request, form, status=400)
    try:
        limits.take("register", address=address)
    except limits.Limited:
        attempts.note(AttemptKind.REGISTER, attempts.LIMITED, request=request)
        raise
    given = dict(form.cleaned_data)
    try:
        person = person_register(
            username=given["username"],
            password=given["password"],
            email=given["email"],
            display_name=given["display_name"],
            invite=code,
        )
    except JoinRefused as refused:
        return _refused(request, form, refused)
    except ValidationError as error:
        for field, sentences in error.message_dict.items():
            form.add_error(field if field in form.fields else None, sentences)
        attempts.note(AttemptKind.REGISTER, "invalid", name=given["username"], invite=invite, request=request)
        return _page(request, form, status=400)
    attempts.note(AttemptKind.REGISTER, "ok", name=person.get_username(), person=person, invite=invite, request=request)
    return _welcome(request, person)


def _refused(request: HttpRequest, form: JoinForm, refused: JoinRefused) -> HttpResponse:
    attempts.note(AttemptKind.INVITE, refused.reason, invite=refused.invite, request=request)
    form.is_valid()
    form.errors.clear()
    form.add_error("code", refusal())
    return _page(request, form, status=403)


def refusal() -> str:
    """What everybody is told whose code opens nothing, whatever the reason."""
    return _(
        "This code does not open the door: it may be mistyped, used up, expired or taken back. Ask whoever sent it to you for a new one."
    )


def _welcome(request: HttpRequest, person: Person) -> HttpResponse:
    get_adapter(request).login(request, person)
    response = HttpResponseRedirect("/chat/")
    signed_in(request, response, person)
    address = EmailAddress.objects.filter(user=person, verified=False).first()
    if address is not None and settings.MAIL:
        address.send_confirmation(request, signup=True)
    return response


def _page(request: HttpRequest, form: JoinForm, *, status: int = 200) -> HttpResponse:
    context = {"form": form, "mode": registration.mode()}
    return render(request, "portal/people_join.html", context, status=status)
