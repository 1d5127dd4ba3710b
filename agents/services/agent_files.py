"""Agents that a restore brought as agent files: those that their server lost are made again, and keep account, room and conversations."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

from django.conf import settings

from agents.backends.errors import BackendError
from agents.backends.letta.backend import LettaBackend
from agents.backup_letta import FOLDER, KIND, SUFFIX
from agents.models import Agent, AgentState
from agents.services.backends import backend_for
from agents.services.moving import CannotMove, agent_move
from ops.locks import named_lock
from ops.models import Service
from ops.words import counted

TAG = "switchboard-restored:"


@dataclass(slots=True)
class Imported:
    """What became of agent files. ``made`` and ``failed`` name agents; failed ones lie there still, and can be tried again."""

    present: int = 0
    unknown: int = 0
    made: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        said = (
            [f"{counted(len(self.made), 'agent was', 'agents were')} made again on their server"] if self.made else []
        )
        if self.present:
            said.append(f"{self.present:,} {'is' if self.present == 1 else 'are'} there")
        if self.unknown:
            said.append(f"{self.unknown:,} {'belongs' if self.unknown == 1 else 'belong'} to no agent of ours")
        text = "; ".join(said) + "." if said else "No agent waits to be made again."
        if self.failed:
            name, why = next(iter(self.failed.items()))
            text += (
                f" {counted(len(self.failed), 'agent')} could not be made again ({name}: {why}). Their files wait: "
                "manage.py agent_files import."
            )
        return text

    def to_dict(self) -> dict[str, Any]:
        """JSON shape: ``{sentence, present, unknown, made, failed}``; at most 200 names of each."""
        return {
            "sentence": self.sentence,
            "present": self.present,
            "unknown": self.unknown,
            "made": self.made[:200],
            "failed": dict(list(self.failed.items())[:200]),
        }


def root() -> Path:
    """``DATA_DIR/letta-agents``."""
    return Path(settings.DATA_DIR) / FOLDER


def waiting() -> Iterator[tuple[str, str, Path]]:
    """(service's name, agent's id on it, file) of what a restore brought and is not settled yet."""
    for path in sorted(root().glob(f"*/*{SUFFIX}")):
        yield unquote(path.parent.name), unquote(path.name.removesuffix(SUFFIX)), path


def agent_files_import(*, actor: str, progress: Callable[[str], None] = lambda text: None) -> Imported:
    """Make the agents again whose servers do not have them any more. Files of those that are there are removed.

    An agent that is made again has a new id on its server; the row moves to it (``agent_move``). Made twice is none: each carries the
    tag of the id that it had. Raises ``ops.locks.LockHeld`` while another process is at it.
    """
    found = Imported()
    with named_lock("agents.files", wait=5.0):
        for service_name, external_id, path in waiting():
            agent = (
                Agent.objects.select_related("service")
                .filter(service__name=service_name, service__kind=KIND, external_id=external_id)
                .exclude(state=AgentState.ARCHIVED)
                .first()
            )
            if agent is None:
                found.unknown += 1
                path.unlink()
                continue
            progress(agent.name)
            try:
                _settle(agent, path, actor, found)
            except BackendError as error:
                found.failed[agent.name] = error.reason
            except CannotMove as error:
                found.failed[agent.name] = error.sentence
            else:
                path.unlink()
        for folder in root().glob("*"):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
    return found


def agent_files_discard() -> int:
    """Forget what waits. Returns how many files went."""
    number = sum(1 for _ in waiting())
    shutil.rmtree(root(), ignore_errors=True)
    return number


def _settle(agent: Agent, path: Path, actor: str, found: Imported) -> None:
    service: Service = agent.service
    backend = cast(LettaBackend, backend_for(service))
    if backend.get_agent(agent.external_id) is not None:
        found.present += 1
        return
    tag = f"{TAG}{agent.external_id}"
    # One that was made before this was cut off.
    new_id = backend.tagged(tag) or backend.import_agent(io.BytesIO(_with_tag(path, tag)))
    agent_move(agent=agent, service=service, external_id=new_id, actor=actor, info=backend.get_agent(new_id))
    found.made.append(agent.name)


def _with_tag(path: Path, tag: str) -> bytes:
    document = json.loads(path.read_bytes())
    for agent in document.get("agents", [])[:1]:
        agent["tags"] = [*(one for one in agent.get("tags") or [] if not one.startswith(TAG)), tag]
    return json.dumps(document).encode()
