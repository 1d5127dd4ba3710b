"""An input is never given twice.

When an earlier attempt may have reached the server, its traces are looked for before anything is sent. Letta 0.16.8 stores a
message with its ``otid`` when the first step of its run has succeeded and rolls everything back when that step fails, so:

* the otid is among the recent messages: the input has arrived; the reply is taken from its run, now or when the run is done;
* it is not, but a run of the agent is at work: that may be ours; wait for it (ours by name) or report busy;
* neither: the server never took it, or has rolled it back; sending is safe. It is then sent in the foreground, since a
  background request with a known otid would only replay the failure for the next three hours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

from agents.backends.base import ReplyRequest, ShouldStop
from agents.backends.chunks import Chunk, RunStarted
from agents.backends.errors import BackendBroken, BackendBusy, BackendError, BackendRejected, BackendTimeout
from agents.backends.http import HttpServer
from agents.backends.letta.decode import Decoder
from agents.backends.redact import short
from agents.backends.sse import SseEvent
from agents.backends.watch import StopRequested

RECENT = 200
AT_WORK = ("created", "running")
POLL_SECONDS = 1.0
ASK_SECONDS = 0.25
LONGEST_RUN = 900.0
"""A run that has been "running" for longer belongs to a server that was killed; it blocks nothing."""


class Recovery:
    """Finds out what became of an earlier attempt. ``run`` is the run at hand, for whoever has to cancel it."""

    def __init__(
        self, server: HttpServer, request: ReplyRequest, should_stop: ShouldStop, *, background: Callable[[], bool]
    ) -> None:
        self.run = request.resume_ref
        self.may_reattach = request.attempt <= 1
        self._server = server
        self._request = request
        self._should_stop = should_stop
        self._background = background
        self._goes_on = bool(request.approvals) and not request.unheard
        self._deadline = time.monotonic() + request.timeout_seconds

    def replay(self) -> Generator[Chunk, None, bool]:
        """Yields the reply to the input that arrived earlier and returns true; returns false when it has to be sent."""
        self.may_reattach = False
        state, moved = self._run_state(self.run), False
        if state.get("status") in AT_WORK:
            yield RunStarted(self.run)
            if state.get("background") and self._background():
                yield from self._resume(self.run)
                return True
            state, moved = self._wait(self.run), True
        found = self._find()
        if found is None:
            if not moved:
                self._look_at_running()
            return False
        messages, run = found
        if run:
            if run != self.run or not moved:
                yield RunStarted(run)
            self.run = run
            state = self._wait(run)
            messages = self._run_messages(run) or [one for one in messages if one.get("run_id") == run]
            # A run begins with its input, so an input at the end means newest first.
            if len(messages) > 1 and messages[-1].get("otid") == self._request.idempotency_id:
                messages.reverse()
        yield from self._retell(messages, state)
        return True

    def continued(self, run: str) -> Iterator[Chunk]:
        """What came of the run that an approval began, now or when the run is done."""
        self.may_reattach = False
        self.run = run
        yield RunStarted(run)
        state = self._wait(run)
        yield from self._retell(self._run_messages(run), state)

    def stored_reply(self, decoder: Decoder) -> Iterator[Chunk]:
        """What the run at hand stored, fed to ``decoder``, when the stream itself said nothing."""
        if not self.run:
            return
        for message in _after_input(self._run_messages(self.run), self._request.idempotency_id):
            yield from decoder.feed(message)

    def _resume(self, run: str) -> Iterator[Chunk]:
        """The whole stream of a background run, from its beginning."""
        path = f"/v1/runs/{quote(run, safe='')}/stream"
        where = self._server.where("POST", path)
        decoder = Decoder(where, self._server.secrets, run)
        events = self._server.events(
            "POST",
            path,
            body={"starting_after": 0, "include_pings": True},
            should_stop=self._should_stop,
            silence_seconds=self._request.timeout_seconds,
            means_progress=is_progress,
        )
        yield from decode_events(events, decoder, where, self)

    def _retell(self, messages: list[dict[str, Any]], state: dict[str, Any]) -> Iterator[Chunk]:
        where = f"The run {self.run or '(unnamed)'} of {self._server.address}"
        decoder = Decoder(where, self._server.secrets, self.run, may_be_silent=self._goes_on)
        for message in _after_input(messages, self._request.idempotency_id):
            yield from decoder.feed(message)
        try:
            yield from decoder.finish(str(state.get("stop_reason") or ""))
        except BackendError as error:
            # The input was taken, so asking again would give it twice: this failure is final.
            detail = short(str((state.get("metadata") or {}).get("error") or ""), self._server.secrets, 160)
            raise BackendError(
                f"{error.reason} The agent had already taken the message, so it is not sent again. {detail}".strip(),
                public=error.public,
            ) from None

    def _find(self) -> tuple[list[dict[str, Any]], str] | None:
        """The stored messages that hold our otid, oldest first, and the run they belong to."""
        request = self._request
        if request.conversation_ref:
            path = f"/v1/conversations/{quote(request.conversation_ref, safe='')}/messages"
        else:
            path = f"/v1/agents/{quote(request.agent_external_id, safe='')}/messages"
        try:
            messages = self._server.json("GET", path, params={"limit": RECENT, "order": "desc"})
        except BackendRejected as error:
            if error.status in (404, 422):
                return None  # sending will say in the right words what is gone
            raise
        if not isinstance(messages, list):
            raise BackendBroken(f"{self._server.where('GET', path)}: expected a list of messages.")
        messages = [message for message in messages if isinstance(message, dict)]
        # 0.16.8 answers with the newest ones, oldest first; others give them in the order asked for.
        if messages and str(messages[0].get("date", "")) > str(messages[-1].get("date", "")):
            messages.reverse()
        for message in messages:
            if message.get("otid") == request.idempotency_id and message.get("message_type") == "user_message":
                return messages, str(message.get("run_id") or "")
        return None

    def _run_state(self, run: str) -> dict[str, Any]:
        if not run:
            return {}
        try:
            state = self._server.json("GET", f"/v1/runs/{quote(run, safe='')}")
        except BackendRejected:
            return {}
        return state if isinstance(state, dict) else {}

    def _run_messages(self, run: str) -> list[dict[str, Any]]:
        path = f"/v1/runs/{quote(run, safe='')}/messages"
        try:
            messages = self._server.json("GET", path, params={"limit": 1000, "order": "asc"})
        except BackendRejected:
            return []
        return [message for message in messages or [] if isinstance(message, dict)]

    def _wait(self, run: str) -> dict[str, Any]:
        """The state of ``run`` once it has ended. Raises ``BackendTimeout``, ``StopRequested``."""
        while True:
            state = self._run_state(run)
            if state.get("status") not in AT_WORK:
                return state
            if time.monotonic() > self._deadline:
                raise BackendTimeout(f"{self._server.address}: the run {run} is still at work after the time allowed.")
            until = time.monotonic() + POLL_SECONDS
            while time.monotonic() < until:
                if self._should_stop():
                    raise StopRequested
                time.sleep(ASK_SECONDS)

    def _look_at_running(self) -> None:
        """A young run at work may be our input: re-attach where the server can tell by the otid, else raise ``BackendBusy``."""
        params: dict[str, Any] = {"agent_id": self._request.agent_external_id, "statuses": list(AT_WORK), "limit": 5}
        if self._request.conversation_ref:
            params["conversation_id"] = self._request.conversation_ref
        try:
            runs, headers = self._server.json_with_headers("GET", "/v1/runs/", params=params)
        except BackendRejected:
            return
        for run in runs if isinstance(runs, list) else []:
            if run.get("status") not in AT_WORK or _age(run, headers.get("date", "")) > LONGEST_RUN:
                continue
            if run.get("background") and self._background():
                self.may_reattach = True
                continue
            raise BackendBusy(
                f"{self._server.address}: the run {run.get('id')} of this agent is still at work and may be an earlier "
                "attempt at this message.",
                retry_after=2.0,
            )


def decode_events(events: Iterator[SseEvent], decoder: Decoder, where: str, recovery: Recovery) -> Iterator[Chunk]:
    """A whole stream up to ``[DONE]``. Raises ``BackendBroken`` for half a one."""
    for event in events:
        if event.event == "comment" or not event.data:
            continue
        if event.data == "[DONE]":
            recovery.run = recovery.run or decoder.run
            if decoder.stop_reason in ("end_turn", "") and not decoder.said_something:
                # 0.16.8 streams nothing of some replies of older agents, although it stores them.
                yield from recovery.stored_reply(decoder)
            yield from decoder.finish()
            return
        for chunk in decoder.feed_text(event.data):
            recovery.run = decoder.run
            yield chunk
    raise BackendBroken(f"{where}: the stream ended without its end marker.")


def is_progress(event: SseEvent) -> bool:
    """Pings show that the server lives, not that the agent works."""
    return event.event != "comment" and '"message_type":"ping"' not in event.data.replace(" ", "")[:400]


def _after_input(messages: list[dict[str, Any]], otid: str) -> Iterator[dict[str, Any]]:
    """What followed the message with this otid, up to the next input. All of them when the input is not among them."""
    here = next((i for i, message in enumerate(messages) if message.get("otid") == otid), -1)
    for message in messages[here + 1 :]:
        if message.get("message_type") == "user_message":
            return
        yield message


def _age(run: dict[str, Any], server_date: str) -> float:
    """Seconds since the run was made, by the server's own clock; 0 when it does not say."""
    try:
        made = datetime.fromisoformat(str(run["created_at"]).replace("Z", "+00:00"))
        return (parsedate_to_datetime(server_date) - made).total_seconds()
    except (KeyError, ValueError, TypeError):
        return 0.0
