"""Checks and repairs of mappings, rooms, sync and where data lies. Imported when the app is ready."""

from __future__ import annotations

from agents.doctor.mappings import (  # noqa: F401
    dedupe,
    faults,
    import_invalid,
    listing,
    lost,
    pace,
    proofs,
    relink,
    rooms_check,
    stale,
    storage,
    unshare,
)
from ops.doctor.targets import register_target

for _kind, _model in (
    ("agent", "agents.Agent"),
    ("account", "agents.Account"),
    ("room", "agents.Room"),
    ("mapping", "agents.Mapping"),
    ("syncrun", "agents.SyncRun"),
    ("mappingimport", "agents.MappingImport"),
):
    register_target(_kind, _model)
