"""Agents that live in this process: they need no network and no key, and show what Switchboard does with an agent."""

from agents.backends.demo.backend import DemoBackend

__all__ = ["DemoBackend"]
