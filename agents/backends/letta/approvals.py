"""Tool calls that wait for somebody's word, as Letta 0.16.8 keeps them.

A run that meets such a call stores an ``approval_request_message`` and ends with the stop reason ``requires_approval``; until it is
answered the conversation (or, without conversations, the agent) takes no other message. The answer is a message of type ``approval`` with
a word for *every* call of the request; a user message may follow it in the same input. It begins a run of its own. Seen
on the real server: the same answer twice is no error, it makes the agent go on talking; so it is looked for before it is sent again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from agents.backends.base import Approval
from agents.backends.chunks import ToolCall
from agents.backends.errors import BackendBroken, BackendRejected
from agents.backends.http import HttpServer

RECENT = 50


def approval_message(approvals: Sequence[Approval]) -> dict[str, Any]:
    """The input message with these words."""
    return {"type": "approval", "approvals": [_word(one) for one in approvals]}


def _word(one: Approval) -> dict[str, Any]:
    word = {"type": "approval", "tool_call_id": one.call_id, "approve": one.approve}
    return {**word, "reason": one.reason} if one.reason else word


class Waiting:
    """What the recent messages of a conversation say about approvals. ``calls`` wait; ``answered`` maps calls to the run of their answer."""

    def __init__(self, messages: Sequence[dict[str, Any]]) -> None:
        asked: dict[str, ToolCall] = {}
        self.answered: dict[str, str] = {}
        over: set[str] = set()
        for message in messages:
            kind = message.get("message_type")
            if kind == "approval_request_message":
                asked |= {call.id: call for call in _calls(message)}
            elif kind == "approval_response_message":
                ids = [
                    str(word.get("tool_call_id")) for word in message.get("approvals") or [] if isinstance(word, dict)
                ]
                self.answered |= dict.fromkeys(ids, str(message.get("run_id") or ""))
            elif kind == "tool_return_message":
                over.add(str(message.get("tool_call_id") or ""))
        self.calls = [call for call in asked.values() if call.id not in self.answered and call.id not in over]

    def run_of(self, approvals: Sequence[Approval]) -> str:
        """The run that was begun by the answer to all of these; "" when there is none."""
        runs = {self.answered.get(one.call_id, "") for one in approvals}
        return runs.pop() if len(runs) == 1 else ""

    def awaits(self, approvals: Sequence[Approval]) -> bool:
        """Whether these are still waited for."""
        return {one.call_id for one in approvals} <= {call.id for call in self.calls}


def read_waiting(server: HttpServer, agent_id: str, conversation: str) -> Waiting:
    """Look at the recent messages. Raises ``BackendError``."""
    path = f"/v1/agents/{quote(agent_id, safe='')}/messages"
    if conversation:
        path = f"/v1/conversations/{quote(conversation, safe='')}/messages"
    messages = server.json("GET", path, params={"limit": RECENT, "order": "desc"})
    if not isinstance(messages, list):
        raise BackendBroken(f"{server.where('GET', path)}: expected a list of messages.")
    return Waiting([message for message in messages if isinstance(message, dict)])


def refuse(server: HttpServer, agent_id: str, conversation: str, approvals: Sequence[Approval]) -> None:
    """Refuse calls without asking the model: the denial is the run's first and last step. Raises ``BackendError``."""
    path = f"/v1/agents/{quote(agent_id, safe='')}/messages"
    if conversation:
        path = f"/v1/conversations/{quote(conversation, safe='')}/messages"
    server.json("POST", path, body={"messages": [approval_message(approvals)], "streaming": False, "max_steps": 1})


def no_longer_waiting(where: str) -> BackendRejected:
    """Somebody else has answered, or the server has forgotten the call."""
    return BackendRejected(
        f"{where}: none of these tool calls waits for approval any more.",
        public="The agent does not wait for this approval any more.",
    )


def _calls(message: dict[str, Any]) -> list[ToolCall]:
    calls = message.get("tool_calls") or message.get("tool_call") or []
    return [
        ToolCall(str(call["tool_call_id"]), str(call.get("name") or ""), str(call.get("arguments") or ""), True)
        for call in (calls if isinstance(calls, list) else [calls])
        if isinstance(call, dict) and call.get("tool_call_id")
    ]
