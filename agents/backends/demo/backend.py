"""The adapter: finds the character, lets it speak word by word, keeps the Librarian's notes."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from agents.backends.base import (
    AgentInfo,
    AgentListing,
    AttachedFile,
    Health,
    MemoryBlock,
    ReplyRequest,
    ServiceSpec,
    ShouldStop,
)
from agents.backends.chunks import Chunk, Finished, ReasoningDelta, RunStarted, TextDelta
from agents.backends.demo.characters import CHARACTERS, Character, Part, Pause, Scene, echo
from agents.backends.demo.memory import MemoryFile
from agents.backends.errors import AgentGone, BackendRejected
from agents.backends.files import is_text
from agents.backends.registry import kind_of
from ops.words import counted

WORDS_PER_SECOND = 14.0
LOOK_UP_SECONDS = 0.2
MOST_EXTRA_AGENTS = 100_000


class DemoBackend:
    """Options: ``speed`` (words a second, 14 by default; 0: no delay at all), ``count`` (that many generated agents besides the
    scripted ones, for tests and benchmarks), ``state_dir`` (where the Librarian's notes are kept; without it they last as long
    as the process).
    """

    kind = "demo"
    traits = kind_of("demo").traits

    def __init__(self, spec: ServiceSpec) -> None:
        self.spec = spec
        try:
            self.speed = max(0.0, float(spec.options.get("speed", WORDS_PER_SECOND)))
            self.count = min(max(0, int(spec.options.get("count", 0))), MOST_EXTRA_AGENTS)
        except (TypeError, ValueError):
            raise BackendRejected(f"Options 'speed' and 'count' of service {spec.name} must be numbers.") from None
        folder = spec.options.get("state_dir")
        safe_name = re.sub(r"[^A-Za-z0-9_-]+", "_", spec.name) or "demo"
        self.memory = MemoryFile(Path(str(folder)) / f"demo-memory-{safe_name}.json" if folder else None)

    def list_agents(self) -> AgentListing:
        agents = [_info(character) for character in CHARACTERS.values()]
        agents += [_info(_extra(number)) for number in range(1, self.count + 1)]
        return AgentListing(
            agents, True, f"{counted(len(agents), 'demo agent lives', 'demo agents live')} in this process"
        )

    def get_agent(self, external_id: str) -> AgentInfo | None:
        character = self._character(external_id)
        return _info(character) if character else None

    def open_conversation(self, agent_external_id: str, *, title: str, key: str) -> str:
        return ""

    def stream_reply(self, request: ReplyRequest, *, should_stop: ShouldStop) -> Iterator[Chunk]:
        character = self._character(request.agent_external_id)
        if character is None:
            raise AgentGone(f"There is no demo agent {request.agent_external_id!r}.")
        yield RunStarted(f"demo-run-{request.idempotency_id}-{request.attempt}")
        said = 0
        scene = Scene(request, self.memory)
        for part in itertools.chain(_seen(request.attachments), character.play(scene)):
            if isinstance(part, Pause):
                # Without a speed nothing waits, so tests of long answers take no time.
                if self._wait(part.seconds if self.speed else 0.0, should_stop):
                    yield Finished("cancelled", len(request.text.split()), said)
                    return
            elif isinstance(part, TextDelta | ReasoningDelta):
                for word in re.findall(r"\s*\S+\s*?|\s+", part.text):
                    if self._wait(1 / self.speed if self.speed else 0.0, should_stop):
                        yield Finished("cancelled", len(request.text.split()), said)
                        return
                    said += 1
                    yield type(part)(word)
            else:
                yield part
        yield Finished("end", len(request.text.split()), said)

    def cancel(self, agent_external_id: str, run_ref: str, conversation_ref: str = "") -> None:
        """A demo run lives in the thread that reads it and ends with it."""

    def health(self) -> Health:
        total = len(CHARACTERS) + self.count
        problem = self.memory.problem()
        if problem:
            return Health(False, problem)
        return Health(
            True,
            f"{counted(total, 'demo agent is ready; it needs', 'demo agents are ready; they need')} no server.",
            "1",
            0.0,
            {"count": total},
        )

    def read_memory(self, agent_external_id: str) -> Sequence[MemoryBlock]:
        character = self._known(agent_external_id)
        return self.memory.blocks(character.id) if character.remembers else []

    def write_memory(self, agent_external_id: str, label: str, value: str) -> MemoryBlock:
        character = self._known(agent_external_id)
        if not character.remembers:
            raise BackendRejected(f"{character.name} has no memory blocks; the Librarian has.")
        return self.memory.write(character.id, label, value)

    def close(self) -> None:
        """Nothing is held open."""

    def _known(self, external_id: str) -> Character:
        character = self._character(external_id)
        if character is None:
            raise AgentGone(f"There is no demo agent {external_id!r}.")
        return character

    def _character(self, external_id: str) -> Character | None:
        if external_id in CHARACTERS:
            return CHARACTERS[external_id]
        found = re.fullmatch(r"demo-extra-(\d{6})", external_id)
        number = int(found.group(1)) if found else 0
        return _extra(number) if 1 <= number <= self.count else None

    @staticmethod
    def _wait(seconds: float, should_stop: ShouldStop) -> bool:
        """Whether we were told to stop while waiting."""
        until = time.monotonic() + seconds
        while True:
            if should_stop():
                return True
            left = until - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(LOOK_UP_SECONDS, left))


def _seen(files: Sequence[AttachedFile]) -> Iterator[Part]:
    """What came with the message, described: these agents look at files as far as a script can."""
    for file in files:
        more = ""
        if is_text(file.media_type):
            words = len(file.read().decode("utf-8", "replace").split())
            more = f", {counted(words, 'word')}"
        yield TextDelta(f"I was given *{file.name}* ({file.media_type}, {file.size:,} bytes{more}).\n\n")


def _extra(number: int) -> Character:
    return Character(f"demo-extra-{number:06d}", f"Agent {number:06d}", "One of many: repeats what it is told.", echo)


def _info(character: Character) -> AgentInfo:
    return AgentInfo(character.id, character.name, character.description, model="scripted", metadata={"demo": True})
