"""The REST API of people, below ``/api/v1/chat``: their conversations, and nothing of anybody else."""

from __future__ import annotations

from chat.api.people import problems  # noqa: F401  (says how refusals look)
