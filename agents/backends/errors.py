"""What can go wrong at a backend: for the operator, for the person who waits, and for whoever decides about another attempt."""

from __future__ import annotations

from collections.abc import Sequence

from agents.backends.chunks import ToolCall


class BackendError(Exception):
    """A backend did not do what it was asked.

    ``reason`` is for the operator (with status codes and the server's words, never a secret); ``public`` is one honest
    sentence for the person who is waiting; ``retry_after`` is in seconds when the server named a delay; ``code`` is stable.
    ``status`` is the HTTP status where there was one.
    """

    status: int | None = None
    code = "backend.error"
    retryable = False
    public = "The agent could not answer."

    def __init__(self, reason: str, *, retry_after: float | None = None, public: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after
        if public is not None:
            self.public = public


class BackendBusy(BackendError):
    """409 or the like: the agent works on something else. Back-pressure; uses up no attempt."""

    code = "backend.busy"
    retryable = True
    public = "The agent is busy with something else."


class BackendRateLimited(BackendError):
    """429: asked too often. Waits for ``retry_after``."""

    code = "backend.rate_limited"
    retryable = True
    public = "The agent's model provider limits how often it may be asked."


class BackendUnavailable(BackendError):
    """Refused connection, 5xx, time-out before the answer began."""

    code = "backend.unavailable"
    retryable = True
    public = "The agent's server cannot be reached."


class BackendTimeout(BackendUnavailable):
    """No answer, or no more of it, in the time allowed."""

    code = "backend.timeout"
    public = "The agent took too long to answer."


class BackendBroken(BackendError):
    """Garbage, half a stream, or an empty reply."""

    code = "backend.broken_reply"
    retryable = True
    public = "The agent's answer broke off."


class BackendRejected(BackendError):
    """4xx that a repetition cannot mend: wrong credentials, unknown agent, refused input."""

    code = "backend.rejected"
    public = "The agent's server refused the message."


class BackendNoCredit(BackendRejected):
    """402, ``insufficient_quota`` and the like: the provider's credit is used up; asking again soon does not help."""

    code = "backend.no_credit"
    public = "The credit at the agent's model provider is used up."


class ProviderRefused(BackendRejected):
    """The agents' server was refused by its model provider: not our credentials are wrong, but its own."""

    code = "backend.provider_refused"
    public = "The agent's model provider refused its key."


class AgentGone(BackendRejected):
    """The server does not know this agent."""

    code = "backend.agent_gone"
    public = "This agent no longer exists on its server."


class ConversationGone(BackendRejected):
    """The agent exists, the server's conversation does not any more: forget its id and open another one."""

    code = "backend.conversation_gone"
    public = "The agent's server has lost this conversation."


class BackendNeedsApproval(BackendError):
    """The agent waits until somebody allows or refuses a tool call; it takes no new message before that.

    ``calls`` are the tool calls, where the server tells which they are.
    """

    code = "backend.needs_approval"
    public = "The agent is waiting for somebody to approve a tool call."

    def __init__(self, reason: str, *, calls: Sequence[ToolCall] = ()) -> None:
        super().__init__(reason)
        self.calls = tuple(calls)
