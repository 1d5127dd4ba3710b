from __future__ import annotations

import pytest

from ops import live, redaction
from ops.logbook import tap


@pytest.fixture(autouse=True)
def fresh_settings():
    """Live settings are read anew in each test, and nobody listens to calls afterwards."""
    live.forget()
    secrets = redaction._secrets
    yield
    live.forget()
    tap.listen(None)
    redaction._secrets = secrets


@pytest.fixture
def data_dir(settings, tmp_path):
    settings.DATA_DIR = tmp_path
    return tmp_path
