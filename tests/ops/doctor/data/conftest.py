"""What the tests of kept data share."""

from __future__ import annotations

import pytest

from ops.models import CheckState
from ops.runner import run_checks


@pytest.fixture
def check(transactional_db):
    """``check("db.corrupt")`` asks it now; its state is stored."""

    def ask(id, target=""):
        found = [run for run in run_checks([id]) if run.check.id == id and run.target == target]
        assert found, CheckState.objects.all()
        return found[0]

    return ask
