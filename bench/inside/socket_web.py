"""Switchboard's application in a process that knows the stamped words."""

from __future__ import annotations

from bench.inside.socket_backend import register
from controlplane.asgi import application  # sets Django up

register()

__all__ = ["application"]
