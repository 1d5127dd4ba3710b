"""Our requests as Letta's input messages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from agents.backends.base import ReplyRequest, Speaker, Traits
from agents.backends.files import Given, given
from agents.backends.letta.approvals import approval_message


def input_of(request: ReplyRequest, traits: Traits, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The input messages: words about tool calls, what was said in this branch before, the message itself."""
    messages: list[dict[str, Any]] = [approval_message(request.approvals)] if request.approvals else []
    if request.approvals and not request.unheard:
        return messages
    for item in request.history:
        what = given(item.text, item.attachments, traits, options)
        speaker = Speaker("" if item.role == "assistant" else item.name)
        messages.append({"role": item.role, "content": _content(speaker, what)})
    message = {
        "role": "user",
        "content": _content(request.speaker, given(request.text, request.attachments, traits, options)),
        "otid": request.idempotency_id,
        "name": _name_for_model(request.speaker.name),
    }
    return [*messages, {key: value for key, value in message.items() if value}]


def _content(speaker: Speaker, what: Given) -> Any:
    """Text, or text and pictures (``letta/schemas/letta_message_content.py``); the server stores pictures itself."""
    text = _said_by(speaker, what.text)
    if what.is_plain:
        return text
    sources = [{"type": "base64", "media_type": file.media_type, "data": data} for file, data in what.images]
    return [{"type": "text", "text": text}, *({"type": "image", "source": source} for source in sources)]


def _said_by(speaker: Speaker, text: str) -> str:
    """Who speaks, in the text: of Letta's model adapters only OpenAI's passes a message's ``name`` on to the model."""
    name = " ".join(speaker.name.split())[:64]
    if not name or speaker.kind == "system":
        return text
    return f"{name} (agent): {text}" if speaker.kind == "agent" else f"{name}: {text}"


def _name_for_model(name: str) -> str:
    """``name`` as OpenAI takes it (``^[a-zA-Z0-9_-]{1,64}$``); Letta warns about others and drops them."""
    return re.sub(r"[^a-zA-Z0-9_-]+", "_", name).strip("_")[:64]
