"""Logs, debugging and support: entries 86 to 92 of the catalogue, each as a check, its repairs and its fault."""

from __future__ import annotations

from ops.doctor_logs import checks, debug_checks, faults, repairs, signature_repairs  # noqa: F401
