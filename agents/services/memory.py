"""Reads and edits the memory that an agent's server keeps for it."""

from __future__ import annotations

from django.db import transaction

from agents.backends.base import MemoryBlock
from agents.backends.errors import BackendError, BackendRejected
from agents.backends.registry import kind_of
from agents.history import MEMORY, memory_key
from agents.models import Agent, MemoryEdit
from agents.services.backends import backend_for
from ops.history.writing import Deed, note_value
from ops.services.audit import record


def has_memory(agent: Agent) -> bool:
    """Whether the agent's kind of server keeps memory blocks at all."""
    try:
        return kind_of(agent.service.kind).traits.has_memory
    except BackendError:
        return False


def memory_read(*, agent: Agent) -> list[MemoryBlock]:
    """The agent's memory blocks as the server has them now; empty where there are none. Raises ``BackendError``."""
    if not has_memory(agent):
        return []
    return list(backend_for(agent.service).read_memory(agent.external_id))


def memory_write(*, agent: Agent, label: str, value: str, actor: str) -> MemoryBlock:
    """Replace the text of one block, and keep what it was. Writes nothing when the text is the same.

    The audit event says how long the text was and is; the texts themselves stand in ``MemoryEdit``. Raises ``BackendRejected``
    for an unknown or read-only block or a text over its limit, ``BackendError`` when the server does not answer.
    """
    backend = backend_for(agent.service)
    known = next((block for block in backend.read_memory(agent.external_id) if block.label == label), None)
    if known is None:
        raise BackendRejected(f"{agent.name} has no memory block {label!r}.")
    if known.read_only:
        raise BackendRejected(f"The memory block {label!r} of {agent.name} is read-only on its server.")
    if known.limit is not None and len(value) > known.limit:
        raise BackendRejected(f"The text has {len(value)} characters; the block {label!r} holds {known.limit}.")
    if known.value == value:
        return known
    written = backend.write_memory(agent.external_id, label, value)
    with transaction.atomic():
        MemoryEdit.objects.create(
            agent=agent, label=label[:255], before=known.value, after=written.value, actor=actor[:255]
        )
        record(
            actor=actor,
            action="agent.memory_edited",
            target=agent,
            message=f"Memory block {label}.",
            before={"characters": len(known.value)},
            after={"characters": len(written.value)},
        )
        note_value(
            model=MEMORY,
            object_id=memory_key(agent, label),
            label=f"{agent.name}: {label}",
            before={"label": label, "text": known.value},
            after={"label": label, "text": written.value},
            deed=Deed(actor, "agent.memory_edited"),
        )
    return written
