"""The words of the page's scripts, in one language. A file of its own, so that the security policy needs no exception."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.utils import translation
from django.views.i18n import JavaScriptCatalog

# Without packages it would carry the admin's words too.
_catalog = JavaScriptCatalog.as_view(packages=["chat"])


def strings(request: HttpRequest, language: str, **_: Any) -> HttpResponseBase:
    """``gettext`` and ``ngettext`` for scripts. The address names the language, so browsers may keep it."""
    if language not in dict(settings.LANGUAGES):
        raise Http404
    with translation.override(language):
        response = _catalog(request)
    response.headers["Cache-Control"] = "public, max-age=300"
    return response
