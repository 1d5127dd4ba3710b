"""Pages about people and what is said."""

from chat.admin import (  # noqa: F401
    attachments,
    attempts,
    conversations,
    dead_letters,
    deliveries,
    invites,
    panels,
    people,
    quotas,
    refused,
    turns,
)
