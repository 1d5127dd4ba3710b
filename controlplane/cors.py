"""Pages of other sites that may call us: those of ``ALLOWED_ORIGINS``, which an operator may change live. They are sent no cookies."""

from __future__ import annotations

import re
from typing import Any

from corsheaders.signals import check_request_enabled
from django.conf import settings
from django.dispatch import receiver
from django.http import HttpRequest

from ops.origins import is_allowed


@receiver(check_request_enabled, dispatch_uid="controlplane.cors")
def allow(sender: Any, request: HttpRequest, **kwargs: Any) -> bool:
    """Whether a browser may hand the answer to the page that asked."""
    return bool(re.match(settings.CORS_URLS_REGEX, request.path)) and is_allowed(request.headers.get("Origin", ""))
