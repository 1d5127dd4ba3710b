"""Fetches the portal's pages and everything that they refer to, as a browser would, from where the web server listens."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
from django.conf import settings

from ops.doctor_config.checks_places import inside_leg
from ops.network.places import public_url
from ops.static_files import own_files

# Pages that anybody may open. What only people see refers to the same files, and these are fetched as well.
PAGES = ("/account/login/", "/join")
# Files of the portal, whether or not a page of these refers to them.
_OURS = ("portal/", "switchboard/")
_MOST = 300
_SECONDS = 5.0
_IMPORT = re.compile(
    r"""(?:^|[;\s])(?:import|export)\s*(?:[\w*{}\s,$]+\sfrom\s*)?["'](\.{1,2}/[^"']+)["']""", re.MULTILINE
)
TYPES = {
    ".css": ("text/css",),
    ".js": ("text/javascript", "application/javascript"),
    ".mjs": ("text/javascript", "application/javascript"),
    ".svg": ("image/svg+xml",),
    ".png": ("image/png",),
    ".ico": ("image/x-icon", "image/vnd.microsoft.icon"),
    ".woff2": ("font/woff2",),
}


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came of one address. ``problem`` is "" when it is as it should be."""

    address: str
    status: int = 0
    media_type: str = ""
    size: int = 0
    problem: str = ""

    @property
    def is_style(self) -> bool:
        return urlsplit(self.address).path.endswith(".css")

    def to_dict(self) -> dict[str, Any]:
        """JSON shape: ``{address, status, type, size, problem}``."""
        return {
            "address": self.address,
            "status": self.status,
            "type": self.media_type,
            "size": self.size,
            "problem": self.problem,
        }


@dataclass(slots=True)
class Visit:
    """Everything that was fetched. ``base`` is where; "" when the web server answers nowhere."""

    base: str = ""
    pages: list[Fetched] = field(default_factory=list)
    assets: list[Fetched] = field(default_factory=list)


class _References(HTMLParser):
    """Scripts, stylesheets, icons and pictures of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.classes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attrs}
        self.classes |= set(known.get("class", "").split())
        wanted = known.get("src") if tag in ("script", "img") else None
        if tag == "link" and known.get("rel", "") in ("stylesheet", "icon", "modulepreload", "manifest"):
            wanted = known.get("href")
        if wanted and not wanted.startswith(("data:", "blob:")):
            self.found.append(wanted)


def visit(base: str = "", *, pages: Iterable[str] = PAGES) -> Visit:
    """Fetch the pages, what they refer to, what that imports, and every file of the portal."""
    if not base:
        leg = inside_leg()
        parts = urlsplit(leg.url) if leg is not None else None
        base = f"{parts.scheme}://{parts.netloc}" if parts is not None else ""
    found = Visit(base)
    if not base:
        return found
    files = own_files()
    # Where the server listens it is asked under the name that people use, as a proxy does.
    host = urlsplit(public_url()).netloc
    headers = {
        "Host": host,
        "X-Forwarded-Proto": urlsplit(settings.PUBLIC_URL).scheme,
        "User-Agent": "Switchboard-Doctor",
    }
    with httpx.Client(headers=headers, timeout=_SECONDS, trust_env=False, verify=False) as client:  # noqa: S501 - our own, on this machine
        wanted = [f"{settings.STATIC_URL}{name}" for name in sorted(files) if name.startswith(_OURS)]
        for page in pages:
            answer, text = _fetch_page(client, base, page)
            found.pages.append(answer)
            wanted += text
        seen: set[str] = set()
        while wanted and len(seen) < _MOST:
            address = wanted.pop(0).partition("#")[0]
            parts = urlsplit(address)
            if address in seen or (parts.netloc and parts.netloc != host):
                continue
            seen.add(address)
            path = parts.path + (f"?{parts.query}" if parts.query else "")
            answer, body = _fetch(client, base, path, files)
            found.assets.append(answer)
            if not answer.problem and parts.path.endswith((".js", ".mjs")):
                wanted += [urljoin(parts.path, one) for one in _IMPORT.findall(body.decode(errors="replace"))]
    return found


def _fetch_page(client: httpx.Client, base: str, path: str) -> tuple[Fetched, list[str]]:
    """A page with its references, redirects within it followed."""
    here = path
    try:
        answer = client.get(base + path)
        for _ in range(5):
            if not answer.is_redirect:
                break
            parts = urlsplit(urljoin(here, answer.headers.get("location", "")))
            here = parts.path + (f"?{parts.query}" if parts.query else "")
            answer = client.get(base + here)
    except httpx.HTTPError as error:
        return Fetched(path, problem=f"does not come: {type(error).__name__}"), []
    kind = answer.headers.get("content-type", "").partition(";")[0]
    problem = ""
    if answer.status_code != 200:
        problem = f"answers {answer.status_code}"
    elif kind != "text/html":
        problem = f"comes as {kind or 'nothing in particular'} instead of text/html"
    elif "</html>" not in answer.text[-200:]:
        problem = "ends in the middle"
    parser = _References()
    if not problem:
        parser.feed(answer.text)
        if not parser.found:
            problem = "refers to no script and no stylesheet"
    return Fetched(path, answer.status_code, kind, len(answer.content), problem), [
        urljoin(here, one) for one in parser.found
    ]


def _fetch(client: httpx.Client, base: str, path: str, files: dict[str, Path]) -> tuple[Fetched, bytes]:
    try:
        answer = client.get(base + path)
        body = answer.content
    except httpx.HTTPError as error:
        return Fetched(path, problem=f"does not come whole: {type(error).__name__}"), b""
    kind = answer.headers.get("content-type", "").partition(";")[0]
    clean = path.partition("?")[0]
    name = clean.removeprefix(settings.STATIC_URL)
    own = files.get(name) if clean.startswith(settings.STATIC_URL) else None
    expected = TYPES.get(f".{clean.rpartition('.')[2]}")
    problem = ""
    if answer.status_code != 200:
        problem = f"{answer.status_code} {kind}"
    elif expected and kind not in expected:
        problem = f"comes as {kind or 'nothing in particular'} instead of {expected[0]}"
    elif not body.strip():
        problem = "is empty"
    elif own is not None and body != own.read_bytes():
        problem = f"{len(body):,} bytes that are not those of this release ({own.stat().st_size:,})"
    return Fetched(path, answer.status_code, kind, len(body), problem), body
