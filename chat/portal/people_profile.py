"""``/profile/``: who somebody is here, how they sign in, what they have open, and how they leave."""

from __future__ import annotations

import zoneinfo
from typing import Any
from uuid import UUID

from allauth.account.models import EmailAddress
from allauth.usersessions.models import UserSession
from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_required
from django.contrib.sessions.models import Session
from django.core.exceptions import ValidationError
from django.db.models import Exists, OuterRef
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from chat.access import limits
from chat.access.names import LONGEST_SHOWN, clean_display_name
from chat.access.second_factor import has_second_factor
from chat.access.signing_in import take_sign_in
from chat.models import Person, ProgramLogin
from chat.portal.look import THEMES
from chat.portal.people_limited import limited_page
from chat.services.people import person_delete, person_profile_save
from chat.services.personal_tokens import personal_token_create, personal_token_revoke, personal_tokens
from chat.services.preferences import look_choose
from chat.services.program_logins import login_end
from chat.services.sessions import session_end, session_renew, sign_out_everywhere
from ops.models import ApiToken

# Nobody looks through more; the rest is ended with one button.
_SHOWN = 50


class ProfileForm(forms.Form):
    """What people say of themselves."""

    display_name = forms.CharField(
        label=gettext_lazy("Your name"),
        max_length=LONGEST_SHOWN,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
        help_text=gettext_lazy("What agents and others call you. The user name when empty."),
    )
    language = forms.ChoiceField(
        label=gettext_lazy("Language"), required=False, choices=lambda: [("", _("As the browser")), *settings.LANGUAGES]
    )
    time_zone = forms.CharField(
        label=gettext_lazy("Time zone"),
        max_length=64,
        required=False,
        widget=forms.TextInput(attrs={"list": "zones", "autocomplete": "off", "spellcheck": "false"}),
        help_text=gettext_lazy("For example Europe/Berlin. Your browser's when empty."),
    )
    theme = forms.ChoiceField(label=gettext_lazy("Theme"), choices=list(THEMES.items()))

    def clean_display_name(self) -> str:
        return clean_display_name(self.cleaned_data["display_name"])

    def clean_time_zone(self) -> str:
        name: str = self.cleaned_data["time_zone"].strip()
        if name and name not in zoneinfo.available_timezones():
            raise ValidationError(_("This is not the name of a time zone, which looks like Europe/Berlin."))
        return name


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def profile(request: HttpRequest) -> HttpResponse:
    """The page, and its first form."""
    person = _person(request)
    initial = {
        "display_name": person.display_name,
        "language": person.language,
        "time_zone": person.time_zone,
        "theme": person.preferences.get("theme", "auto"),
    }
    form = ProfileForm(request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        _save(person, form)
        messages.success(request, _("Saved."))
        return redirect("profile")
    return _page(request, form)


@never_cache
@login_required
@require_POST
def browser_end(request: HttpRequest, pk: int) -> HttpResponse:
    """End one of one's own browsers."""
    session = get_object_or_404(UserSession, pk=pk, user=_person(request))
    if session.session_key == request.session.session_key:
        logout(request)
        session_end(session=session, actor=_actor(session.user))
        return redirect("account_login")
    session_end(session=session, actor=_actor(session.user))
    return _done(request, _("That browser is signed out."), "browsers")


@never_cache
@login_required
@require_POST
def program_end(request: HttpRequest, pk: UUID) -> HttpResponse:
    """End one of one's own programs."""
    person = _person(request)
    login_end(
        login=get_object_or_404(ProgramLogin, pk=pk, person=person), reason="ended by its person", actor=_actor(person)
    )
    return _done(request, _("That program is signed out."), "programs")


@never_cache
@login_required
@sensitive_post_parameters()
@require_POST
def token_make(request: HttpRequest) -> HttpResponse:
    """Make a personal token and show it, once."""
    person = _person(request)
    try:
        token, secret = personal_token_create(
            person=person, name=request.POST.get("name", "")[:100], actor=_actor(person)
        )
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
        return redirect("/profile/#tokens")
    return render(
        request, "portal/people_token.html", {"token": token, "secret": secret, "address": settings.PUBLIC_URL}
    )


@never_cache
@login_required
@require_POST
def token_end(request: HttpRequest, pk: int) -> HttpResponse:
    """End one of one's own personal tokens."""
    person = _person(request)
    try:
        personal_token_revoke(person=person, token_id=pk, actor=_actor(person))
    except ApiToken.DoesNotExist:
        raise Http404 from None
    return _done(request, _("That token counts no longer."), "tokens")


@never_cache
@login_required
@require_POST
def everywhere_end(request: HttpRequest) -> HttpResponse:
    """Sign out every browser and program but this browser; with ``tokens`` the personal tokens too."""
    person = _person(request)
    sign_out_everywhere(
        person=person,
        keep_session=request.session.session_key or "",
        tokens=bool(request.POST.get("tokens")),
        actor=_actor(person),
    )
    session_renew(request, person)
    return _done(request, _("All other browsers and programs are signed out."), "browsers")


@never_cache
@login_required
@sensitive_post_parameters("password")
@require_POST
def delete(request: HttpRequest) -> HttpResponse:
    """Delete oneself: the user name typed, the password given, and a choice of what happens to the conversations."""
    person = _person(request)
    choice = request.POST.get("conversations", "")
    try:
        taken = take_sign_in(request, person.get_username())
    except limits.Limited as limited:
        return limited_page(request, limited)
    if not person.check_password(request.POST.get("password", "")):
        return _page(request, None, delete_error=_("The password is not right."), status=400)
    taken.give_back()
    if request.POST.get("username", "").strip().lower() != person.get_username().lower():
        return _page(request, None, delete_error=_("Type your user name exactly to confirm."), status=400)
    if choice not in {"keep", "delete"}:
        return _page(request, None, delete_error=_("Choose what happens to your conversations."), status=400)
    try:
        person_delete(person=person, conversations="delete" if choice == "delete" else "keep", actor=_actor(person))
    except ValidationError as error:
        return _page(request, None, delete_error=" ".join(error.messages), status=400)
    logout(request)
    return render(request, "portal/people_gone.html", {"kept": choice == "keep"})


def _page(request: HttpRequest, form: ProfileForm | None, *, delete_error: str = "", status: int = 200) -> HttpResponse:
    person = _person(request)
    if form is None:
        form = ProfileForm(
            initial={
                "display_name": person.display_name,
                "language": person.language,
                "time_zone": person.time_zone,
                "theme": person.preferences.get("theme", "auto"),
            }
        )
    now = timezone.now()
    open_session = Session.objects.filter(session_key=OuterRef("session_key"), expire_date__gt=now)
    address = EmailAddress.objects.filter(user=person).order_by("-primary", "-verified").first()
    context: dict[str, Any] = {
        "form": form,
        "person": person,
        "address": address,
        "mail": settings.MAIL,
        "second_factor": has_second_factor(person),
        "browsers": UserSession.objects.filter(Exists(open_session), user=person).order_by("-last_seen_at")[:_SHOWN],
        "this_browser": request.session.session_key,
        "programs": ProgramLogin.objects.filter(
            person=person, revoked_at=None, expires_at__gt=now, epoch=person.access_epoch
        )[:_SHOWN],
        "tokens": personal_tokens(person)[:_SHOWN],
        "zones": sorted(zoneinfo.available_timezones()),
        "delete_error": delete_error,
    }
    return render(request, "portal/people_profile.html", context, status=400 if form.errors else status)


def _save(person: Person, form: ProfileForm) -> None:
    given = form.cleaned_data
    person.display_name, person.time_zone, person.language = (
        given["display_name"],
        given["time_zone"],
        given["language"],
    )
    changed = [name for name in form.changed_data if name != "theme"]
    person_profile_save(person=person, changed=changed, actor=_actor(person))
    if "theme" in form.changed_data:
        look_choose(person=person, theme=given["theme"], actor=_actor(person))


def _person(request: HttpRequest) -> Person:
    assert isinstance(request.user, Person)
    return request.user


def _actor(person: Person) -> str:
    return f"person:{person.get_username()}"


def _done(request: HttpRequest, sentence: str, section: str) -> HttpResponse:
    messages.success(request, sentence)
    return redirect(f"/profile/#{section}")
