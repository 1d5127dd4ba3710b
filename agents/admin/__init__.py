"""Pages about agents, their accounts and rooms, and the runs of sync."""

from agents.admin import accounts, agents, mappings, memory, rooms, sync  # noqa: F401
