"""A homeserver at the HTTP edge: it speaks the true client-server protocol to an appservice, remembers everything, and breaks on demand.

Threaded, on a free port of 127.0.0.1. ``requests`` is the ledger of all calls in order; ``faults`` make the next calls of a kind
fail. What it answers was taken from the specification and from Synapse's behaviour (texts of errors included).
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.fake_wire import Call, FakeRoom, Fault, Refusal, answer_with, kind_of

SERVER_NAME = "fake.test"
AS_TOKEN = "as-token-of-the-tests"
HS_TOKEN = "hs-token-of-the-tests"


class FakeHomeserver:
    """``with FakeHomeserver() as server:``; ``server.url`` is its address."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.port = 0
        self.reset()

    def reset(self) -> None:
        """As just installed."""
        with self.lock:
            self.requests: list[Call] = []
            self.faults: list[Fault] = []
            self.users: dict[str, dict[str, str]] = {}
            self.devices: set[tuple[str, str]] = set()
            self.rooms: dict[str, FakeRoom] = {}
            self.aliases: dict[str, str] = {}
            self.media: dict[str, bytes] = {}
            self.transactions: dict[tuple[str, ...], str] = {}
            self.typing: list[tuple[str, str, bool]] = []
            self.receipts: list[tuple[str, str, str]] = []
            self.unknown_people: set[str] = set()
            self.token = AS_TOKEN
            self.ping_fails = ""
            self.half_made_rooms = False
            self.page_limit = 100
            self._numbers = itertools.count(1)

    # Running

    def start(self, port: int = 0) -> FakeHomeserver:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *arguments: Any) -> None:
                """Silent."""

            def _take(self) -> None:
                fake.handle(self)

            do_GET = do_PUT = do_POST = do_DELETE = _take

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            allow_reuse_address = True
            request_queue_size = 64

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that goes away is no error."""

        self._server = Server(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        self._connections: set[Any] = set()
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Close the port and every open connection; ``start(port)`` brings it back with all it knew."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(60)
        for connection in list(self._connections):
            try:
                connection.shutdown(2)
            except OSError:
                continue

    __enter__ = start

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # What tests ask and do

    def fail(self, kind: str = "*", **how: Any) -> Fault:
        fault = Fault(kind, **how)
        with self.lock:
            self.faults.append(fault)
        return fault

    def calls(self, kind: str = "") -> list[Call]:
        with self.lock:
            return [call for call in self.requests if not kind or call.kind == kind]

    def lose_account(self, user: str) -> None:
        """The homeserver was restored from an old backup: the account and its memberships are gone."""
        with self.lock:
            self.users.pop(user, None)
            self.devices = {pair for pair in self.devices if pair[0] != user}

    def room_of(self, alias: str) -> FakeRoom:
        return self.rooms[self.aliases[alias]]

    def person_joins(self, room_id: str, user: str) -> dict[str, Any]:
        with self.lock:
            return self._state(self.rooms[room_id], "m.room.member", user, {"membership": "join"}, user)

    def person_says(self, room_id: str, user: str, body: str, **content: Any) -> dict[str, Any]:
        """Something that a person says; returns the event as a transaction would carry it."""
        return self.add(room_id, user, {"msgtype": "m.text", "body": body, **content})

    def add(self, room_id: str, sender: str, content: dict[str, Any], kind: str = "m.room.message") -> dict[str, Any]:
        with self.lock:
            return self._append(self.rooms[room_id], {"type": kind, "sender": sender, "content": content})

    def new_room(self, creator: str, *members: str) -> FakeRoom:
        """A room that a person made."""
        with self.lock:
            room = self._make_room(creator)
            for member in members:
                self._state(room, "m.room.member", member, {"membership": "join"}, member)
            return room

    def shown(self, room_id: str) -> list[str]:
        """What a client shows: messages in order, edits applied."""
        bodies: dict[str, str] = {}
        for event in self.rooms[room_id].events:
            if event["type"] != "m.room.message":
                continue
            relation = event["content"].get("m.relates_to", {})
            if relation.get("rel_type") == "m.replace":
                bodies[relation["event_id"]] = event["content"]["m.new_content"]["body"]
            else:
                bodies[event["event_id"]] = event["content"]["body"]
        return list(bodies.values())

    def messages_of(self, room_id: str) -> list[dict[str, Any]]:
        """All message events, edits included."""
        return [event for event in self.rooms[room_id].events if event["type"] == "m.room.message"]

    def children(self, space_id: str) -> set[str]:
        return {
            key
            for (kind, key), event in self.rooms[space_id].state.items()
            if kind == "m.space.child" and event["content"].get("via")
        }

    # The wire

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        self._connections.add(request.connection)
        length = int(request.headers.get("Content-Length") or 0)
        raw = request.rfile.read(length) if length else b""
        parts = urlsplit(request.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        try:
            body = json.loads(raw) if raw else {}
        except ValueError:
            body = raw
        route = [unquote(part) for part in parts.path.split("/")[1:]]
        kind = kind_of(request.command, route)
        with self.lock:
            self.requests.append(Call(kind, request.command, parts.path, query.get("user_id", ""), query, body))
            fault = next((one for one in self.faults if one.times > 0 and one.kind in {kind, "*"}), None)
            if fault is not None:
                fault.times -= 1
        if fault is not None and fault.slow:
            time.sleep(fault.slow)
        if fault is not None and fault.status:
            more = {} if fault.retry_after_ms is None else {"retry_after_ms": fault.retry_after_ms}
            return answer_with(request, fault.status, {"errcode": fault.errcode, "error": fault.error, **more})
        if fault is not None and fault.garbage:
            return answer_with(request, 200, b"<html>a proxy's page</html>")
        try:
            with self.lock:
                answer = self._answer(kind, request, route, query, body, raw)
            status: int = 200
        except Refusal as refusal:
            status, answer = refusal.status, refusal.body
        if fault is not None and fault.reset:
            request.close_connection = True
            request.connection.shutdown(2)
            return None
        return answer_with(request, status, answer)

    def _answer(
        self, kind: str, request: BaseHTTPRequestHandler, route: list[str], query: dict[str, str], body: Any, raw: bytes
    ) -> Any:
        if kind == "versions":
            return {"versions": ["v1.1", "v1.11"], "server": {"name": "Fake", "version": "1"}}
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            raise Refusal(401, "M_UNKNOWN_TOKEN", "Unrecognised access token")
        user = query.get("user_id") or f"@switchboard:{SERVER_NAME}"
        open_to_all = {"register", "whoami", "ping", "profile_get", "alias_get", "capabilities", "media"}
        if kind not in open_to_all and not user.startswith(("@agent_", "@switchboard:")):
            raise Refusal(403, "M_FORBIDDEN", f"Application service cannot masquerade as this user ({user}).")
        if kind not in open_to_all and user not in self.users:
            raise Refusal(403, "M_FORBIDDEN", "Application service has not registered this user")
        if kind in {"send", "redact"} and "device_id" in query and (user, query["device_id"]) not in self.devices:
            raise Refusal(400, "M_UNKNOWN_DEVICE", "Application service trying to use a device that doesn't exist")
        handler = getattr(self, f"_do_{kind}", None)
        if handler is None:
            raise Refusal(404, "M_UNRECOGNIZED", f"Unrecognized request {request.command} {request.path}")
        return handler(user, route, query, body if kind != "media" else raw)

    def _do_register(self, user: str, route: list[str], query: dict[str, str], body: Any) -> Any:
        wanted = f"@{body['username']}:{SERVER_NAME}"
        if not body["username"].startswith(("agent_", "switchboard")):
            raise Refusal(400, "M_EXCLUSIVE", "Invalid user localpart for this application service.")
        if wanted in self.users:
            raise Refusal(400, "M_USER_IN_USE", "User ID already taken.")
        self.users[wanted] = {"displayname": body["username"], "avatar_url": ""}
        return {"user_id": wanted}

    def _do_whoami(self, user: str, route: list[str], query: dict[str, str], body: Any) -> Any:
        if not user.startswith(("@agent_", "@switchboard:")):
            raise Refusal(403, "M_FORBIDDEN", f"Application service cannot masquerade as this user ({user}).")
        if user.startswith("@agent_") and user not in self.users:
            raise Refusal(403, "M_FORBIDDEN", f"Application service has not registered this user ({user})")
        return {"user_id": user}

    def _do_capabilities(self, user: str, route: list[str], query: dict[str, str], body: Any) -> Any:
        return {"capabilities": {"m.room_versions": {"default": "12", "available": {"12": "stable"}}}}

    def _do_ping(self, user: str, route: list[str], query: dict[str, str], body: Any) -> Any:
        if self.ping_fails:
            raise Refusal(502, self.ping_fails, "the appservice did not answer")
        return {"duration_ms": 3}

    def _do_device(self, user: str, route: list[str], query: dict[str, str], body: Any) -> Any:
        self.devices.add((user, route[-1]))
        return {}

    def _do_profile_get(self, user: str, route: list[str], query: dict[str, str], body: Any) -> Any:
        if route[4] not in self.users:
            raise Refusal(404, "M_NOT_FOUND", "Profile was not found")
        return {key: value for key, value in self.users[route[4]].items() if value}

    def _do_profile_put(self, user: str, route: list[str], query: dict[str, str], body: Any) -> Any:
        if route[4] != user:
            raise Refusal(400, "M_FORBIDDEN", "Cannot set another user's profile")
        self.users[user][route[5]] = body.get(route[5], "")
        return {}

    def _do_media(self, user: str, route: list[str], query: dict[str, str], body: bytes) -> Any:
        uri = f"mxc://{SERVER_NAME}/media{next(self._numbers)}"
        self.media[uri] = body
        return {"content_uri": uri}

    def _do_download(self, user: str, route: list[str], query: dict[str, str], body: Any) -> Any:
        content = self.media.get(f"mxc://{route[5]}/{route[6]}")
        if content is None:
            raise Refusal(404, "M_NOT_FOUND", "No such file")
        return content

    def _do_createRoom(self, user: str, route: list[str], query: dict[str, str], body: Any) -> Any:
        alias = f"#{body['room_alias_name']}:{SERVER_NAME}" if body.get("room_alias_name") else ""
        if alias and alias in self.aliases:
            raise Refusal(400, "M_ROOM_IN_USE", "Room alias already taken")
        room = self._make_room(
            user, {"type": "m.space"} if body.get("creation_content", {}).get("type") == "m.space" else {}
        )
        if alias:
            self.aliases[alias] = room.room_id
            self._state(room, "m.room.canonical_alias", "", {"alias": alias}, user)
        for state in body.get("initial_state", []):
            self._state(room, state["type"], state.get("state_key", ""), state["content"], user)
        for key, kind in (("name", "m.room.name"), ("topic", "m.room.topic")):
            if body.get(key):
                self._state(room, kind, "", {key: body[key]}, user)
        for person in body.get("invite", []):
            # As Synapse does it: the room and its alias stay when an invitation is refused.
            if person in self.unknown_people:
                if not self.half_made_rooms:
                    self.aliases.pop(alias, None)
                    self.rooms.pop(room.room_id)
                raise Refusal(403, "M_FORBIDDEN", f"{person} cannot be invited")
            self._state(room, "m.room.member", person, {"membership": "invite"}, user)
        return {"room_id": room.room_id}

    def _do_alias_get(self, user: str, route: list[str], query: dict[str, str], body: Any) -> Any:
        room_id = self.aliases.get(route[5])
        if room_id is None:
            raise Refusal(404, "M_NOT_FOUND", f"Room alias {route[5]} not found")
        return {"room_id": room_id, "servers": [SERVER_NAME]}

    def _do_alias_put(self, user: str, route: list[str], query: dict[str, str], body: Any) -> Any:
        if route[5] in self.aliases:
            raise Refusal(409, "M_UNKNOWN", f"Room alias {route[5]} already exists")
        self.aliases[route[5]] = body["room_id"]
        return {}

    def _do_alias_delete(self, user: str, route: list[str], query: dict[str, str], body: Any) -> Any:
        if self.aliases.pop(route[5], None) is None:
            raise Refusal(404, "M_NOT_FOUND", "Room alias not found")
        return {}

    def _do_alias_put(self, user: str, route: list[str], query: dict[str, str], body: Any) -> Any:
        if route[5] in self.aliases:
            raise Refusal(409, "M_UNKNOWN", "Room alias already exists")
        self.aliases[route[5]] = body["room_id"]
        return {}

    def _do_join(self, user: str, route: list[str], query: dict[str, str], body: Any) -> Any:
        room = self._room(route[4])
        if room.membership(user) == "join":
            return {"room_id": room.room_id}
        if room.membership(user) != "invite":
            raise Refusal(403, "M_FORBIDDEN", "You are not invited to this room.")
        self._state(room, "m.room.member", user, {"membership": "join"}, user)
        return {"room_id": room.room_id}

    def _do_invite(self, user: str, route: list[str], query: dict[str, str], body: Any) -> Any:
        room, person = self._inside(route[4], user), body["user_id"]
        if person in self.unknown_people:
            raise Refusal(403, "M_FORBIDDEN", f"{person} cannot be invited")
        if room.membership(person) == "join":
            raise Refusal(403, "M_FORBIDDEN", f"{person} is already in the room.")
        self._state(room, "m.room.member", person, {"membership": "invite"}, user)
        return {}

    def _do_leave(self, user: str, route: list[str], query: dict[str, str], body: Any) -> Any:
        self._state(self._room(route[4]), "m.room.member", user, {"membership": "leave"}, user)
        return {}

    def _do_joined_rooms(self, user: str, route: list[str], query: dict[str, str], body: Any) -> Any:
        return {"joined_rooms": [room.room_id for room in self.rooms.values() if room.membership(user) == "join"]}

    def _do_members(self, user: str, route: list[str], query: dict[str, str], body: Any) -> Any:
        room = self._inside(route[4], user)
        return {"chunk": [event for (kind, _), event in room.state.items() if kind == "m.room.member"]}

    def _do_state_get(self, user: str, route: list[str], query: dict[str, str], body: Any) -> Any:
        room = self._inside(route[4], user)
        if len(route) == 6:
            return list(room.state.values())
        event = room.state.get((route[6], route[7] if len(route) > 7 else ""))
        if event is None:
            raise Refusal(404, "M_NOT_FOUND", "Event not found.")
        return event["content"]

    def _do_state_put(self, user: str, route: list[str], query: dict[str, str], body: Any) -> Any:
        room = self._inside(route[4], user)
        event = self._state(room, route[6], route[7] if len(route) > 7 else "", body, user)
        return {"event_id": event["event_id"]}

    def _do_send(self, user: str, route: list[str], query: dict[str, str], body: Any) -> Any:
        room = self._inside(route[4], user)
        key = (user, query.get("device_id", ""), room.room_id, route[7])
        if query.get("device_id") and key in self.transactions:
            return {"event_id": self.transactions[key]}
        event = self._append(room, {"type": route[6], "sender": user, "content": body})
        self.transactions[key] = event["event_id"]
        return {"event_id": event["event_id"]}

    def _do_typing(self, user: str, route: list[str], query: dict[str, str], body: Any) -> Any:
        self.typing.append((route[4], user, body["typing"]))
        return {}

    def _do_receipt(self, user: str, route: list[str], query: dict[str, str], body: Any) -> Any:
        self.receipts.append((route[4], user, route[7]))
        return {}

    def _do_messages(self, user: str, route: list[str], query: dict[str, str], body: Any) -> Any:
        room = self._inside(route[4], user)
        limit = min(int(query.get("limit", "10")), self.page_limit)
        end = int(query["from"][1:]) if "from" in query else len(room.events)
        chunk = room.events[max(0, end - limit) : end][::-1]
        answer: dict[str, Any] = {"start": f"t{end}", "chunk": [{**event, "room_id": None} for event in chunk]}
        for event in answer["chunk"]:
            event.pop("room_id")
        if end - limit > 0:
            answer["end"] = f"t{end - limit}"
        return answer

    # Rooms

    def _make_room(self, creator: str, content: dict[str, Any] | None = None) -> FakeRoom:
        # Room version 12: the id has no server part.
        room = FakeRoom(f"!room{next(self._numbers):06d}", creator)
        self.rooms[room.room_id] = room
        self._state(room, "m.room.create", "", content or {}, creator)
        self._state(room, "m.room.member", creator, {"membership": "join"}, creator)
        return room

    def _room(self, room_id: str) -> FakeRoom:
        room = self.rooms.get(self.aliases.get(room_id, room_id))
        if room is None:
            raise Refusal(404, "M_NOT_FOUND", "No known servers")
        return room

    def _inside(self, room_id: str, user: str) -> FakeRoom:
        room = self._room(room_id)
        if room.membership(user) != "join":
            raise Refusal(403, "M_FORBIDDEN", f"User {user} not in room {room_id}")
        return room

    def _append(self, room: FakeRoom, event: dict[str, Any]) -> dict[str, Any]:
        event = {
            "event_id": f"$event{next(self._numbers):08d}",
            "room_id": room.room_id,
            "origin_server_ts": int(time.time() * 1000),
            **event,
        }
        room.events.append(event)
        return event

    def _state(self, room: FakeRoom, kind: str, key: str, content: dict[str, Any], sender: str) -> dict[str, Any]:
        known = room.state.get((kind, key))
        if known is not None and known["content"] == content and known["sender"] == sender:
            return known
        event = self._append(room, {"type": kind, "state_key": key, "sender": sender, "content": content})
        room.state[(kind, key)] = event
        return event
