"""What parts of a backup are called, for people who watch one being made, read or tried."""

from __future__ import annotations

from functools import cache

from django.apps import apps

from ops.backup.components import component

STEPS = {
    "read": "Reading the file",
    "tables": "Making the tables",
    "rows": "Loading the rows",
    "constraints": "Following every reference",
    "digests": "Comparing the rows with what the backup says of them",
    "secrets": "Opening every secret",
    "fences": "Looking whether anything old would be sent again",
    "attachments": "Reading the files of conversations",
    "message": "Sending one message to a restored agent",
}


@cache
def called(label: str) -> str:
    """A model's plural (``chat.Message``: messages), a component's name; what is neither is called what it is."""
    try:
        return str(apps.get_model(label)._meta.verbose_name_plural)
    except (LookupError, ValueError):
        known = component(label)
        return known.label if known is not None else label


def step_called(name: str) -> str:
    """What a step of a drill does."""
    return STEPS.get(name, name)
