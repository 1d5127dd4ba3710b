"""What the tests of the format share: a data directory of its own, no files beside the rows, and backups in memory."""

from __future__ import annotations

import io

import pytest

from ops.backup import age, components
from ops.backup.write import write_backup


@pytest.fixture
def house(transactional_db, tmp_path, settings):
    settings.DATA_DIR = tmp_path / "data"
    settings.DATA_DIR.mkdir()
    return settings.DATA_DIR


@pytest.fixture
def make_backup():
    """``make_backup(...)`` returns (stream, manifest) of a backup that the machine key opens."""

    def make(**more):
        target = more.pop("target", None) or io.BytesIO()
        manifest = write_backup(
            target=target,
            **{
                "made_by": {"id": "one", "installation": "test", "version": "0"},
                "recipients": age.recipients_of([age.machine_identity()]),
                "include": (),
                **more,
            },
        )
        target.seek(0)
        return target, manifest

    return make


@pytest.fixture
def lots(monkeypatch):
    """``lots(component, ...)``: these are all components."""

    def use(*given):
        monkeypatch.setattr(components, "_components", {one.name: one for one in given})
        return [one.name for one in given]

    return use
