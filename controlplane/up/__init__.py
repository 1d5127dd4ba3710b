"""Embedded mode: everything in one process (and a local Synapse beside it), started by ``manage.py up``."""
