"""A model provider that speaks OpenAI's protocol: models, chat completions (JSON and SSE, tools) and embeddings.

Answers are decided by words in the last user message; see ``scripts``. Protocol: OpenAI API reference, "Chat Completions".
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import json
import time
from typing import Any

from aiohttp import web

from .scripts import Script, plain_text, read_script
from .stub import Ledger, Stream, StubPeer, count_tokens, hang, serve

MODELS = ("gpt-4o-mini", "gpt-4o", "text-embedding-3-small")
_EMBEDDING_SIZE = 1536


class ModelStub(StubPeer):
    """The provider as a process; ``base_url`` is what OpenAI clients call the base URL (with ``/v1``)."""

    name = "model-stub"
    module = "tests.peers.model_stub"

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"


def _error(status: int, retry_after: str = "") -> web.Response:
    kind, message = {
        401: ("invalid_request_error", "Incorrect API key provided."),
        429: ("rate_limit_exceeded", "Rate limit reached for requests."),
    }.get(status, ("server_error", "The server had an error while processing your request."))
    body = {"error": {"message": message, "type": kind, "param": None, "code": kind}}
    return web.json_response(body, status=status, headers={"Retry-After": retry_after} if retry_after else {})


def _arguments_for(tool: dict[str, Any], text: str) -> str:
    """Arguments that satisfy the tool's schema: strings get the user's text, the rest their type's zero."""
    schema = tool["function"].get("parameters") or {}
    zeros: dict[str, Any] = {"integer": 1, "number": 1, "boolean": False, "array": [], "object": {}}
    values: dict[str, Any] = {}
    for name in schema.get("required", []):
        kind = schema.get("properties", {}).get(name, {}).get("type", "string")
        values[name] = zeros.get(kind, text)
    return json.dumps(values)


class Provider:
    """The handlers. ``key`` is the API key it insists on, if any."""

    def __init__(self, ledger: Ledger, key: str = "") -> None:
        self.ledger = ledger
        self.key = key
        self._ids = itertools.count(1)

    def application(self) -> web.Application:
        app = web.Application(client_max_size=64 * 2**20)
        app.add_routes(
            [
                web.get("/v1/models", self.models),
                web.post("/v1/chat/completions", self.chat),
                web.post("/v1/embeddings", self.embeddings),
                *self.ledger.routes(),
            ]
        )
        return app

    def _refused(self, request: web.Request) -> bool:
        return bool(self.key) and request.headers.get("Authorization") != f"Bearer {self.key}"

    async def models(self, request: web.Request) -> web.Response:
        if self._refused(request):
            return _error(401)
        data = [{"id": name, "object": "model", "created": 1700000000, "owned_by": "stub"} for name in MODELS]
        return web.json_response({"object": "list", "data": data})

    async def embeddings(self, request: web.Request) -> web.Response:
        if self._refused(request):
            return _error(401)
        body = await request.json()
        inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
        data = []
        for index, text in enumerate(inputs):
            seed = hashlib.sha256(str(text).encode()).digest()
            vector = [
                (seed[place % 32] - 127.5) / 2048 for place in range(int(body.get("dimensions") or _EMBEDDING_SIZE))
            ]
            data.append({"object": "embedding", "index": index, "embedding": vector})
        used = sum(count_tokens(str(text)) for text in inputs)
        usage = {"prompt_tokens": used, "total_tokens": used}
        return web.json_response({"object": "list", "data": data, "model": body.get("model"), "usage": usage})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        if self._refused(request):
            return _error(401)
        body: dict[str, Any] = await request.json()
        messages: list[dict[str, Any]] = body.get("messages", [])
        asked = [message for message in messages if message.get("role") == "user"]
        text = plain_text(asked[-1].get("content")) if asked else ""
        script = read_script(text)
        self.ledger.add(
            path=request.path,
            text=text,
            model=body.get("model"),
            stream=bool(body.get("stream")),
            messages=messages,
            tools=[tool["function"]["name"] for tool in body.get("tools") or []],
        )
        if script.hang:
            await hang()
        if script.error and script.error_after is None:
            return _error(script.error, script.retry_after)
        # A tool that was called since the last user message is not called again.
        since = messages[messages.index(asked[-1]) :] if asked else []
        tools = body.get("tools") or []
        tool = tools[0] if script.tool and tools and not any(item["role"] == "tool" for item in since) else None
        prompt = sum(count_tokens(plain_text(message.get("content"))) for message in messages)
        answer = count_tokens(script.text)
        usage = {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
        number = next(self._ids)
        head = {"id": f"chatcmpl-{number}", "created": int(time.time()), "model": body.get("model") or MODELS[0]}
        call = (
            {
                "id": f"call_{number}",
                "type": "function",
                "function": {"name": tool["function"]["name"], "arguments": _arguments_for(tool, text)},
            }
            if tool
            else None
        )
        if body.get("stream"):
            wants_usage = bool((body.get("stream_options") or {}).get("include_usage"))
            try:
                return await self._stream(request, script, head, call, usage if wants_usage else None)
            except (asyncio.CancelledError, ConnectionError):
                self.ledger.add(path="hung up", text=text)
                raise
        if script.garbage:
            return web.Response(text="<html>this is no completion", content_type="text/html")
        if script.truncate:
            return await self._half_a_body(request)
        await asyncio.sleep(script.pause_ms / 1000 * len(script.words))
        message: dict[str, Any] = {"role": "assistant", "content": None if call else script.text, "refusal": None}
        if call:
            message["tool_calls"] = [call]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls" if call else "stop"}
        return web.json_response({**head, "object": "chat.completion", "choices": [choice], "usage": usage})

    @staticmethod
    async def _half_a_body(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "4000"})
        await response.prepare(request)
        await response.write(b'{"id": "chatcmpl-0", "choices": [{"index"')
        if request.transport is not None:
            request.transport.close()
        return response

    @staticmethod
    async def _stream(
        request: web.Request,
        script: Script,
        head: dict[str, Any],
        call: dict[str, Any] | None,
        usage: dict[str, int] | None,
    ) -> web.StreamResponse:
        def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            body = {**head, "object": "chat.completion.chunk", "choices": [choice]}
            return {**body, "usage": None} if usage else body

        async with Stream(request) as stream:
            await stream.event(chunk({"role": "assistant", "content": "", "refusal": None}))
            if script.garbage:
                await stream.raw("data: {not json at all\n\n")
                return stream.response
            if call:
                function = {"name": call["function"]["name"], "arguments": ""}
                await stream.event(chunk({"tool_calls": [{"index": 0, **call, "function": function}]}))
                words = call["function"]["arguments"]
                for piece in (words[: len(words) // 2], words[len(words) // 2 :]):
                    await stream.event(chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}))
                    if script.truncate:
                        await stream.break_off()
                        return stream.response
            else:
                for number, word in enumerate(script.words):
                    if script.error_after == number:
                        error = {"message": "The server had an error.", "type": "server_error", "code": script.error}
                        await stream.event({"error": error})
                        return stream.response
                    if script.truncate and number >= max(1, len(script.words) // 2):
                        await stream.break_off()
                        return stream.response
                    if script.pause_ms:
                        await asyncio.sleep(script.pause_ms / 1000)
                    await stream.event(chunk({"content": word}))
            await stream.event(chunk({}, "tool_calls" if call else "stop"))
            if usage:
                await stream.event({**head, "object": "chat.completion.chunk", "choices": [], "usage": usage})
            await stream.raw("data: [DONE]\n\n")
        return stream.response


def build(options: argparse.Namespace) -> web.Application:
    """The application for ``python -m tests.peers.model_stub --port N``."""
    return Provider(Ledger(options.ledger), options.key).application()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A stand-in for an OpenAI-compatible model provider.")
    parser.add_argument("--key", default="", help="the API key to insist on")
    serve(build, parser)
