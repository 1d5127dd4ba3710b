"""What needs what to start, in one place."""

from __future__ import annotations

from graphlib import TopologicalSorter

from django.conf import settings

# A node and what has to be ready before it.
_SCALED: dict[str, tuple[str, ...]] = {
    "database": (),
    "broker": (),
    "web": ("database", "broker"),
    "worker": ("database", "broker"),
    "beat": ("broker", "worker"),
}
_EMBEDDED: dict[str, tuple[str, ...]] = {"database": (), "up": ("database",)}
# The checks that tell whether a node which is no process of ours is ready.
CHECKS = {"database": "db.reachable", "broker": "broker.reachable"}


def graph() -> dict[str, tuple[str, ...]]:
    """``{node: nodes that it needs}``: our roles, and what they stand on."""
    return dict(_EMBEDDED if settings.EMBEDDED else _SCALED)


def start_order() -> list[str]:
    """All nodes, each after what it needs. Raises ``graphlib.CycleError`` for a circle."""
    return list(TopologicalSorter(graph()).static_order())
