"""The REST API of agents, their mappings and rooms, and of sync."""

from __future__ import annotations

from agents.api import problems  # noqa: F401  (says how this app's exceptions look)
