"""People whose programs sign in."""

from __future__ import annotations

from typing import Any

import pytest

from chat.models import Person

PASSWORD = "xk-29-dune-walker"


@pytest.fixture
def ada(db: Any) -> Person:
    return Person.objects.create_user("ada", email="ada@example.org", password=PASSWORD, display_name="Ada L.")


@pytest.fixture
def bob(db: Any) -> Person:
    return Person.objects.create_user("bob", email="bob@example.org", password=PASSWORD)
