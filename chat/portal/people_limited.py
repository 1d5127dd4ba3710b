"""What somebody gets who tried too often: small and cheap, since it is what a flood of guesses is answered with."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _

from chat.access.limits import Limited
from chat.access.signing_in import wait_sentence
from ops.logs import unlogged


def limited_page(request: HttpRequest, limited: Limited) -> HttpResponse:
    """429 with ``Retry-After``: the sentence, and the way back."""
    response = render(request, "portal/people_limited.html", {"sentence": wait_sentence(limited)}, status=429)
    response["Retry-After"] = str(limited.retry_after)
    return unlogged(response)


def too_many(request: HttpRequest, *_more: Any) -> HttpResponse:
    """The site's ``handler429``, which allauth's own limits answer with."""
    sentence = _("Too many attempts.") + " " + _("Wait a few minutes, then try again.")
    response = render(request, "portal/people_limited.html", {"sentence": sentence}, status=429)
    response["Retry-After"] = "60"
    return unlogged(response)
