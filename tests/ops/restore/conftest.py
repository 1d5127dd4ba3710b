"""What the tests of restores share: an installation with rows of every model, in a data directory of its own, and backups of it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from ops.backup import age
from ops.backup.write import write_backup


@pytest.fixture
def house(transactional_db, tmp_path, settings, monkeypatch):
    """A data directory of its own; nobody has to be waited for, and nothing but rows is put back."""
    settings.DATA_DIR = tmp_path / "data"
    settings.DATA_DIR.mkdir()
    monkeypatch.setattr("ops.quiet.CACHE_SECONDS", 0.0)
    monkeypatch.setattr("ops.backup.hooks._before", {})
    monkeypatch.setattr("ops.backup.hooks._fences", {})
    monkeypatch.setattr("ops.backup.hooks._reconciles", {})
    return settings.DATA_DIR


@pytest.fixture
def backup_of(tmp_path):
    """``backup_of("name")`` writes a backup of the present rows and returns its path."""

    def make(name: str = "backup", **more) -> Path:
        path = tmp_path / f"{name}.sbk"
        target = io.BytesIO()
        write_backup(
            target=target,
            made_by={"id": name, "installation": "test", "version": "0"},
            recipients=age.recipients_of([age.machine_identity()]),
            **more,
        )
        path.write_bytes(target.getvalue())
        return path

    return make
