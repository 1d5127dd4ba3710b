"""What Switchboard asks of any server on which agents live.

A backend is an adapter. It knows nothing of the database, of Matrix or of turns: it is given plain values and yields plain
values, so that a server reached by REST, by one WebSocket or by nothing at all (``demo``) fits behind the same protocol.

Everything here is synchronous and thread-safe: a turn runs in a worker thread and waits on a stream; an adapter whose server
speaks over one shared socket multiplexes behind these same calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from agents.backends.chunks import Chunk


@dataclass(frozen=True, slots=True)
class Traits:
    """What a kind of backend can do and what it keeps itself.

    ``keeps_history``: the server remembers the conversation, so it is sent only the new message; otherwise it is sent the
    bounded history. ``exclusive``: one turn at a time for an agent. ``has_conversations``: the server can hold a separate
    conversation for each of ours. ``recognises_repeats``: a repeated request with the same idempotency id is not run twice.
    ``takes_images``: pictures reach the model. ``takes_files``: so do PDF documents. Texts are passed on as text by every backend.
    """

    keeps_history: bool = False
    exclusive: bool = False
    has_conversations: bool = False
    has_memory: bool = False
    recognises_repeats: bool = False
    defined_here: bool = False
    takes_images: bool = False
    takes_files: bool = False


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """The address and credentials of one server, taken from a ``Service`` row. Secrets stay out of ``repr``."""

    name: str
    kind: str
    base_url: str
    credentials: dict[str, str] = field(default_factory=dict, repr=False)
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AgentInfo:
    """One agent as its server describes it. ``external_id`` is the server's own id and never changes."""

    external_id: str
    name: str
    description: str = ""
    avatar_url: str = ""
    model: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AgentListing:
    """All agents of one service. ``complete`` is proven, never assumed; ``proof`` says how, or what was missing.

    Nothing may be archived on a listing whose ``complete`` is false.
    """

    agents: Sequence[AgentInfo]
    complete: bool
    proof: str
    pages: int = 1


@dataclass(frozen=True, slots=True)
class AttachedFile:
    """A file that came with a message. ``media_type`` was found by looking into it; ``read`` gives its content when it is needed."""

    name: str
    media_type: str
    size: int
    read: Callable[[], bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class HistoryItem:
    """One earlier message, for backends that keep no history. ``name`` is the speaker's display name."""

    role: Literal["user", "assistant"]
    text: str
    name: str = ""
    attachments: Sequence[AttachedFile] = ()


@dataclass(frozen=True, slots=True)
class Approval:
    """Somebody's word about a tool call that waited for it. ``reason`` is passed on to the agent when it was refused."""

    call_id: str
    approve: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who is talking to the agent. ``kind`` is ``person``, ``agent`` or ``system``; ``id`` is stable (an MXID, a user name)."""

    name: str
    kind: Literal["person", "agent", "system"] = "person"
    id: str = ""


@dataclass(frozen=True, slots=True)
class ReplyRequest:
    """One input for one agent.

    ``idempotency_id`` is made from the message id and stays the same for every attempt; ``attempt`` starts at 1 and is larger
    when an earlier attempt may already have reached the server. ``conversation_ref`` is the server's own conversation id
    (empty: none yet, or shared); ``resume_ref`` is the run id an earlier attempt stored. ``definition`` holds the system
    prompt, model, etc. of agents defined here.

    ``history`` is what was said before: for backends that keep none, and for a conversation that was made on the server just now to
    hold another branch. ``approvals`` are the words about tool calls on which the run stopped (``Finished("approval")``): they go
    instead of the text, unless the server has not heard that yet (``unheard``); then the text goes after them.
    ``attachments`` came with the text.
    ``instructions`` are the caller's own, to be followed besides the agent's; ``whole_history``: the caller chose the history, so it
    is passed on whole (both for backends that keep no history).
    """

    agent_external_id: str
    text: str
    speaker: Speaker
    idempotency_id: str
    attempt: int = 1
    conversation_ref: str = ""
    resume_ref: str = ""
    history: Sequence[HistoryItem] = ()
    instructions: str = ""
    whole_history: bool = False
    definition: dict[str, Any] = field(default_factory=dict)
    timeout_seconds: float = 180.0
    attachments: Sequence[AttachedFile] = ()
    approvals: Sequence[Approval] = ()
    unheard: bool = False


ShouldStop = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Health:
    """The answer to a connection test. ``detail`` is one sentence for an operator."""

    ok: bool
    detail: str
    version: str = ""
    latency_ms: float = 0.0
    capabilities: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MemoryBlock:
    """One labelled piece of an agent's memory. ``limit`` is in characters."""

    label: str
    value: str
    description: str = ""
    limit: int | None = None
    read_only: bool = False
    id: str = ""


@runtime_checkable
class Backend(Protocol):
    """One server, ready to be asked. Instances are made by ``agents.backends.registry.open_backend`` and may be shared by threads."""

    kind: str
    traits: Traits

    def __init__(self, spec: ServiceSpec) -> None: ...

    def list_agents(self) -> AgentListing:
        """Read all agents. Raises ``BackendError``; a list known to be partial comes back with ``complete=False``."""

    def get_agent(self, external_id: str) -> AgentInfo | None:
        """One agent, or ``None`` when the server says that it does not exist."""

    def open_conversation(self, agent_external_id: str, *, title: str, key: str) -> str:
        """Make (or find again by ``key``) a conversation on the server; returns its id, or "" where there is no such thing."""

    def stream_reply(self, request: ReplyRequest, *, should_stop: ShouldStop) -> Iterator[Chunk]:
        """Send the input and yield the reply as it comes; ends with exactly one ``Finished`` or raises ``BackendError``.

        ``should_stop`` is asked between chunks and at least every second while nothing arrives; when it turns true the
        adapter cancels upstream where it can and ends with ``Finished("cancelled")``.
        """

    def cancel(self, agent_external_id: str, run_ref: str, conversation_ref: str = "") -> None:
        """Stop a run that another process started. Does nothing when it has already ended."""

    def health(self) -> Health:
        """Test address and credentials. Never raises: what went wrong is in ``detail``."""

    def read_memory(self, agent_external_id: str) -> Sequence[MemoryBlock]:
        """The agent's memory blocks; empty where the backend has none."""

    def write_memory(self, agent_external_id: str, label: str, value: str) -> MemoryBlock:
        """Replace the value of one block. Raises ``BackendRejected`` for an unknown or read-only label, or a value over its limit."""

    def close(self) -> None:
        """Give back sockets."""


@runtime_checkable
class ModelChoice(Protocol):
    """What a backend has besides when its agents' models can be changed from here."""

    def list_models(self) -> Sequence[str]:
        """Names of the language models that agents may use. Raises ``BackendError``."""

    def set_model(self, external_id: str, model: str) -> str:
        """Let the agent use ``model``; returns the one it used before. Raises ``BackendRejected`` for an unknown one."""


@runtime_checkable
class Approving(Protocol):
    """What a backend has besides when its agents ask before they call a tool."""

    def refuse_calls(self, agent_external_id: str, approvals: Sequence[Approval], conversation_ref: str = "") -> None:
        """Refuse calls that nobody waits for any more, without asking the model to go on. Raises ``BackendError``."""
