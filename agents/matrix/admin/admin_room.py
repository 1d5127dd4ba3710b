"""Commands in the admin room, ``#admins:<server>``: how Tuwunel before 1.8.1, conduwuit and continuwuity are administered.

A member of the room writes ``!admin users reset-password <name> <password>``; the server's own account (``@conduit:<server>``)
answers with a message that replies to the command (``m.relates_to``, ``m.in_reply_to``). The words below are those of the servers'
source, read at these versions: Tuwunel 1.0.0-rc1, 1.4.9, 1.7.1 and 1.9.0 (``src/admin/user``, ``src/admin/room``,
``src/service/admin/processor.rs``), conduwuit 0.4.6 and 0.5.0, continuwuity 26.8 (``src/admin/user/commands.rs``). Only what is known
to mean success counts as success; whatever else is said is the reason of the failure.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agents.matrix.calls import V3, dicts, dumps, room_path, strings
from agents.matrix.errors import MatrixError, NotFound, Refused, Taken, without_secret
from agents.matrix.transport import Transport, quote_part

ANSWER_SECONDS = 30.0
POLL_SECONDS = 0.3
_BOT = "conduit"
_TAKEN = ("already exists", "username is not available", "user id is not available")
_MISSING = ("does not exist", "no such user", "user not found")
_UNKNOWN_COMMAND = ("unrecognized subcommand", "unexpected argument")


class NoAnswer(Refused):
    """The command was sent and nobody answered in time: it may have been carried out or not."""


class UnknownCommand(Refused):
    """This homeserver has no such command."""


@dataclass(frozen=True, slots=True)
class Command:
    """``!admin <name> <flags> <arguments>``. ``success``: words of which one is in the answer when it worked; ``secret`` is hidden."""

    name: str
    arguments: tuple[str, ...]
    success: tuple[str, ...]
    action: str
    secret: str = ""
    flags: tuple[str, ...] = ()

    def line(self) -> str:
        """What is written in the room. Raises ``Refused`` for what would become two words there, or none."""
        for word in self.arguments:
            if word.split() != [word]:
                what = "a password with spaces in it, or none," if word == self.secret else "this"
                raise Refused(f"{what} cannot be written in a command", action=self.action)
        # The servers' parser (clap) takes what follows "--" as it stands, also when it begins with "-".
        dashed = ("--",) if any(word.startswith("-") for word in self.arguments) else ()
        return " ".join(("!admin", self.name, *self.flags, *dashed, *self.arguments))


def create_user(server: str, localpart: str, password: str) -> Command:
    """``users create-user``: known to all of them (continuwuity calls it ``create`` and keeps this name beside it)."""
    user_id = f"@{localpart}:{server}"
    # The latter is continuwuity's since 26.
    success = (f"created user with user_id: {user_id}", f"created user {user_id} with password")
    return Command("users create-user", (localpart, password), success, f"create {user_id}", password)


def reset_password(user_id: str, password: str, *, logout: bool = False) -> Command:
    """``users reset-password``; ``logout`` ends the user's sessions too, which only continuwuity knows."""
    return Command(
        "users reset-password",
        (_localpart(user_id), password),
        (f"successfully reset the password for user {user_id}",),
        f"reset the password of {user_id}",
        password,
        ("--logout",) if logout else (),
    )


def deactivate(user_id: str) -> Command:
    """``users deactivate``: the account is closed and leaves its rooms."""
    success = (f"user {user_id} has been deactivated",)
    return Command("users deactivate", (user_id,), success, f"deactivate {user_id}")


def make_admin(user_id: str) -> Command:
    """``users make-user-admin``: the user joins the admin room, and is an administrator by that."""
    success = (f"{user_id} has been granted admin privileges",)
    return Command("users make-user-admin", (user_id,), success, f"make {user_id} an administrator")


def join_room(user_id: str, room_id: str) -> Command:
    """``users force-join-room``."""
    success = (f"{user_id} has been joined to",)
    return Command("users force-join-room", (user_id, room_id), success, f"join {user_id} to the room")


def promote(user_id: str, room_id: str) -> Command:
    """``users force-promote`` (Tuwunel from 1.4): the power of the room's strongest local member."""
    success = (f"promoted {user_id} to",)
    return Command("users force-promote", (user_id, room_id), success, f"make {user_id} an admin of the room")


def delete_room(room_id: str) -> Command:
    """``rooms delete`` (Tuwunel from 1.6)."""
    success = ("successfully deleted the room",)
    return Command("rooms delete", (room_id,), success, "delete the room", flags=("--force",))


class AdminRoom:
    """The admin room as one of its members, whose session's token is given. Every call raises ``MatrixError`` and nothing else.

    ``wait`` is how long an answer is waited for, in seconds.
    """

    def __init__(
        self,
        base_url: str,
        token: str,
        server_name: str,
        *,
        wait: float = ANSWER_SECONDS,
        warn: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self._http = Transport(base_url, token, pool_size=2)
        self.server_name = server_name
        self.wait = wait
        self._warn = warn
        self.bot = f"@{_BOT}:{server_name}"
        self._room = ""

    def __enter__(self) -> AdminRoom:
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.close()

    def find(self) -> str:
        """The room's id. Raises ``NotFound`` when there is none, or when this account is not in it and so is no administrator."""
        if self._room:
            return self._room
        alias = f"#admins:{self.server_name}"
        action = f"find {alias}"
        path = f"{V3}/directory/room/{quote_part(alias)}"
        room = self._http.call("GET", path, action=action).get("room_id")
        if not isinstance(room, str):
            raise self._http.not_matrix(action)
        joined = strings(self._http.call("GET", f"{V3}/joined_rooms", action="list its rooms").get("joined_rooms"))
        if room not in joined:
            raise NotFound(
                f"this account is not in {alias}, so it is no administrator of the homeserver",
                errcode="M_NOT_FOUND",
                status=404,
                where=self._http.base_url,
                action=action,
            )
        self._room = room
        return room

    def knows(self, user_id: str) -> bool:
        """Whether the homeserver has the account, as far as it says: its name would be free to register otherwise."""
        path = f"{V3}/register/available"
        query = f"username={quote_part(_localpart(user_id))}"
        try:
            return self._http.call("GET", path, query=query, action=f"look up {user_id}").get("available") is not True
        except Refused:
            # Taken, or kept for an appservice; a server that does not serve this leaves the question to the command.
            return True

    def run(self, command: Command) -> str:
        """Write the command, wait for the answer and return it. What holds a password is taken out of the room again.

        Raises ``Taken``, ``NotFound``, ``UnknownCommand`` or ``Refused`` with the answer's own words, ``NoAnswer`` when there is none.
        """
        line, room = command.line(), self.find()
        sent = self._send(room, line)
        answer: dict[str, Any] | None = None
        try:
            answer = self._await(room, sent, command)
        finally:
            if command.secret:
                self._hide(room, sent)
                # The servers repeat the password in their answer.
                if answer is not None and command.secret in _body(answer):
                    self._hide(room, str(answer.get("event_id")))
        return self._judged(without_secret(_body(answer), command.secret), command)

    def _send(self, room: str, line: str) -> str:
        path = room_path(room, "send", "m.room.message", f"switchboard-{secrets.token_hex(12)}")
        action = "write in the admin room"
        found = self._http.call("PUT", path, dumps({"msgtype": "m.text", "body": line}), action=action)
        event_id = found.get("event_id")
        if not isinstance(event_id, str):
            raise self._http.not_matrix(action)
        return event_id

    def _await(self, room: str, sent: str, command: Command) -> dict[str, Any]:
        until = time.monotonic() + self.wait
        while True:
            found = self._answer(room, sent)
            if found is not None:
                return found
            if time.monotonic() >= until:
                raise NoAnswer(
                    f"nobody answered the command in #admins within {self.wait:.0f} s; it may be carried out all the same",
                    where=self._http.base_url,
                    action=command.action,
                )
            time.sleep(POLL_SECONDS)

    def _answer(self, room: str, sent: str) -> dict[str, Any] | None:
        """The bot's reply among what was said since the command: back from the newest until the command itself is met."""
        start = ""
        for _ in range(5):
            query = "dir=b&limit=50" + (f"&from={quote_part(start)}" if start else "")
            page = self._http.call("GET", room_path(room, "messages"), query=query, action="read the admin room")
            for event in dicts(page.get("chunk")):
                if event.get("event_id") == sent:
                    return None
                if event.get("sender") == self.bot and _replies_to(event) == sent:
                    return event
            start = str(page.get("end") or "")
            if not start:
                return None
        return None

    def _judged(self, said: str, command: Command) -> str:
        low = said.lower()
        if any(words.lower() in low for words in command.success):
            return said
        words = _reason(said)
        kind: type[Refused] = Refused
        code = "M_UNKNOWN"
        if any(one in low for one in _UNKNOWN_COMMAND):
            kind = UnknownCommand
        elif any(one in low for one in _TAKEN):
            kind, code = Taken, "M_USER_IN_USE"
        elif any(one in low for one in _MISSING):
            kind, code = NotFound, "M_NOT_FOUND"
        raise kind(words, errcode=code, where=self._http.base_url, action=command.action)

    def _hide(self, room: str, event_id: str) -> None:
        path = room_path(room, "redact", event_id, f"switchboard-{secrets.token_hex(12)}")
        try:
            self._http.call(
                "PUT", path, dumps({"reason": "It held a password."}), action="remove a password from the room"
            )
        except MatrixError as error:
            self._warn(f"A password stands in #admins and could not be removed there: {error.sentence}")


def _body(event: dict[str, Any]) -> str:
    content = event.get("content")
    body = content.get("body") if isinstance(content, dict) else None
    return body if isinstance(body, str) else ""


def _replies_to(event: dict[str, Any]) -> str:
    content = event.get("content")
    relates = content.get("m.relates_to") if isinstance(content, dict) else None
    reply = relates.get("m.in_reply_to") if isinstance(relates, dict) else None
    found = reply.get("event_id") if isinstance(reply, dict) else None
    return found if isinstance(found, str) else ""


def _reason(said: str) -> str:
    """The answer's words without its frame: "Command failed with error:" and the fence around the reason, log lines before it."""
    fenced = re.search(r"Command failed with error:\s*```\s*(.*?)\s*```", said, re.DOTALL)
    text = " ".join((fenced.group(1) if fenced else said).split())
    return text[:300] or "it answered with nothing"


def no_such_user(user_id: str, where: str, action: str) -> NotFound:
    """The refusal for an account that is not there."""
    return NotFound(f"there is no account {user_id}", errcode="M_NOT_FOUND", status=404, where=where, action=action)


def _localpart(user_id: str) -> str:
    return user_id.removeprefix("@").partition(":")[0]
