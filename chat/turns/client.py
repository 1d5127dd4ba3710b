"""What a client of the OpenAI-compatible API sent besides the message: its own instructions, and what its agent has not heard yet.

Kept as one part of the message: ``{"type": "client", "instructions": text, "before": text, "tell": bool}``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chat.models import Message

TRANSPORT = "openai"
PART = "client"


@dataclass(frozen=True, slots=True)
class FromClient:
    """``instructions`` are the client's own. Agents that keep their own history are told them before the message, when they are new
    (``tell``) or when the server's conversation is; and ``before``, what was said elsewhere and they have not heard.

    ``whole``: the history is the client's own, and is passed on whole.
    """

    instructions: str = ""
    before: str = ""
    tell: bool = False
    whole: bool = False

    def told(self, *, fresh: bool) -> str:
        """What is put before the message. ``fresh``: the server's conversation was made for it."""
        parts = []
        if self.instructions and (self.tell or fresh):
            parts.append(f"[Instructions for this conversation:\n{self.instructions}]")
        if self.before:
            parts.append(f"[What was said before in this conversation:\n{self.before}]")
        return "".join(f"{part}\n\n" for part in parts)

    def parts(self) -> list[dict[str, Any]]:
        """As the message keeps it; nothing when there is nothing to keep."""
        kept = {"instructions": self.instructions, "before": self.before, "tell": self.tell}
        return [{"type": PART, **kept}] if self.instructions or self.before else []


def from_client(message: Message) -> FromClient:
    """What belongs to a message."""
    if message.transport != TRANSPORT:
        return FromClient()
    part = next((one for one in message.parts if isinstance(one, dict) and one.get("type") == PART), {})
    return FromClient(
        str(part.get("instructions") or ""), str(part.get("before") or ""), bool(part.get("tell")), whole=True
    )
