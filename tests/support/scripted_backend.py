"""Backends for tests, in this process: they do what a script says and write down what they were asked.

Three kinds with the traits that matter: ``scripted`` keeps nothing (its turns may run side by side), ``scripted_memory`` keeps
history, is exclusive and has conversations of its own (as Letta does), ``scripted_defined`` has its agents defined here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from agents.backends.base import (
    AgentInfo,
    AgentListing,
    Approval,
    Health,
    MemoryBlock,
    ReplyRequest,
    ServiceSpec,
    ShouldStop,
    Traits,
)
from agents.backends.chunks import Chunk, Finished, TextDelta
from agents.backends.errors import BackendTimeout
from agents.backends.registry import register_backend

PATH = "tests.support.scripted_backend"


@dataclass
class Gate:
    """A place in a script at which the reply waits until the test opens it (or the turn is stopped)."""

    reached: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)

    def open(self) -> None:
        self.opened.set()


Script = Sequence[Any]


class World:
    """What all scripted servers share: agents by service, scripts, ledgers."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.lock = threading.Lock()
        self.agents: dict[str, list[AgentInfo]] = {}
        self.complete: dict[str, bool] = {}
        self.listing_error: dict[str, Exception] = {}
        self.scripts: list[Script] = []
        self.default: Script | Callable[[ReplyRequest], Script] | None = None
        self.requests: list[ReplyRequest] = []
        self.cancelled: list[tuple[str, str, str]] = []
        self.conversations: list[tuple[str, str, str]] = []
        self.refused: list[tuple[str, tuple[str, ...], str]] = []
        self.stopped = 0
        self.at_once = self.most_at_once = 0

    def script(self, *steps: Any) -> None:
        """What happens at the next request: chunks are yielded, strings become text, exceptions are raised, gates are waited at,
        functions are called with the request. A script without ``Finished`` at its end gets one, unless it ends with ``...``."""
        self.scripts.append(steps)

    def _next(self, request: ReplyRequest) -> Script:
        with self.lock:
            self.requests.append(request)
            if self.scripts:
                return self.scripts.pop(0)
        if callable(self.default):
            return self.default(request)
        return self.default if self.default is not None else (f"You said: {request.text}",)


WORLD = World()


class ScriptedBackend:
    """One server."""

    kind = "scripted"
    traits = Traits()

    def __init__(self, spec: ServiceSpec) -> None:
        self.spec = spec

    def list_agents(self) -> AgentListing:
        error = WORLD.listing_error.get(self.spec.name)
        if error is not None:
            raise error
        agents = list(WORLD.agents.get(self.spec.name, ()))
        complete = WORLD.complete.get(self.spec.name, True)
        return AgentListing(agents, complete, f"{len(agents)} read." if complete else "A page was missing.")

    def get_agent(self, external_id: str) -> AgentInfo | None:
        return next((one for one in WORLD.agents.get(self.spec.name, ()) if one.external_id == external_id), None)

    def open_conversation(self, agent_external_id: str, *, title: str, key: str) -> str:
        if not self.traits.has_conversations:
            return ""
        with WORLD.lock:
            WORLD.conversations.append((agent_external_id, title, key))
            return f"conv-{len(WORLD.conversations)}"

    def stream_reply(self, request: ReplyRequest, *, should_stop: ShouldStop) -> Iterator[Chunk]:
        steps = WORLD._next(request)
        with WORLD.lock:
            WORLD.at_once += 1
            WORLD.most_at_once = max(WORLD.most_at_once, WORLD.at_once)
        try:
            yield from self._play(steps, request, should_stop)
        finally:
            with WORLD.lock:
                WORLD.at_once -= 1

    def _play(self, steps: Script, request: ReplyRequest, should_stop: ShouldStop) -> Iterator[Chunk]:
        for step in steps:
            if step is ...:
                return
            if isinstance(step, BaseException):
                raise step
            if isinstance(step, Gate):
                step.reached.set()
                for _ in range(3000):
                    if step.opened.wait(0.01):
                        break
                    if should_stop():
                        WORLD.stopped += 1
                        yield Finished("cancelled")
                        return
                else:
                    raise BackendTimeout("The test never opened the gate.")
            elif isinstance(step, str):
                yield TextDelta(step)
            elif callable(step):
                step(request)
            else:
                yield step
            if should_stop():
                WORLD.stopped += 1
                yield Finished("cancelled")
                return
        if not steps or not isinstance(steps[-1], Finished):
            yield Finished("end", 3, 5)

    def cancel(self, agent_external_id: str, run_ref: str, conversation_ref: str = "") -> None:
        WORLD.cancelled.append((agent_external_id, run_ref, conversation_ref))

    def health(self) -> Health:
        return Health(True, "It answers.", "1")

    def read_memory(self, agent_external_id: str) -> Sequence[MemoryBlock]:
        return []

    def write_memory(self, agent_external_id: str, label: str, value: str) -> MemoryBlock:
        return MemoryBlock(label, value)

    def close(self) -> None:
        """Nothing is held open."""


class ScriptedMemoryBackend(ScriptedBackend):
    kind = "scripted_memory"
    traits = Traits(
        keeps_history=True, exclusive=True, has_conversations=True, has_memory=True, recognises_repeats=True
    )

    def refuse_calls(self, agent_external_id: str, approvals: Sequence[Approval], conversation_ref: str = "") -> None:
        WORLD.refused.append((agent_external_id, tuple(one.call_id for one in approvals), conversation_ref))


class ScriptedDefinedBackend(ScriptedBackend):
    kind = "scripted_defined"
    traits = Traits(defined_here=True)


for _class in (ScriptedBackend, ScriptedMemoryBackend, ScriptedDefinedBackend):
    register_backend(
        _class.kind, f"{PATH}.{_class.__name__}", f"Scripted ({_class.kind})", _class.traits, needs_address=False
    )
