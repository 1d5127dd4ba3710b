"""Rooms that are made a second time: what was said in the former one is told in the new one by the app above that keeps it."""

from __future__ import annotations

from collections.abc import Callable

from agents.matrix.errors import MatrixError
from agents.models import Mapping
from agents.services.backends import Homeserver
from ops.logs import get_logger

log = get_logger(__name__)

HistoryWriter = Callable[[Homeserver, Mapping], None]
_writers: list[HistoryWriter] = []


def register_history_writer(writer: HistoryWriter) -> None:
    """Let the app above tell in a new room what was said last in the one before."""
    if writer not in _writers:
        _writers.append(writer)


def tell_history(homeserver: Homeserver, mapping: Mapping) -> None:
    """To be called when a room was made just now. Does nothing for a first room, and never fails: the room is there either way."""
    room = mapping.room
    if room is None or not room.room_id or not room.predecessors:
        return
    for writer in _writers:
        try:
            writer(homeserver, mapping)
        except MatrixError as error:
            log.warning("room.history_not_told", room=room.room_id, error=error.sentence[:300])
