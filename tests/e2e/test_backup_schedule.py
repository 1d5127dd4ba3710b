"""Nobody does anything: an installation that was switched off for days makes up for one backup at its start, and proves it by a drill."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.peers.switchboard import Stack
from tests.support.prepared import database_with_tables
from tests.up.running import Up

pytestmark = pytest.mark.e2e

_OFF_FOR_DAYS = (
    "from datetime import timedelta\nfrom django.utils import timezone\nfrom ops.models.backup import BackupPlan\n"
    "BackupPlan.objects.update_or_create(pk=1, defaults={'next_at': timezone.now() - timedelta(days=5)})\nresult=timezone.now().isoformat()"
)
_WHAT_THERE_IS = (
    "from ops.models.backup import Backup, BackupPlan\nfrom ops.models import Job\nplan=BackupPlan.objects.get()\n"
    "result={'backups': [[b.reason, b.state, bool(b.verified_at), bool(b.good_at), b.error, b.verify_error] for b in Backup.objects.all()],"
    " 'jobs': [[j.kind, j.state, j.error] for j in Job.objects.filter(kind__startswith='backup.')], 'next_at': plan.next_at.isoformat()}"
)


@pytest.fixture(params=["embedded", "scaled"])
def ask(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """``ask(code)`` of an installation that runs, and that was off for five days before."""
    if request.param == "embedded":
        up = Up(tmp_path, "--no-homeserver", DEMO_AGENTS="true")
        up.ask(_OFF_FOR_DAYS)
        try:
            up.start()
            yield up.ask
        finally:
            up.stop()
        return
    postgres, redis = request.getfixturevalue("postgres"), request.getfixturevalue("redis_server")
    with redis.client() as client:
        client.flushall()
    stack = Stack(
        database_url=database_with_tables(postgres, "backup_schedule"),
        redis_url=redis.url,
        settings={"DEMO_AGENTS": "true", "MATRIX_SERVER_NAME": ""},
    )
    try:
        stack.ask(_OFF_FOR_DAYS)
        stack.start()
        yield stack.ask
    finally:
        stack.stop()
        postgres.drop_database("backup_schedule")


def test_a_missed_run_is_made_up_for_and_drilled(ask: Callable[[str], Any]) -> None:
    until = time.monotonic() + 400
    found: dict[str, Any] = {}
    while time.monotonic() < until:
        found = ask(_WHAT_THERE_IS)
        if any(good for _, _, _, good, _, _ in found["backups"]):
            break
        time.sleep(3)
    assert found["backups"] == [["schedule", "complete", True, True, "", ""]], found
    assert {kind for kind, state, _ in found["jobs"] if state == "succeeded"} >= {"backup.create", "backup.drill"}
    assert sum(kind == "backup.create" for kind, _, _ in found["jobs"]) == 1, "five days are made up for once"
    next_at = datetime.fromisoformat(found["next_at"])
    assert next_at - datetime.now(next_at.tzinfo) > timedelta(hours=23)
