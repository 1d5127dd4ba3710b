"""How a message leaves: any address that Apprise knows, and schemes of our own that apps register (``room://`` of the homeserver)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.conf import settings

from ops.logs import add_secret
from ops.redaction import redact_text

TIMEOUT = 25.0
# Only of these is the host no part of what lets one in.
_OPEN_HOSTS = frozenset(
    [
        "json",
        "jsons",
        "xml",
        "xmls",
        "form",
        "forms",
        "mailto",
        "mailtos",
        "matrix",
        "matrixs",
        "gotify",
        "gotifys",
        "rocket",
        "rockets",
        "mmost",
        "mmosts",
    ]
)
_SCHEME = re.compile(r"^([a-z][a-z0-9+.\-]*)://", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is handed to a transport. ``key`` is the same at every attempt; ``tone`` is info, success, warning or failure."""

    title: str
    body: str
    key: str
    tone: str = "info"


class NotSent(Exception):
    """It was not sent. The text says why, without the address."""


@dataclass(frozen=True, slots=True)
class Transport:
    """A scheme of our own. ``send(address, envelope)`` raises ``NotSent``; ``problem(address)`` says what is wrong with an address,
    "" when nothing is; ``label(address)`` is what is shown instead of it."""

    scheme: str
    send: Callable[[str, Envelope], None]
    problem: Callable[[str], str]
    label: Callable[[str], str]


_own: dict[str, Transport] = {}


def register_transport(transport: Transport) -> None:
    """Make a scheme known. It wins over one of the same name in Apprise. The same place may register it again."""
    known = _own.get(transport.scheme)
    if known is not None and known.send.__module__ != transport.send.__module__:
        raise ValueError(f"The scheme {transport.scheme} is already registered by {known.send.__module__}.")
    _own[transport.scheme] = transport


def problem_of(address: str) -> str:
    """What is wrong with an address, "" when it can be used. Asks nobody, and never repeats the address."""
    scheme = scheme_of(address)
    if not scheme:
        return "An address starts with its kind, for example mailto://, ntfy:// or json://."
    own = _own.get(scheme)
    if own is not None:
        return own.problem(address)
    hide(address)
    return "" if _plugin(address) is not None else f"This is not a complete address of the kind {scheme}://."


def label_of(address: str) -> str:
    """What an address is, in words that let nobody in: ``Slack``, ``JSON at hooks.example.org``."""
    scheme = scheme_of(address)
    own = _own.get(scheme)
    if own is not None:
        return own.label(address)
    plugin = _plugin(address)
    if plugin is None:
        return f"{scheme}:// (not usable)" if scheme else "not usable"
    name = str(plugin.service_name)
    host = str(getattr(plugin, "host", "") or "") if scheme in _OPEN_HOSTS else ""
    return f"{name} at {host}" if host else name


def deliver(address: str, envelope: Envelope) -> None:
    """Send it; returns when the other side has taken it. Raises ``NotSent``."""
    own = _own.get(scheme_of(address))
    if own is not None:
        own.send(address, envelope)
        return
    hide(address)
    import apprise

    sender = apprise.Apprise(asset=_asset())
    if not sender.add(address):
        raise NotSent("The address cannot be used (any more). Enter it again.")
    tone = apprise.NotifyType(envelope.tone)
    try:
        result = sender.notify(
            title=envelope.title,
            body=envelope.body,
            notify_type=tone,
            body_format=apprise.NotifyFormat.TEXT,
            timeout=TIMEOUT,
        )
    except Exception as error:
        raise NotSent(_sentence(f"{type(error).__name__}: {error}")) from None
    if not result:
        said = [entry.message for entry in result.logs() if entry.level in ("WARNING", "ERROR", "CRITICAL")]
        raise NotSent(_sentence(said[0] if said else "The other side did not take it, and gave no reason."))


def scheme_of(address: str) -> str:
    """``mailto`` of ``mailto://…``; "" when there is none."""
    found = _SCHEME.match(address.strip())
    return found.group(1).lower() if found else ""


def hide(address: str) -> None:
    """Keep whatever in an address may be a secret out of every log line from now on."""
    add_secret(address)
    try:
        parts = urlsplit(address)
        pieces = [parts.password or "", *(value for _, value in parse_qsl(parts.query)), parts.fragment]
        pieces += [piece for piece in parts.path.split("/") if any(c.isdigit() for c in piece)]
    except ValueError:
        return
    if scheme_of(address) not in _OPEN_HOSTS:
        pieces += [parts.username or "", parts.netloc.rpartition("@")[2]]
    for piece in pieces:
        for form in {piece, unquote(piece)}:
            # A user name's or a topic's ordinary word must stay readable in logs.
            if len(form) >= 12 and "@" not in form:
                add_secret(form)


def _plugin(address: str) -> Any:
    import apprise

    try:
        return apprise.Apprise.instantiate(address, asset=_asset(), suppress_exceptions=True)
    except Exception:
        return None


def _asset() -> Any:
    import apprise

    # In memory, and without plug-ins from disk: an address may come from a form.
    return apprise.AppriseAsset(
        app_id="Switchboard",
        app_desc="Switchboard",
        app_url=settings.PUBLIC_URL,
        async_mode=False,
        secure_logging=True,
        plugin_paths=[],
        storage_mode=apprise.PersistentStoreMode.MEMORY,
    )


def _sentence(text: str) -> str:
    return " ".join(redact_text(text).split())[:400]
