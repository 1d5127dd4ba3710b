"""Letta's V1 REST server (``letta==0.16.8``; 0.11 and later work, with what they lack left out)."""

from agents.backends.letta.backend import LettaBackend

__all__ = ["LettaBackend"]
