"""The stage for these tests."""

from __future__ import annotations

from tests.support.stage import _fake_homeserver, stage

__all__ = ["_fake_homeserver", "stage"]
