"""Pages about people and what is said."""

from chat.admin import conversations, dead_letters, deliveries, panels, people, refused, turns  # noqa: F401
