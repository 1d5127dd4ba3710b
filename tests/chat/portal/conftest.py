"""Agents and people as in the tests of the API."""

from __future__ import annotations

from tests.api.conftest import ada, demo, homeserver, make_agent, operator

__all__ = ["ada", "demo", "homeserver", "make_agent", "operator"]
