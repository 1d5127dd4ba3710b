"""The REST API of agents, their mappings and rooms, and of sync."""
