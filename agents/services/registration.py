"""The registration of this installation, made from the homeserver's row and the settings."""

from __future__ import annotations

from typing import Any

from django.conf import settings

from agents.matrix.registration import Registration
from ops.models import Service


def registration_of(service: Service | None, *, server_name: str = "", url: str = "") -> Registration | None:
    """The registration that the homeserver needs; ``None`` when its name is not known (nobody is asked for it)."""
    known: dict[str, Any] = dict(service.options) if service is not None else {}
    credentials: dict[str, Any] = dict(service.credentials or {}) if service is not None else {}
    name = (
        server_name
        or known.get("server_name")
        or settings.MATRIX_SERVER_NAME
        or (service.capabilities.get("server_name") if service is not None else "")
    )
    if not name:
        return None
    return Registration(
        id=known.get("appservice_id") or settings.MATRIX_APPSERVICE_ID,
        url=url or settings.MATRIX_APPSERVICE_URL,
        as_token=credentials.get("as_token") or settings.MATRIX_AS_TOKEN,
        hs_token=credentials.get("hs_token") or settings.MATRIX_HS_TOKEN,
        sender_localpart=known.get("sender_localpart") or settings.MATRIX_SENDER_LOCALPART,
        server_name=str(name),
        user_prefix=known.get("user_prefix") or settings.MATRIX_USER_PREFIX,
    )
