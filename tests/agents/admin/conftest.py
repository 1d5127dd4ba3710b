"""The small world of the admin's tests, for the pages about mappings."""

from __future__ import annotations

from tests.admin.conftest import client, world  # noqa: F401  (fixtures)
