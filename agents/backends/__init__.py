"""Adapters to the servers on which agents live. Open one with ``registry.open_backend``."""
