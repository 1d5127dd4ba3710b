"""What stands at a homeserver's address: asked once for all checks that want to know, without any token.

``GET /_matrix/client/versions`` (client-server API, "API standards") is answered by every homeserver to anybody; whatever is no such
answer is told apart here: nothing listens, no answer in time, a proxy's error, or something that is no homeserver.
"""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Literal
from urllib.parse import quote, urlsplit

import httpx

from agents.matrix.asking import ask, json_of
from ops.network.places import environment_proxy
from ops.network.probe import probe

Stage = Literal["ok", "address", "dns", "refused", "tcp", "proxy", "tls", "http", "not_matrix"]

VERSIONS = "/_matrix/client/versions"
WELL_KNOWN = "/.well-known/matrix/client"
# Where homeservers listen that nobody told otherwise: Synapse, Tuwunel and its forebears, the federation port.
_USUAL_PORTS = (8008, 6167, 8448)
_BY_PORT = "a usual port"


@dataclass(frozen=True, slots=True)
class Look:
    """What was found. ``stage`` is where it ended; ``versions`` is the homeserver's answer when it is one."""

    url: str
    stage: Stage
    sentence: str
    status: int = 0
    content_type: str = ""
    location: str = ""
    milliseconds: int = 0
    versions: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return self.stage == "ok"

    def evidence(self) -> dict[str, Any]:
        """JSON shape: ``{base_url, stage, status, content_type, location, milliseconds}``; what is empty is left out."""
        found = {
            "base_url": self.url,
            "stage": self.stage,
            "status": self.status,
            "content_type": self.content_type,
            "location": self.location,
            "milliseconds": self.milliseconds,
        }
        return {name: value for name, value in found.items() if value not in ("", 0)}


@dataclass(frozen=True, slots=True)
class Candidate:
    """Another address that was tried. ``knows_us``: it has our account (None: it does not say)."""

    url: str
    found_by: str
    works: bool
    knows_us: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON shape: ``{url, found_by, works, knows_us}``."""
        return {"url": self.url, "found_by": self.found_by, "works": self.works, "knows_us": self.knows_us}


_lock = Lock()
_under_way: dict[str, Future[Look]] = {}


def look_at(url: str) -> Look:
    """What answers at ``url``; never raises. Whoever asks while somebody else is looking gets that answer: checks of one round do."""
    with _lock:
        shared = _under_way.get(url)
        own = Future[Look]() if shared is None else None
        if own is not None:
            _under_way[url] = own
    if own is None:
        assert shared is not None
        return shared.result()
    try:
        found = _look(url)
    except BaseException as error:
        own.set_exception(error)
        raise
    else:
        own.set_result(found)
        return found
    finally:
        with _lock:
            del _under_way[url]


def _look(url: str) -> Look:
    started = time.monotonic()
    try:
        answer = ask(url, VERSIONS)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
        return _ended(url, error)
    milliseconds = round((time.monotonic() - started) * 1000)
    facts: dict[str, Any] = {
        "status": answer.status_code,
        "content_type": answer.headers.get("content-type", "").partition(";")[0][:100],
        "location": _location(answer),
        "milliseconds": milliseconds,
    }
    data = json_of(answer)
    versions = data.get("versions") if isinstance(data, dict) else None
    if answer.status_code == 200 and isinstance(data, dict) and isinstance(versions, list):
        return Look(url, "ok", f"It answers in {milliseconds} ms.", versions=data, **facts)
    if answer.status_code == 429:
        return Look(url, "ok", "It answers, and asks us to be slower.", **facts)
    if answer.status_code >= 500:
        return Look(url, "http", f"What answers there says {answer.status_code}: {_why(answer.status_code)}", **facts)
    return Look(url, "not_matrix", f"This address answers {_kind(answer, data)}, not Matrix.", **facts)


def _ended(url: str, error: Exception) -> Look:
    """At which stage it ended: asked again slowly, since the client's exception does not say."""
    walk = probe(url, proxy=environment_proxy(url)[0], path=VERSIONS)
    milliseconds = walk.milliseconds
    if walk.kind == "refused":
        return Look(url, "refused", walk.sentence, milliseconds=milliseconds)
    if walk.kind == "not_http":
        return Look(url, "not_matrix", "What listens at this address speaks no HTTP.", milliseconds=milliseconds)
    if walk.ok:
        text = "The connection broke once; it can be reached now."
        return Look(url, "http", f"{text} ({type(error).__name__})", milliseconds=milliseconds)
    stage: Stage = "http" if walk.stage == "done" else walk.stage
    return Look(url, stage, walk.sentence, milliseconds=milliseconds)


def candidates(url: str, *, server_name: str = "", sender: str = "", known: tuple[str, ...] = ()) -> list[Candidate]:
    """Addresses at which the homeserver may be instead, tried in this order, without sending our token anywhere.

    ``known`` are addresses that somebody named or that worked before; then what the address itself redirects to or names in its
    ``.well-known``, then the usual ports of the same host and of this machine, then the server name's own ``.well-known``. The first
    that is a homeserver and has our account (``sender``) ends the search.
    """
    tried: dict[str, Candidate] = {}
    for address, found_by in _ideas(url, server_name, known):
        base = _base(address)
        if not base or base == _base(url) or base in tried:
            continue
        works = look_at(base).ok
        knows = knows_account(base, sender) if works and sender else None
        # Somebody else's homeserver may listen on a usual port: there it has to be ours for certain.
        ours = knows is True or (knows is None and (not sender or not found_by.startswith(_BY_PORT)))
        tried[base] = Candidate(base, found_by, works and ours, knows)
        if tried[base].works and knows:
            break
    return list(tried.values())


def best(found: list[Candidate]) -> Candidate | None:
    """The candidate to propose: one that has our account before one that does not say."""
    working = [one for one in found if one.works]
    return next((one for one in working if one.knows_us), working[0] if working else None)


def knows_account(url: str, user_id: str) -> bool | None:
    """Whether the homeserver there has the account, asked as anybody may (``GET /profile``). None: it does not say."""
    try:
        answer = ask(url, f"/_matrix/client/v3/profile/{quote(user_id, safe='')}")
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError):
        return None
    if answer.status_code == 200:
        return True
    return False if answer.status_code == 404 else None


def _ideas(url: str, server_name: str, known: tuple[str, ...]) -> Any:
    for one in known:
        yield one, "known here"
    parts = urlsplit(url)
    host = parts.hostname or ""
    seen = look_at(url)
    if seen.location:
        yield seen.location, "the redirect"
    if seen.stage == "not_matrix":
        yield _named_by(url), "its .well-known"
        other = "https" if parts.scheme == "http" else "http"
        yield f"{other}://{parts.netloc.rpartition('@')[2]}", "the other protocol"
    if host and seen.stage not in ("dns", "address"):
        shown = f"[{host}]" if ":" in host else host
        for port in _USUAL_PORTS:
            yield f"{parts.scheme}://{shown}:{port}", _BY_PORT
    for port in _USUAL_PORTS[:2]:
        yield f"http://127.0.0.1:{port}", f"{_BY_PORT} of this machine"
    if server_name and server_name != host:
        yield _named_by(f"https://{server_name}"), "the server name's .well-known"


def _named_by(url: str) -> str:
    """The address that ``.well-known/matrix/client`` there names (client-server API, "Server discovery"), "" without one."""
    try:
        data = json_of(ask(url, WELL_KNOWN))
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError):
        return ""
    inner = data.get("m.homeserver") if isinstance(data, dict) else None
    named = inner.get("base_url") if isinstance(inner, dict) else None
    return named if isinstance(named, str) else ""


def _base(address: str) -> str:
    """Scheme, host and port (and a path that is not Matrix's own), without credentials; "" for what is no address."""
    try:
        parts = urlsplit(address.strip())
        _ = parts.port
    except ValueError:
        return ""
    if parts.scheme not in ("http", "https") or not parts.hostname or len(address) > 500:
        return ""
    path = parts.path.partition("/_matrix")[0].rstrip("/")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}"


def _location(answer: httpx.Response) -> str:
    if not 300 <= answer.status_code < 400:
        return ""
    try:
        return str(answer.url.join(answer.headers.get("location", "")))[:500]
    except (httpx.InvalidURL, ValueError):
        return ""


def _kind(answer: httpx.Response, data: Any) -> str:
    kind = answer.headers.get("content-type", "").partition(";")[0].strip()
    if 300 <= answer.status_code < 400:
        return f"with a redirect ({answer.status_code})"
    if "html" in kind or answer.content[:200].lstrip().lower().startswith((b"<!doctype", b"<html")):
        return f"HTML ({answer.status_code})"
    if isinstance(data, dict) and isinstance(data.get("errcode"), str):
        # A port for other servers only, or a proxy that lets this path through to something else of Matrix.
        return f"{answer.status_code} {data['errcode'][:60]} to the first question of every client"
    return f"{answer.status_code} {kind or 'without a type'}"


def _why(status: int) -> str:
    return {
        502: "a proxy stands there, and nothing answers behind it.",
        503: "it is overloaded, or a proxy has nobody behind it.",
        504: "a proxy stands there, and what is behind it does not answer in time.",
    }.get(status, "it is broken; its log says why.")
