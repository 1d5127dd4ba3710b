"""Pages about people and what is said."""

from chat.admin import (  # noqa: F401
    accounts,
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
