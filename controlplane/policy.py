"""The Content-Security-Policy of every page: strict for people's pages, wider where the admin's components need it."""

from __future__ import annotations

from csp.constants import NONE, SELF
from csp.middleware import CSPMiddleware
from django.http import HttpRequest, HttpResponseBase

# No inline scripts or styles, nothing from elsewhere. Pictures may be data (QR codes) and blobs (previews of attachments).
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:", "blob:"],
        "font-src": [SELF],
        "media-src": [SELF, "blob:"],
        "connect-src": [SELF],
        "manifest-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}

# The admin's components (unfold, Alpine) and Swagger are built on inline handlers and evaluated attributes.
_ADMIN = ("/admin/", "/api/docs")


class PolicyMiddleware(CSPMiddleware):
    """As django-csp's, except that the admin gets none."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if request.path.startswith(_ADMIN):
            return response
        return super().process_response(request, response)
