"""Rooms that are made when somebody first looks for them: whether that is wanted."""

from __future__ import annotations

from django.conf import settings

from ops.models import Service

EAGER, LAZY = "eager", "lazy"


def rooms_are_lazy(homeserver: Service) -> bool:
    """Whether agents get account, mapping and address at once, and the room on first contact (option ``rooms``)."""
    return str(homeserver.options.get("rooms") or settings.MATRIX_ROOMS) == LAZY
