"""What a process remembers of rows, and drops when they were put back."""

from __future__ import annotations

from agents.services import encryption
from chat.matrix import courtesy, gaps
from chat.services import quotas
from ops import live, quiet


def forget() -> None:
    """Names, receipts that would be sent, places up to which rooms were noted, quotas, live settings, members of rooms."""
    gaps.forget()
    courtesy.forget()
    quotas.forget()
    live.forget()
    encryption.forget()


quiet.on_restored(forget)
