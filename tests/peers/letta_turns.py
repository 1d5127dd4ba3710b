"""How the stand-in for Letta takes a message: refuse, lock, recognise a repeat, work, stream."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import Any

from aiohttp import web

from .letta_events import Answer, compose, message, new_id, stop_reason, usage
from .letta_world import Agent, Conversation, Run, World
from .scripts import Script, plain_text, read_script
from .stub import Ledger, Stream, hang

_CANCELLED = 'data: {"message_type": "stop_reason", "stop_reason": "cancelled"}\n\n'
_SPOILERS = ("lost_answers", "garbage", "truncate", "hang")


def detail(status: int, words: str, **more: Any) -> web.Response:
    """Letta's usual error body."""
    return web.json_response({"detail": words, **more}, status=status)


def busy(run_id: str | None) -> web.Response:
    """What a locked conversation answers, word for word."""
    words = f"Another request (run_id={run_id}) is currently being processed for this conversation."
    return detail(409, f"CONFLICT: Cannot send a new message: {words} Please wait for it to complete.", run_id=run_id)


class Turns:
    """The message endpoints' common part."""

    def __init__(self, world: World, ledger: Ledger) -> None:
        self.world = world
        self.ledger = ledger
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(
        self,
        request: web.Request,
        body: dict[str, Any],
        agent: Agent,
        conversation: Conversation | None,
        *,
        lock_key: str | None,
        streaming: bool,
    ) -> web.StreamResponse:
        """One input for one agent. ``lock_key`` is None where Letta does not lock: the agents' own endpoints.

        The ledger gets one entry for every request. ``accepted`` says whether the agent was given the input, ``repeat``
        whether its otid had been accepted before, ``honoured`` whether that repeat was answered from the first run instead
        of being worked on again (Letta: with a lock, ``background`` and Redis only), ``overlap`` how many turns of the
        agent were running.
        """
        inputs: list[dict[str, Any]] = body.get("messages") or []
        if not inputs and body.get("input") is not None:
            inputs = [{"role": "user", "content": body["input"]}]
        if not inputs:
            return detail(422, "Messages must not be empty")
        text = "\n".join(plain_text(item.get("content")) for item in inputs)
        otid = "|".join(str(item["otid"]) for item in inputs if item.get("otid"))
        entry = {
            "agent": agent.id,
            "conversation": conversation.id if conversation else "",
            "otid": otid,
            "text": text,
            "name": inputs[-1].get("name") or "",
            "sender_id": inputs[-1].get("sender_id") or "",
            "background": bool(body.get("background")),
            "repeat": bool(otid) and otid in self.world.taken_otids,
            "overlap": agent.running,
        }
        if refusal := self._refuse(agent, lock_key, entry):
            return refusal
        first = self._first_run(otid) if lock_key and entry["background"] else None
        if first:
            self.ledger.add(**entry, accepted=False, honoured=True, status=200, run=first.id)
            return await self.follow(request, first)
        run = Run(agent.id, conversation.id if conversation else None, bool(entry["background"]))
        self.ledger.add(**entry, accepted=True, honoured=False, status=200, run=run.id)
        self.world.remember(run, otid)
        spoiler = next((name for name in _SPOILERS if self.world.faults.hits(name, agent.id)), "")
        script = read_script(text)
        if self.world.faults.hits("empty", agent.id):
            script = replace(script, text="", tool=False, think=False)
        tokens, pings = bool(body.get("stream_tokens")), body.get("include_pings", True) is not False
        answer = compose(script, text, run.id, tokens=tokens and streaming, pings=pings and streaming)
        self._begin(run, answer, script, agent, conversation, inputs, lock_key)
        if script.hang or spoiler == "hang":
            await hang()
        if streaming:
            spoiler = spoiler or ("garbage" if script.garbage else "truncate" if script.truncate else "")
            return await self.follow(request, run, spoiler=spoiler, words=len(script.words) if tokens else 1)
        return await self._whole(request, run, answer, spoiler)

    def _refuse(self, agent: Agent, lock_key: str | None, entry: dict[str, Any]) -> web.Response | None:
        """The answer to an input that the agent is not given."""
        faults = self.world.faults
        answer: web.Response | None = None
        holder = self.world.locks.get(lock_key) if lock_key else None
        if faults.hits("unauthorized", agent.id):
            answer = detail(401, "Unauthorized")
        elif faults.hits("rate_limit", agent.id):
            answer = detail(429, "Too many requests")
            answer.headers["Retry-After"] = str(faults.retry_after)
        elif faults.hits("errors", agent.id):
            answer = detail(500, "An internal server error occurred")
        elif faults.hits("busy", agent.id):
            answer = busy(new_id("run"))
        elif holder and not (entry["background"] and self._first_run(entry["otid"]) is holder):
            answer = busy(holder.id)
        elif faults.one_at_a_time and agent.running:
            answer = busy(None)
        if answer is not None:
            self.ledger.add(**entry, accepted=False, honoured=False, status=answer.status, run="")
        return answer

    def _first_run(self, otid: str) -> Run | None:
        return self.world.runs.get(self.world.run_of_otid.get(otid, "")) if otid else None

    def _begin(
        self,
        run: Run,
        answer: Answer,
        script: Script,
        agent: Agent,
        conversation: Conversation | None,
        inputs: list[dict[str, Any]],
        lock_key: str | None,
    ) -> None:
        """Let the agent work on it: at once when nothing waits, else in a task that outlives the request."""
        faults = self.world.faults
        pause = max(script.pause_ms / 1000, 1 / faults.tokens_per_second if faults.tokens_per_second else 0.0)
        delay = faults.delay_ms / 1000

        def keep() -> None:
            self._keep(run, answer, agent, conversation, inputs)

        if not pause and not delay:
            for frame in answer.frames:
                run.add(frame)
            self._finish(run, answer, keep)
            return
        agent.running += 1
        if lock_key:
            self.world.locks[lock_key] = run

        async def work() -> None:
            try:
                left = delay
                for frame in answer.frames:
                    if frame.data["message_type"] != "ping":
                        wait, left = left + (pause if frame.word else 0.0), 0.0
                        if wait and await self._was_cancelled(run, wait):
                            run.add_raw(_CANCELLED)
                            return
                    run.add(frame)
                self._finish(run, answer, keep)
            finally:
                agent.running -= 1
                if lock_key and self.world.locks.get(lock_key) is run:
                    del self.world.locks[lock_key]
                if not run.is_over:
                    run.end("cancelled")

        task = asyncio.create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    async def _was_cancelled(run: Run, seconds: float) -> bool:
        if run.cancelled.is_set():
            return True
        await asyncio.sleep(seconds)
        return run.cancelled.is_set()

    @staticmethod
    def _finish(run: Run, answer: Answer, keep: Any) -> None:
        if answer.failed:
            run.finish("failed")
        else:
            # Letta writes the input and the answer when the step ends well: a cancelled or failed one leaves no trace.
            keep()
            run.finish("completed")

    @staticmethod
    def _keep(
        run: Run, answer: Answer, agent: Agent, conversation: Conversation | None, inputs: list[dict[str, Any]]
    ) -> None:
        said = []
        for item in inputs:
            known = {"name": item.get("name"), "sender_id": item.get("sender_id"), "content": item.get("content")}
            said.append(
                message("user_message", new_id("message"), otid=item.get("otid"), run=run.id, step=answer.step, **known)
            )
        where = conversation.id if conversation else None
        for kept in (*said, *answer.kept):
            agent.messages.append((where, kept))
            if conversation:
                conversation.messages.append(kept)

    async def follow(
        self, request: web.Request, run: Run, *, start: int = 0, spoiler: str = "", words: int = 0
    ) -> web.StreamResponse:
        """Stream a run from piece ``start`` to its end, whether it is over or still works."""
        if spoiler == "lost_answers":
            if request.transport is not None:
                request.transport.close()
            return web.Response(status=500)
        if run.is_over and not spoiler:
            headers = {"Content-Type": "text/event-stream; charset=utf-8"}
            return web.Response(body="".join(run.pieces[start:]).encode(), headers=headers)
        async with Stream(request) as stream:
            if spoiler == "garbage":
                await stream.raw("data: {not json at all\n\n")
                return stream.response
            seen, limit = start, 1 + max(1, words // 2)
            with contextlib.suppress(ConnectionError):
                while True:
                    await run.more(seen)
                    pieces = run.pieces[seen:]
                    if spoiler == "truncate":
                        await stream.raw("".join(pieces[: max(0, limit - seen)]))
                        if seen + len(pieces) >= limit or run.is_over:
                            await stream.break_off()
                            return stream.response
                    elif pieces:
                        await stream.raw("".join(pieces))
                    seen += len(pieces)
                    if run.is_over and seen >= len(run.pieces):
                        break
        return stream.response

    async def _whole(self, request: web.Request, run: Run, answer: Answer, spoiler: str) -> web.StreamResponse:
        """The answer as one JSON body, for ``streaming: false``."""
        await run.ended()
        if spoiler == "lost_answers":
            return await self.follow(request, run, spoiler=spoiler)
        if spoiler == "garbage":
            return web.Response(text="<html>this is no answer</html>", content_type="text/html")
        if spoiler == "truncate":
            response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "4000"})
            await response.prepare(request)
            await response.write(b'{"messages":[{"id":"message-')
            if request.transport is not None:
                request.transport.close()
            return response
        if answer.failed:
            failure = next(frame.data for frame in answer.frames if frame.event == "error")
            error = {"type": failure["error_type"], "message": failure["message"], "detail": failure["detail"]}
            return web.json_response({"error": error}, status=answer.failed)
        if run.status == "cancelled":
            body: dict[str, Any] = {"messages": [], "stop_reason": stop_reason("cancelled"), "usage": usage("", "")}
        else:
            body = {"messages": answer.kept, "stop_reason": stop_reason("end_turn"), "usage": answer.usage}
        return web.json_response({**body, "logprobs": None, "turns": None})
