"""A settings file of the test's own."""

from __future__ import annotations

import os

import pytest

from controlplane.options import OPTIONS


@pytest.fixture
def env_path(settings, tmp_path, monkeypatch):
    known = {name for option in OPTIONS for name in (option.name, *option.aliases)}
    # What the tests themselves are told through the environment is no setting of Switchboard.
    for name in [name for name in os.environ if name.startswith("SWITCHBOARD_") and name not in known]:
        monkeypatch.delenv(name)
    settings.ENV_FILE = tmp_path / "settings.env"
    return settings.ENV_FILE
