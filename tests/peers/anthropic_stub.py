"""A stand-in for Anthropic's Messages API: ``/v1/messages`` (JSON and SSE) and ``/v1/models``.

Answers are decided by words in the last user message; see ``scripts``. Protocol: Anthropic API reference, "Messages" and
"Streaming Messages". Errors have the shape ``{"type": "error", "error": {"type", "message"}}``; ``[error 529]`` is
``overloaded_error``.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
from typing import Any

from aiohttp import web

from .scripts import Script, plain_text, read_script
from .stub import Ledger, Stream, StubPeer, count_tokens, hang, serve

MODELS = (("claude-sonnet-4-5", "Claude Sonnet 4.5"), ("claude-haiku-4-5", "Claude Haiku 4.5"))
_ERRORS = {
    400: ("invalid_request_error", "The request was not understood."),
    401: ("authentication_error", "invalid x-api-key"),
    403: ("permission_error", "This key may not use that."),
    404: ("not_found_error", "model not found"),
    413: ("request_too_large", "Request exceeds the maximum size"),
    429: ("rate_limit_error", "This request would exceed your rate limit."),
    529: ("overloaded_error", "Overloaded"),
}
_THOUGHT = ("The person wants ", "an echo, ", "so I repeat it.")


class AnthropicStub(StubPeer):
    """The provider as a process; ``url`` is the base URL without ``/v1``."""

    name = "anthropic-stub"
    module = "tests.peers.anthropic_stub"


def _error_body(status: int, message: str = "") -> dict[str, Any]:
    kind, words = _ERRORS.get(status, ("api_error", "Internal server error"))
    return {"type": "error", "error": {"type": kind, "message": message or words}, "request_id": "req_stub"}


def _error(status: int, retry_after: str = "", message: str = "") -> web.Response:
    headers = {"Retry-After": retry_after} if retry_after else {}
    return web.json_response(_error_body(status, message), status=status, headers={"request-id": "req_stub", **headers})


def _is_tool_result(message: dict[str, Any]) -> bool:
    content = message.get("content")
    return isinstance(content, list) and any(part.get("type") == "tool_result" for part in content)


class Provider:
    """The handlers. ``key`` is the ``x-api-key`` it insists on, if any."""

    def __init__(self, ledger: Ledger, key: str = "") -> None:
        self.ledger = ledger
        self.key = key
        self._ids = itertools.count(1)

    def application(self) -> web.Application:
        app = web.Application(client_max_size=64 * 2**20)
        app.add_routes(
            [web.get("/v1/models", self.models), web.post("/v1/messages", self.messages), *self.ledger.routes()]
        )
        return app

    def _problem(self, request: web.Request) -> web.Response | None:
        if self.key and request.headers.get("x-api-key") != self.key:
            return _error(401)
        if not request.headers.get("anthropic-version"):
            return _error(400, message="anthropic-version: header is required")
        return None

    async def models(self, request: web.Request) -> web.Response:
        if problem := self._problem(request):
            return problem
        data = [
            {"type": "model", "id": name, "display_name": title, "created_at": "2025-09-29T00:00:00Z"}
            for name, title in MODELS
        ]
        ends = {"first_id": MODELS[0][0], "last_id": MODELS[-1][0]}
        return web.json_response({"data": data, "has_more": False, **ends})

    async def messages(self, request: web.Request) -> web.StreamResponse:
        if problem := self._problem(request):
            return problem
        body: dict[str, Any] = await request.json()
        messages: list[dict[str, Any]] = body.get("messages") or []
        for field in ("model", "max_tokens", "messages"):
            if not body.get(field):
                return _error(400, message=f"{field}: Field required")
        if messages[0].get("role") != "user":
            return _error(400, message='messages: first message must use the "user" role')
        if any(not plain_text(item.get("content")) and isinstance(item.get("content"), str) for item in messages):
            return _error(400, message="messages: text content blocks must be non-empty")
        asked = [item for item in messages if item.get("role") == "user" and not _is_tool_result(item)]
        text = plain_text(asked[-1].get("content")) if asked else ""
        script = read_script(text)
        tools = body.get("tools") or []
        self.ledger.add(
            path=request.path,
            text=text,
            model=body["model"],
            stream=bool(body.get("stream")),
            system=plain_text(body.get("system")),
            messages=messages,
            tools=[tool["name"] for tool in tools],
        )
        if script.hang:
            await hang()
        if script.error and script.error_after is None:
            return _error(script.error, script.retry_after)
        number = next(self._ids)
        call = None
        if script.tool and tools and not _is_tool_result(messages[-1]):
            required = tools[0].get("input_schema", {}).get("required", [])
            values = dict.fromkeys(required, text)
            call = {"type": "tool_use", "id": f"toolu_{number}", "name": tools[0]["name"], "input": values}
        read = sum(count_tokens(plain_text(item.get("content"))) for item in messages)
        head = {
            "id": f"msg_{number}",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": read, "output_tokens": 1},
        }
        if body.get("stream"):
            return await self._stream(request, script, head, call)
        if script.garbage:
            return web.Response(text="<html>this is no message</html>", content_type="text/html")
        await asyncio.sleep(script.pause_ms / 1000 * len(script.words))
        content: list[dict[str, Any]] = []
        if script.think:
            content.append({"type": "thinking", "thinking": "".join(_THOUGHT), "signature": "c3R1Yg=="})
        if call:
            content.append(call)
        elif script.text:
            content.append({"type": "text", "text": script.text})
        usage = {"input_tokens": read, "output_tokens": count_tokens(script.text)}
        reason = "tool_use" if call else "end_turn"
        return web.json_response({**head, "content": content, "stop_reason": reason, "usage": usage})

    @staticmethod
    async def _stream(
        request: web.Request, script: Script, head: dict[str, Any], call: dict[str, Any] | None
    ) -> web.StreamResponse:
        async with Stream(request, {"request-id": "req_stub"}) as stream:

            async def send(kind: str, **fields: Any) -> None:
                await stream.event({"type": kind, **fields}, kind)

            async def delta(index: int, kind: str, **fields: Any) -> None:
                await send("content_block_delta", index=index, delta={"type": kind, **fields})

            await send("message_start", message=head)
            await send("ping")
            if script.garbage:
                await stream.raw("event: content_block_delta\ndata: {not json at all\n\n")
                return stream.response
            index = 0
            if script.think:
                block = {"type": "thinking", "thinking": "", "signature": ""}
                await send("content_block_start", index=index, content_block=block)
                for words in _THOUGHT:
                    await delta(index, "thinking_delta", thinking=words)
                await delta(index, "signature_delta", signature="c3R1Yg==")
                await send("content_block_stop", index=index)
                index += 1
            if call:
                await send("content_block_start", index=index, content_block={**call, "input": {}})
                words = json.dumps(call["input"])
                for piece in ("", words[: len(words) // 2], words[len(words) // 2 :]):
                    await delta(index, "input_json_delta", partial_json=piece)
                await send("content_block_stop", index=index)
            elif script.text:
                await send("content_block_start", index=index, content_block={"type": "text", "text": ""})
                for number, word in enumerate(script.words):
                    if script.error_after == number:
                        await stream.event(_error_body(script.error), "error")
                        return stream.response
                    if script.truncate and number >= max(1, len(script.words) // 2):
                        await stream.break_off()
                        return stream.response
                    if script.pause_ms:
                        await asyncio.sleep(script.pause_ms / 1000)
                    await delta(index, "text_delta", text=word)
                await send("content_block_stop", index=index)
            ending = {"stop_reason": "tool_use" if call else "end_turn", "stop_sequence": None}
            await send("message_delta", delta=ending, usage={"output_tokens": count_tokens(script.text)})
            await send("message_stop")
        return stream.response


def build(options: argparse.Namespace) -> web.Application:
    """The application for ``python -m tests.peers.anthropic_stub --port N``."""
    return Provider(Ledger(options.ledger), options.key).application()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A stand-in for Anthropic's Messages API.")
    parser.add_argument("--key", default="", help="the x-api-key to insist on")
    serve(build, parser)
