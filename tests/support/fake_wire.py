"""What the fake homeserver writes down, how it is told to fail, and how a request is named."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any


class Refusal(Exception):
    """An error answer."""

    def __init__(self, status: int, errcode: str, error: str, **more: Any) -> None:
        super().__init__(error)
        self.status, self.body = status, {"errcode": errcode, "error": error, **more}


@dataclass
class Call:
    """One request as it came in. ``kind`` is the handler's name; ``user`` who was acting."""

    kind: str
    method: str
    path: str
    user: str
    query: dict[str, str]
    body: Any


@dataclass
class Fault:
    """What happens to the next ``times`` calls of a kind ("*": any).

    ``status`` answers with an error; ``garbage`` with no JSON; ``reset`` handles the call and then cuts the connection; ``slow`` waits.
    """

    kind: str
    times: int = 1
    status: int = 0
    errcode: str = "M_UNKNOWN"
    error: str = "as the test wished"
    retry_after_ms: int | None = None
    garbage: bool = False
    reset: bool = False
    slow: float = 0.0


@dataclass
class FakeRoom:
    room_id: str
    creator: str
    state: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)

    def membership(self, user: str) -> str:
        return str(self.state.get(("m.room.member", user), {}).get("content", {}).get("membership", ""))


def kind_of(method: str, route: list[str]) -> str:
    """The name of a request: what it is about, with the method where one address has several."""
    path = "/".join(route)
    if path == "_matrix/client/versions":
        return "versions"
    if "appservice" in route and route[-1] == "ping":
        return "ping"
    if route[1] == "media":
        return "media"
    if len(route) < 4:
        return "unknown"
    head = route[3]
    if head == "media":
        return "download"
    if head == "account":
        return "whoami"
    if head == "devices":
        return "device"
    if head == "profile":
        return "profile_get" if method == "GET" else "profile_put"
    if head == "directory":
        return {"GET": "alias_get", "DELETE": "alias_delete"}.get(method, "alias_put")
    if head == "rooms":
        word = route[5]
        return f"state_{method.lower()}" if word == "state" else word
    return head


def answer_with(request: BaseHTTPRequestHandler, status: int, answer: Any) -> None:
    data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    request.send_response(status)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(data)))
    request.end_headers()
    request.wfile.write(data)
