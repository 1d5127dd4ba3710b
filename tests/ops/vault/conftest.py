"""A data directory of each test's own, and a server that speaks like S3."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ops import disk_guard
from tests.peers.s3 import S3


@pytest.fixture
def data(settings, tmp_path: Path, transactional_db) -> Path:
    settings.DATA_DIR = tmp_path / "data"
    settings.DATA_DIR.mkdir()
    disk_guard.forget()
    return settings.DATA_DIR


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with S3() as server:
        yield server
