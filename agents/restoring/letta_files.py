"""Agents that Letta lost are made again from the backup's agent files, before anything looks for them."""

from __future__ import annotations

from typing import Any

from agents.services.agent_files import agent_files_import, waiting
from ops.backup.hooks import Reconcile, register_reconcile
from ops.findings import Finding


def make_again(work: Reconcile) -> dict[str, Any] | None:
    """Nothing happens unless the backup brought agent files."""
    if next(waiting(), None) is None:
        return None
    found = agent_files_import(actor=work.actor, progress=lambda name: work.progress(f"Making {name} again"))
    if found.failed:
        work.say(
            Finding("warning", "restore.agents_not_made", found.sentence, "", {"failed": found.to_dict()["failed"]})
        )
    return found.to_dict()


register_reconcile("Agents of Letta", make_again)
