"""A stand-in for a server with an admin room: the client-server calls that are made of it, true in form, and a bot that answers.

It keeps accounts with passwords, sessions and one room; what the bot says comes from ``exchanges``.
"""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.agents.matrix.admin.exchanges import SERVER, Kind, failed, parser_error

ROOM = "!admins:room.test"
BOT = f"@conduit:{SERVER}"
Answer = tuple[int, Any]


class RoomServer:
    """``accounts`` (localpart → password), ``events`` of the admin room (the oldest first), ``members`` of it.

    ``silent``: the bot does not answer. ``delay``: seconds until it does. ``chatter``: how many other messages come before and after its answer.
    ``as_token``: the appservice's, which may log in as ``agent_...``.
    """

    def __init__(self, kind: Kind, *, as_token: str = "") -> None:
        self.kind, self.as_token = kind, as_token
        self.accounts = {"root": "the-root-password", "ada": "ada-has-one"}
        self.tokens: dict[str, str] = {}
        self.names: dict[str, str] = {}
        self.members = {"root"}
        self.events: list[dict[str, Any]] = []
        self.logins = 0
        self.silent, self.delay, self.chatter = False, 0.05, 0
        self.deactivated: set[str] = set()
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
                parts = urlsplit(self.path)
                path = [unquote(one) for one in parts.path.strip("/").split("/")]
                query = {key: values[0] for key, values in parse_qs(parts.query).items()}
                with server._lock:
                    status, data = server.answer(self.command, path, query, token, json.loads(body or b"{}"))
                text = json.dumps(data).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = do_DELETE = _serve

            def log_message(self, format: str, *args: Any) -> None:
                """Silent."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    # The calls

    def answer(self, method: str, path: list[str], query: dict[str, str], token: str, body: dict[str, Any]) -> Answer:
        if path[:3] == ["_matrix", "federation", "v1"]:
            named = {"name": self.kind.name.capitalize(), "version": f"{self.kind.version} (abc123)"}
            return (200, {"server": named}) if self.kind.by_federation else unknown()
        if path[:2] != ["_matrix", "client"]:
            return unknown()
        if path[2:] == ["versions"]:
            named = (
                {} if self.kind.by_federation else {"server": {"name": self.kind.name, "version": self.kind.version}}
            )
            return 200, {"versions": ["v1.5", "v1.11"], **named}
        call = path[3:]
        if call == ["login"]:
            return self._login(method, token, body)
        if call == ["register"]:
            return 403, {"errcode": "M_FORBIDDEN", "error": "Registration has been disabled."}
        user = query.get("user_id", "").strip("@").partition(":")[0] if token == self.as_token else ""
        user = user or ("switchboard" if token and token == self.as_token else self.tokens.get(token, ""))
        if call == ["register", "available"]:
            name = query.get("username", "")
            if name in self.accounts:
                return 400, {"errcode": "M_USER_IN_USE", "error": "User ID is not available"}
            return 200, {"available": True}
        if call[:1] == ["profile"] and method == "GET":
            name = call[1].strip("@").partition(":")[0]
            return (200, {"displayname": self.names.get(name)}) if name in self.accounts else missing()
        if not user:
            return 401, {"errcode": "M_UNKNOWN_TOKEN", "error": "Unknown access token."}
        return self._as(user, method, call, query, token, body)

    def _login(self, method: str, token: str, body: dict[str, Any]) -> Answer:
        if method == "GET":
            return 200, {"flows": [{"type": "m.login.application_service"}, {"type": "m.login.password"}]}
        name = str(body.get("identifier", {}).get("user", "")).strip("@").partition(":")[0]
        if body.get("type") == "m.login.application_service":
            if token != self.as_token or not name.startswith("agent_"):
                return 403, {"errcode": "M_EXCLUSIVE", "error": "Username is not in an appservice namespace."}
        elif self.accounts.get(name) != body.get("password") or name in self.deactivated:
            return 403, {"errcode": "M_FORBIDDEN", "error": "Wrong username or password."}
        self.logins += 1
        made = f"token-{name}-{self.logins}"
        self.tokens[made] = name
        return 200, {"user_id": f"@{name}:{SERVER}", "access_token": made, "device_id": body.get("device_id")}

    def _as(
        self, user: str, method: str, call: list[str], query: dict[str, str], token: str, body: dict[str, Any]
    ) -> Answer:
        if call == ["account", "whoami"]:
            return 200, {"user_id": f"@{user}:{SERVER}"}
        if call == ["logout"]:
            del self.tokens[token]
            return 200, {}
        if call == ["capabilities"]:
            return 200, {"capabilities": {"m.room_versions": {"default": "11", "available": {}}}}
        if call[:2] == ["directory", "room"]:
            return (200, {"room_id": ROOM, "servers": [SERVER]}) if call[2] == f"#admins:{SERVER}" else missing()
        if call == ["joined_rooms"]:
            return 200, {"joined_rooms": [ROOM] if user in self.members else []}
        if call[:1] == ["profile"]:
            self.names[user] = body["displayname"]
            return 200, {}
        if call[:2] != ["rooms", ROOM] or user not in self.members:
            return 403, {"errcode": "M_FORBIDDEN", "error": "You are not in this room."}
        if call[2] == "send":
            return 200, {"event_id": self._said(user, body)}
        if call[2] == "redact":
            event = next(one for one in self.events if one["event_id"] == call[3])
            event["content"] = {}
            return 200, {"event_id": f"$redaction-{call[3]}"}
        if call[2] == "messages":
            newest = int(query.get("from") or len(self.events))
            start = max(0, newest - int(query["limit"]))
            page = {"chunk": self.events[start:newest][::-1], "start": str(newest)}
            return 200, {**page, "end": str(start)} if start else page
        return unknown()

    # The room

    def _add(self, sender: str, content: dict[str, Any]) -> str:
        event_id = f"$event{len(self.events)}"
        self.events.append({"event_id": event_id, "type": "m.room.message", "sender": sender, "content": content})
        return event_id

    def _said(self, user: str, content: dict[str, Any]) -> str:
        event_id = self._add(f"@{user}:{SERVER}", dict(content))
        if str(content.get("body")).startswith("!admin") and not self.silent:
            threading.Thread(target=self._answers, args=(event_id, str(content["body"])), daemon=True).start()
        return event_id

    def _answers(self, event_id: str, line: str) -> None:
        time.sleep(self.delay)
        with self._lock:
            self._chatter()
            text = self.carry_out(line.split()[1:])
            relates = {"m.relates_to": {"m.in_reply_to": {"event_id": event_id}}}
            self._add(BOT, {"msgtype": self.kind.msgtype, "body": self.kind.logs + text, **relates})
            self._chatter()

    def _chatter(self) -> None:
        for number in range(self.chatter):
            self._add(BOT, {"msgtype": "m.text", "body": f"Something else happened ({number})."})

    def carry_out(self, words: list[str]) -> str:
        """The bot's answer to ``users create-user ...``; does what it says."""
        command, given = words[1], words[2:]
        if command not in self.kind.commands:
            return parser_error(command)
        # As clap does: behind "--" nothing is a flag any more.
        at = given.index("--") if "--" in given else len(given)
        flags = [one for one in given[:at] if one.startswith("-")]
        if flags and flags != ["--force"] and self.kind.name != "continuwuity":
            return f"error: unexpected argument '{flags[0]}' found\n"
        rest = [one for one in given[:at] if one not in flags] + given[at + 1 :]
        name = rest[0].strip("@").partition(":")[0].lower()
        user_id = f"@{name}:{SERVER}"
        if command == "create-user":
            if name in self.accounts:
                return self.kind.taken(user_id)
            self.accounts[name] = rest[1]
            return self.kind.created(user_id, rest[1])
        if command == "delete":
            return "Successfully deleted the room from our database."
        if name not in self.accounts and self.kind.missing is not None:
            return self.kind.missing(user_id)
        if command == "reset-password":
            # Tuwunel and conduwuit do not look whether there is such an account.
            self.accounts[name] = rest[1]
            ended = "\nAll existing sessions have been logged out." if "--logout" in flags else ""
            return f"Successfully reset the password for user {user_id}: `{rest[1]}`{ended}"
        if command == "deactivate":
            if name == "conduit":
                return failed("Not allowed to deactivate the server service account.")
            self.deactivated.add(name)
            self._add(BOT, {"msgtype": "m.text", "body": f"Making {user_id} leave all rooms after deactivation..."})
            return f"User {user_id} has been deactivated"
        if command == "make-user-admin":
            self.members.add(name)
            return f"{user_id} has been granted admin privileges."
        if command == "force-join-room":
            return f"{user_id} has been joined to {rest[1]}."
        return f"User @owner:{SERVER} promoted {user_id} to 100 power level in {rest[1]} - $event"


def unknown() -> Answer:
    """As Tuwunel and its kin answer to a call that they do not serve."""
    return 404, {"errcode": "M_UNRECOGNIZED", "error": "Not Found"}


def missing() -> Answer:
    return 404, {"errcode": "M_NOT_FOUND", "error": "Not found"}
