"""The REST API of conversations, messages, turns and deliveries."""

from __future__ import annotations

from chat.api import problems  # noqa: F401  (says how this app's exceptions look)
