from __future__ import annotations

import pytest

from agents.backends.base import Backend, ServiceSpec
from agents.backends.errors import BackendRejected
from agents.backends.registry import (
    BACKENDS,
    backend_class,
    backend_kinds,
    close_all,
    close_backend,
    open_backend,
    register_backend,
)


@pytest.fixture(autouse=True)
def _nothing_open():
    yield
    close_all()


def test_the_four_kinds_are_there_and_fit_the_protocol():
    assert [kind for kind, _ in backend_kinds()][:4] == ["letta", "openai", "anthropic", "demo"]
    for kind in ("letta", "openai", "anthropic", "demo"):
        backend = backend_class(kind)(ServiceSpec("x", kind, "http://127.0.0.1:9"))
        assert isinstance(backend, Backend)
        assert backend.kind == kind
        assert backend.traits == BACKENDS[kind].traits
        backend.close()


def test_a_service_is_opened_once_until_it_changes():
    spec = ServiceSpec("x", "letta", "http://127.0.0.1:9", {"token": "first"})
    first = open_backend(spec)
    assert open_backend(ServiceSpec("x", "letta", "http://127.0.0.1:9", {"token": "first"})) is first
    changed = open_backend(ServiceSpec("x", "letta", "http://127.0.0.1:9", {"token": "second"}))
    assert changed is not first
    assert first.server._client.is_closed
    assert not changed.server._client.is_closed
    other = open_backend(ServiceSpec("y", "letta", "http://127.0.0.1:9", {"token": "second"}))
    assert other is not changed
    close_backend("letta", "x")
    assert changed.server._client.is_closed
    assert not other.server._client.is_closed


def test_an_unknown_kind_is_refused_with_the_known_ones():
    with pytest.raises(BackendRejected, match="known are letta"):
        open_backend(ServiceSpec("x", "carrier-pigeon", ""))


def test_a_third_party_adds_a_kind():
    try:
        register_backend("pigeon", "agents.backends.demo.DemoBackend", "Pigeons")
        register_backend("pigeon", "agents.backends.demo.DemoBackend", "Pigeons")
        assert ("pigeon", "Pigeons") in backend_kinds()
        assert open_backend(ServiceSpec("p", "pigeon", "")).health().ok
        with pytest.raises(ValueError, match="already registered"):
            register_backend("pigeon", "elsewhere.Pigeon", "Others")
        register_backend("ghost", "agents.backends.nowhere.Ghost", "Ghost")
        with pytest.raises(BackendRejected, match="cannot be loaded"):
            open_backend(ServiceSpec("g", "ghost", ""))
    finally:
        BACKENDS.pop("pigeon", None)
        BACKENDS.pop("ghost", None)
