"""Whether somebody has just shown who they are: what leaves the house in one file is not handed to a browser that was left open."""

from __future__ import annotations

import time

from allauth.account import app_settings
from allauth.account.internal.flows.login import get_authentication_records
from allauth.core.exceptions import ReauthenticationRequired
from django.http import HttpRequest


def is_fresh(request: HttpRequest) -> bool:
    """Whether the session's person signed in, or gave their password again, within the last five minutes."""
    if not request.user.is_authenticated:
        return False
    at = [float(one.get("at", 0)) for one in get_authentication_records(request, request.user)]
    return bool(at) and time.time() - max(at) < app_settings.REAUTHENTICATION_TIMEOUT


def ask_unless_fresh(request: HttpRequest) -> None:
    """Leads a browser to the page that asks for the password once more, and back here (allauth's middleware does)."""
    if not is_fresh(request):
        raise ReauthenticationRequired()
