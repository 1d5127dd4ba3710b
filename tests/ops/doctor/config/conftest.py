"""A settings file of the test's own."""

from __future__ import annotations

import pytest


@pytest.fixture
def env_path(settings, tmp_path):
    settings.ENV_FILE = tmp_path / "settings.env"
    return settings.ENV_FILE
