"""Which kinds of backend there are, and the one open backend of each service.

A backend holds a pool of connections, so all threads share it; it is closed when its address, credentials or options change.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module

from agents.backends.base import Backend, ServiceSpec, Traits
from agents.backends.errors import BackendRejected


@dataclass(frozen=True, slots=True)
class BackendKind:
    """A kind of backend. ``path`` is the dotted path of its class, imported when it is first opened."""

    kind: str
    path: str
    label: str
    traits: Traits = field(default_factory=Traits)
    needs_address: bool = True


BACKENDS: dict[str, BackendKind] = {}


def register_backend(
    kind: str, path: str, label: str, traits: Traits | None = None, *, needs_address: bool = True
) -> BackendKind:
    """Add a kind. Apps of third parties call it from ``AppConfig.ready``. Registering the same kind and path twice is fine."""
    known = BACKENDS.get(kind)
    if known is not None and known.path != path:
        raise ValueError(f"The backend kind {kind!r} is already registered for {known.path}.")
    BACKENDS[kind] = BackendKind(kind, path, label, traits or Traits(), needs_address)
    return BACKENDS[kind]


register_backend(
    "letta",
    "agents.backends.letta.LettaBackend",
    "Letta server (V1 REST)",
    Traits(
        keeps_history=True,
        exclusive=True,
        has_conversations=True,
        has_memory=True,
        recognises_repeats=True,
        takes_images=True,
    ),
)
register_backend(
    "openai", "agents.backends.openai.OpenAIBackend", "OpenAI-compatible server", Traits(takes_images=True)
)
register_backend(
    "anthropic",
    "agents.backends.anthropic.AnthropicBackend",
    "Anthropic Messages API",
    Traits(defined_here=True, takes_images=True, takes_files=True),
    needs_address=False,
)
register_backend(
    "demo",
    "agents.backends.demo.DemoBackend",
    "Demo agents (no network, no key)",
    Traits(has_memory=True, takes_images=True, takes_files=True),
    needs_address=False,
)


def backend_kinds() -> list[tuple[str, str]]:
    """(kind, label) of all kinds in the order of registration, fit for a form's choices."""
    return [(kind.kind, kind.label) for kind in BACKENDS.values()]


def kind_of(kind: str) -> BackendKind:
    """Raises ``BackendRejected`` for an unknown kind."""
    try:
        return BACKENDS[kind]
    except KeyError:
        raise BackendRejected(f"There is no backend kind {kind!r}; known are {', '.join(BACKENDS)}.") from None


def backend_class(kind: str) -> type[Backend]:
    """The class of a kind. Raises ``BackendRejected`` for an unknown kind or a class that cannot be imported."""
    module_name, _, class_name = kind_of(kind).path.rpartition(".")
    try:
        loaded: type[Backend] = getattr(import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise BackendRejected(f"The backend kind {kind!r} cannot be loaded: {error}") from error
    return loaded


_lock = threading.Lock()
_open: dict[tuple[str, str], tuple[str, Backend]] = {}


def open_backend(spec: ServiceSpec) -> Backend:
    """The backend of this service, opened once for as long as its address, credentials and options stay the same.

    Raises ``BackendRejected`` when the kind is unknown or the address cannot be used. Threads may share the result.
    """
    place = (spec.kind, spec.name)
    mark = _fingerprint(spec)
    with _lock:
        held = _open.get(place)
        if held is not None and held[0] == mark:
            return held[1]
        fresh = backend_class(spec.kind)(spec)
        _open[place] = (mark, fresh)
    if held is not None:
        held[1].close()
    return fresh


def close_backend(kind: str, name: str) -> None:
    """Close the backend of a service that was removed or switched off."""
    with _lock:
        held = _open.pop((kind, name), None)
    if held is not None:
        held[1].close()


def close_all() -> None:
    """Close every open backend: at shutdown, after a fork, in tests."""
    with _lock:
        held = list(_open.values())
        _open.clear()
    for _, backend in held:
        backend.close()


def _fingerprint(spec: ServiceSpec) -> str:
    """A digest rather than the values themselves, so that no second copy of a secret lies about."""
    parts: Mapping[str, object] = {"url": spec.base_url, "credentials": spec.credentials, "options": spec.options}
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=repr).encode()).hexdigest()
