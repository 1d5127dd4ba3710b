"""What a client asks: the body of ``POST /v1/chat/completions``, checked and made plain."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from agents.matrix.markdown import clean_text
from chat.openai.errors import ApiError

_MOST_MESSAGES = 2000
_MOST_FILES = 100


@dataclass(frozen=True, slots=True)
class GivenFile:
    """A picture or file that was sent along as data."""

    name: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Said:
    """One message of the history."""

    role: Literal["user", "assistant"]
    text: str
    files: tuple[GivenFile, ...] = ()

    @property
    def compared(self) -> str:
        """The text as it is compared: clients trim it, and some change the ends of lines."""
        return self.text.replace("\r\n", "\n").strip()


@dataclass(frozen=True, slots=True)
class Asked:
    """``said`` ends with what is to be answered. ``instructions`` are the client's own (system and developer messages)."""

    model: str
    said: list[Said]
    instructions: str = ""
    stream: bool = False
    include_usage: bool = False

    def digests(self) -> list[str]:
        """For each message the digest of all up to it. Instructions are no part of it: clients put the time of day into them."""
        digests, before = [], ""
        for one in self.said:
            files = [hashlib.sha256(file.content).hexdigest() for file in one.files]
            text = json.dumps([before, one.role, one.compared, files], ensure_ascii=False)
            before = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
            digests.append(before)
        return digests


# What an agent does by itself, or not at all: better refused than quietly different.
_REFUSED = {
    "tools": "Agents use their own tools; leave out 'tools'.",
    "functions": "Agents use their own tools; leave out 'functions'.",
    "response_format": "Agents answer as they are set up; leave out 'response_format'.",
    "logprobs": "There are no log probabilities; leave out 'logprobs'.",
    "audio": "Agents answer in text; leave out 'audio'.",
}


def parse(raw: bytes) -> Asked:
    """Raises ``ApiError``."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise ApiError(400, "The body is not JSON.") from None
    if not isinstance(body, dict):
        raise ApiError(400, "The body must be a JSON object.")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise ApiError(400, "Name a model; GET /v1/models lists yours.", param="model")
    for name, sentence in _REFUSED.items():
        value = body.get(name)
        if value and value not in ({"type": "text"}, "none"):
            raise ApiError(400, sentence, param=name, code="unsupported_parameter")
    if body.get("n") not in (None, 1):
        raise ApiError(400, "One answer at a time: leave out 'n'.", param="n", code="unsupported_parameter")
    said, instructions = _messages(body.get("messages"))
    options = body.get("stream_options")
    return Asked(
        model=model,
        said=said,
        instructions=instructions,
        stream=body.get("stream") is True,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
    )


def _messages(given: Any) -> tuple[list[Said], str]:
    if not isinstance(given, list) or not given:
        raise ApiError(400, "'messages' must be a list with at least one message.", param="messages")
    if len(given) > _MOST_MESSAGES:
        raise ApiError(400, f"At most {_MOST_MESSAGES} messages.", param="messages")
    said: list[Said] = []
    instructions: list[str] = []
    files = 0
    for number, message in enumerate(given):
        where = f"messages[{number}]"
        role = message.get("role") if isinstance(message, dict) else None
        if role in ("system", "developer"):
            instructions.append(_content(message.get("content"), where)[0])
        elif role == "user":
            text, sent = _content(message.get("content"), where)
            files += len(sent)
            said.append(Said("user", text, tuple(sent)))
        elif role in ("assistant", "tool", "function"):
            _add_answer(said, _answer_text(message, role, where))
        else:
            raise ApiError(400, f"{where}: the role {role!r} is not known.", param=f"{where}.role")
    if files > _MOST_FILES:
        raise ApiError(400, f"At most {_MOST_FILES} pictures and files.", param="messages")
    if not said or said[-1].role != "user":
        raise ApiError(400, "The last message must be the user's.", param="messages")
    return said, "\n\n".join(part for part in (text.strip() for text in instructions) if part)


def _add_answer(said: list[Said], text: str) -> None:
    """Answers and what tools of the client's said follow each other as one answer."""
    if said and said[-1].role == "assistant":
        joined = "\n\n".join(part for part in (said[-1].text, text) if part)
        said[-1] = Said("assistant", joined)
    elif text:
        said.append(Said("assistant", text))


def _answer_text(message: dict[str, Any], role: str, where: str) -> str:
    text, _ = _content(message.get("content"), where) if message.get("content") is not None else ("", [])
    if role != "assistant":
        return f"[{message.get('name') or 'tool'}: {text}]"
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else []:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            text = f"{text}\n\n[called {function.get('name')}({function.get('arguments')})]".strip()
    return clean_text(text)


def _content(content: Any, where: str) -> tuple[str, list[GivenFile]]:
    if isinstance(content, str):
        return clean_text(content), []
    if not isinstance(content, list):
        raise ApiError(400, f"{where}: the content must be text or a list of parts.", param=f"{where}.content")
    texts: list[str] = []
    files: list[GivenFile] = []
    for number, part in enumerate(content):
        place = f"{where}.content[{number}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in ("text", "input_text") and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "image_url":
            url = part.get("image_url")
            files.append(_data(url.get("url") if isinstance(url, dict) else url, "picture", place))
        elif kind == "file" and isinstance(part.get("file"), dict):
            name = part["file"].get("filename")
            files.append(_data(part["file"].get("file_data"), name if isinstance(name, str) else "file", place))
        else:
            raise ApiError(400, f"{place}: parts of the kind {kind!r} are not taken.", param=place)
    return clean_text("\n\n".join(texts)), files


def _data(url: Any, name: str, place: str) -> GivenFile:
    """Only data is taken: fetching an address for somebody would reach what they cannot."""
    if not isinstance(url, str) or not url:
        raise ApiError(400, f"{place}: the data is missing.", param=place)
    head, comma, data = url.partition(",")
    if url.startswith("data:"):
        if not comma or not head.endswith(";base64"):
            raise ApiError(400, f"{place}: send it as data:…;base64,…", param=place)
    elif "://" in url[:20]:
        raise ApiError(400, f"{place}: addresses are not fetched; send the data itself (data:…;base64,…).", param=place)
    else:
        data = url
    try:
        content = base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(400, f"{place}: the data is not base64.", param=place) from None
    kind = head.removeprefix("data:").partition(";")[0].partition("/")[2] if url.startswith("data:") else ""
    return GivenFile(name if "." in name or not kind else f"{name}.{kind[:10]}", content)
