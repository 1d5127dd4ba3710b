"""Which epoch of intake a homeserver is in, as the app above says: a room made in it has nothing to catch up on."""

from __future__ import annotations

from collections.abc import Callable

from ops.models import Service

EpochSource = Callable[[Service], int]
_epoch_sources: list[EpochSource] = []


def register_epoch_source(source: EpochSource) -> None:
    """Let the app above that takes events in say which epoch a homeserver is in."""
    if source not in _epoch_sources:
        _epoch_sources.append(source)


def current_epoch(homeserver: Service) -> int:
    """The epoch that the homeserver is in."""
    return max((source(homeserver) for source in _epoch_sources), default=0)
