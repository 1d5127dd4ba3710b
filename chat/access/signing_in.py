"""One attempt at a name and a password, with its limits and its note: for the page, the dialog of the chat page and the API alike."""

from __future__ import annotations

from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from chat.access import attempts, devices, limits
from chat.access.client import address_of
from chat.access.passwords import Outcome, check, find_person
from chat.models import AttemptKind, Person


def take_sign_in(request: HttpRequest, login: str, *, action: str = "sign_in") -> limits.Taken:
    """Count an attempt at an account. Raises ``limits.Limited``, which is noted. A browser that knows the account has its own limit."""
    device = devices.known_device(request, find_person(login)) if devices.is_marked(request) else ""
    try:
        return limits.take(action, address=address_of(request), account=login.strip(), device=device)
    except limits.Limited:
        attempts.note(AttemptKind.SIGN_IN, attempts.LIMITED, name=login, request=request)
        raise


def sign_in_check(request: HttpRequest, login: str, password: str) -> tuple[Person | None, Outcome]:
    """Whose name and password it is. Raises ``limits.Limited``. Failures are noted; "ok" is for the caller, who lets them in."""
    taken = take_sign_in(request, login)
    person, outcome = check(login, password)
    if outcome == "ok":
        taken.give_back()
        return person, outcome
    attempts.note(AttemptKind.SIGN_IN, outcome, name=login, person=person, request=request)
    return person, outcome


def wait_sentence(limited: limits.Limited) -> str:
    """What somebody is told who tried too often."""
    minutes = max(1, -(-limited.retry_after // 60))
    told = ngettext("Wait %(count)d minute, then try again.", "Wait %(count)d minutes, then try again.", minutes)
    return _("Too many attempts.") + " " + told % {"count": minutes}
