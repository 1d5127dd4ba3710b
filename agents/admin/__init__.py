"""Pages about agents, their accounts and rooms, and the runs of sync."""

from agents.admin import accounts, agents, drift, imports, mappings, memory, raw, rooms, sync  # noqa: F401
