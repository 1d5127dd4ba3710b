"""Which language a page speaks: the portal the reader's, everything else English."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.middleware.locale import LocaleMiddleware
from django.utils import translation

# What operators and programs read is written in English only; half of it in another language would help nobody.
_ENGLISH = (
    "/admin/",
    "/api/",
    "/v1/",
    "/setup/",
    "/status",
    "/webhook/",
    "/_matrix/",
    "/metrics",
    "/health",
    "/livez",
    "/readyz",
)


class LanguageMiddleware(LocaleMiddleware):
    """As Django's (cookie, then the browser), on the portal's pages only."""

    def process_request(self, request: HttpRequest) -> None:
        if request.path.startswith(_ENGLISH):
            translation.activate(settings.LANGUAGE_CODE)
            request.LANGUAGE_CODE = settings.LANGUAGE_CODE
            return
        super().process_request(request)

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if request.path.startswith(_ENGLISH):
            return response
        return super().process_response(request, response)
