"""Letta's agents in a backup: each as an agent file (``.af``), and those that are gone made again from it."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import quote

from agents.backends.errors import AgentGone, BackendError, BackendTimeout, BackendUnavailable
from agents.backends.letta.backend import LettaBackend
from agents.models import Agent, AgentState
from agents.services.backends import backend_for
from ops.backup.components import Cut, FilePart, Putting, register_component
from ops.backup.errors import BackupError
from ops.backup.placing import inside, opener, private_folder, write_private
from ops.findings import Finding
from ops.models import Service
from ops.words import counted

KIND = "letta"
SUFFIX = ".af"
# Below the data directory: agents that a restore brought, until it is known whether their server has them.
FOLDER = "letta-agents"
# At once, and how far ahead of the archive: exporting is the server's work, and the rest of it serves people.
_AT_ONCE, _AHEAD = 4, 8
# So many in a row that the server does not answer: it is down, and the rest need not be tried.
_DOWN = 5
_MOST_NAMED = 1000


class NotAllExported(BackupError):
    """Some agents are not in the backup; the text counts them and says why."""


@dataclass(slots=True)
class _Failures:
    """Agents of one server that could not be exported: ``{external id: (name, why)}``, and how many were not even tried."""

    known: dict[str, tuple[str, str]] = field(default_factory=dict)
    untried: int = 0
    in_a_row: int = 0


class LettaAgents:
    """Exported side by side, written one after the other, so memory and disk hold a few of them at a time.

    In an agent file are its blocks, tools and the messages of its default thread; what was said in our conversations is in our rows.
    """

    name = "letta_agents"
    label = "Agents of Letta"
    kind = "mappings"
    optional = True

    def unavailable(self) -> str:
        return "" if Service.objects.filter(kind=KIND, enabled=True).exists() else "-"

    def files(self, cut: Cut) -> Iterator[FilePart]:
        problems: list[str] = []
        for service in Service.objects.using(cut.alias).filter(kind=KIND, enabled=True).order_by("pk"):
            failed = _Failures()
            yield from self._of_service(service, cut, failed)
            if failed.known or failed.untried:
                problems.append(_told(service, failed, cut))
        if problems:
            raise NotAllExported(" ".join(problems))

    def _of_service(self, service: Service, cut: Cut, failed: _Failures) -> Iterator[FilePart]:
        try:
            backend = cast(LettaBackend, backend_for(service))
        except BackendError as error:
            failed.known[""] = (service.name, error.reason)
            return
        rows = Agent.objects.using(cut.alias).filter(service=service).exclude(state=AgentState.ARCHIVED).order_by("pk")
        yield from self._exported(service, backend, rows.values_list("external_id", "name").iterator(2000), cut, failed)
        if failed.untried or not failed.known or cut.should_stop():
            return
        # What failed for a moment may work now.
        again = [(external_id, name) for external_id, (name, _) in failed.known.items()]
        failed.known.clear()
        failed.in_a_row = 0
        yield from self._exported(service, backend, iter(again), cut, failed)

    def _exported(
        self, service: Service, backend: LettaBackend, rows: Iterator[tuple[str, str]], cut: Cut, failed: _Failures
    ) -> Iterator[FilePart]:
        scratch = private_folder(cut.folder / self.name)
        waiting: deque[tuple[str, str, Path, Future[int]]] = deque()
        with ThreadPoolExecutor(_AT_ONCE, "letta-export") as pool:
            try:
                for number, (external_id, name) in enumerate(rows):
                    if cut.should_stop():
                        return
                    if failed.in_a_row >= _DOWN:
                        failed.untried += 1
                        continue
                    path = scratch / f"{number}{SUFFIX}"
                    waiting.append((external_id, name, path, pool.submit(_export, backend, external_id, path)))
                    if len(waiting) > _AHEAD:
                        yield from self._next(service, waiting, cut, failed)
                while waiting:
                    yield from self._next(service, waiting, cut, failed)
            finally:
                for *_, future in waiting:
                    future.cancel()

    def _next(
        self,
        service: Service,
        waiting: deque[tuple[str, str, Path, Future[int]]],
        cut: Cut,
        failed: _Failures,
    ) -> Iterator[FilePart]:
        external_id, name, path, future = waiting.popleft()
        try:
            size = future.result()
        except AgentGone:
            sentence = f"{name} is not on {service.name} any more, so there is nothing of it to export."
            cut.say(Finding("info", "backup.agent_gone", sentence, f"agent:{external_id}"))
            failed.in_a_row = 0
            return
        except BackendError as error:
            failed.known[external_id] = (name, error.reason)
            down = isinstance(error, (BackendUnavailable, BackendTimeout))
            failed.in_a_row = failed.in_a_row + 1 if down else 0
            return
        failed.in_a_row = 0
        yield FilePart(_file_name(service.name, external_id), size, opener(path))
        path.unlink(missing_ok=True)

    def put(self, files: Iterable[tuple[str, int, BinaryIO]], putting: Putting) -> dict[str, int]:
        """Lays the files aside; what is done with them is decided when the rows are in (``agents.services.agent_files``)."""
        if putting.drill:
            return _read_all(files, putting)
        counts = {"written": 0}
        root = private_folder(putting.data_dir / FOLDER)
        for name, _, stream in files:
            write_private(inside(root, name), stream)
            counts["written"] += 1
        return counts


def _file_name(service: str, external_id: str) -> str:
    return f"{_safe(service)}/{_safe(external_id)}{SUFFIX}"


def _safe(name: str) -> str:
    quoted = quote(name, safe="")
    return f"%2E{quoted[1:]}" if quoted.startswith(".") else quoted or "%"


def _export(backend: LettaBackend, external_id: str, path: Path) -> int:
    """Export one agent into a file. Raises ``BackendError``. What came must be an agent file: a page of a proxy is none."""
    try:
        with path.open("wb") as target:
            size = backend.export_agent(external_id, target)
        with path.open("rb") as begun:
            if begun.read(64).lstrip()[:1] != b"{":
                raise BackendUnavailable("The server answered with something that is no agent file.")
        return size
    except BaseException:
        with suppress(FileNotFoundError):
            path.unlink()
        raise


def _told(service: Service, failed: _Failures, cut: Cut) -> str:
    named = list(failed.known.items())
    number = len(named) + failed.untried
    why = named[-1][1][1] if named else ""
    names = ", ".join(name for _, (name, _) in named[:5]) + (" and others" if number > 5 else "")
    sentence = f"{counted(number, 'agent')} of {service.name} could not be exported ({names}): {why}"
    evidence = {
        "service": service.pk,
        "agents": [{"id": one, "name": name, "why": reason[:300]} for one, (name, reason) in named[:_MOST_NAMED]],
        "untried": failed.untried,
    }
    cut.say(Finding("error", "backup.agents_not_exported", sentence, f"service:{service.pk}", evidence))
    return sentence


def _read_all(files: Iterable[tuple[str, int, BinaryIO]], putting: Putting) -> dict[str, int]:
    counts = {"read": 0, "damaged": 0}
    for name, _, stream in files:
        try:
            found = json.loads(stream.read())
            good = isinstance(found, dict) and bool(found.get("agents"))
        except ValueError:
            good = False
        counts["read"] += good
        if not good:
            counts["damaged"] += 1
            sentence = f"{name} is no agent file of Letta's: it could not be imported."
            putting.say(Finding("warning", "drill.agent_file", sentence, f"file:{name}"))
    return counts


register_component(LettaAgents())
