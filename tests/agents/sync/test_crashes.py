"""Sync is killed between any two requests to the homeserver or writes to the database; the next pass makes it whole."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from agents.matrix.transport import Transport
from agents.models import Agent, SyncRun, SyncState
from agents.services import sync as sync_service
from tests.agents.sync.test_apply import assert_whole
from tests.support.stage import ALICE, BOB, Stage

pytestmark = pytest.mark.django_db

_WRITE = re.compile(r"\s*(INSERT|UPDATE|DELETE)", re.IGNORECASE)
_HOST, _PID, _START = sync_service.WORKER.rsplit(":", 2)
DEAD_WORKER = f"{_HOST}:{_PID}:{int(_START) - 1}"


class Killed(BaseException):
    """The process is gone: nothing catches this, nothing cleans up."""


class Killer:
    """Counts requests and writes, and kills before (or, for requests, right after) the given one."""

    def __init__(self, at: int = 0, after: bool = False) -> None:
        self.at, self.after, self.count = at, after, 0
        self.dead = False

    def _step(self) -> bool:
        if self.dead:
            raise Killed
        self.count += 1
        if self.count != self.at:
            return False
        self.dead = True
        if not self.after:
            raise Killed
        return True

    def __enter__(self) -> Killer:
        killer, send = self, Transport._send

        def counted(transport: Any, *arguments: Any, **named: Any) -> Any:
            last = killer._step()
            answer = send(transport, *arguments, **named)
            if last:
                raise Killed
            return answer

        def write(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            last = bool(_WRITE.match(sql)) and killer._step()
            result = execute(sql, params, many, context)
            if last:
                raise Killed
            return result

        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(Transport, "_send", counted)
        # A killed process does not get to note that it failed.
        self._patch.setattr(
            sync_service, "finish_run", lambda *arguments, **named: None if killer.dead else finish(*arguments, **named)
        )
        self._patch.setattr(sync_service, "WORKER", DEAD_WORKER)
        finish = _FINISH
        self._wrapper = connection.execute_wrapper(write)
        self._wrapper.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._wrapper.__exit__(*error)
        self._patch.undo()


_FINISH = sync_service.finish_run


def set_up(stage: Stage) -> None:
    stage.lists("scripts", "Ada", "Bea", description="Helps")


def everything_new(stage: Stage) -> None:
    """Nothing is there yet."""
    set_up(stage)


def renamed_archived_and_returned(stage: Stage) -> None:
    """One agent is renamed, one goes (at its second sight), one comes back, one is new, and one more person is invited."""
    stage.lists("scripts", "Old", "Gone", "Back")
    old, gone, back = stage.world.agents["scripts"]
    stage.sync()
    kind = type(old)
    # The identity map of the test: ids stay, names change.
    stage.world.agents["scripts"] = [kind(old.external_id, "Ada"), kind("id-bea", "Bea"), kind(back.external_id, "Cy")]
    past = timezone.now() - timedelta(hours=1)
    Agent.objects.filter(external_id=gone.external_id).update(state="missing", missed_passes=1, missing_since=past)
    Agent.objects.filter(external_id=back.external_id).update(state="archived", missed_passes=1, missing_since=past)


def steps_of(stage: Stage, prepare: Any) -> int:
    """How many requests and writes a pass has, counted on a world that is thrown away."""
    point = transaction.savepoint()
    prepare(stage)
    with Killer() as killer:
        stage.sync()
    transaction.savepoint_rollback(point)
    return killer.count


def check(stage: Stage, prepare: Any, people: tuple[str, ...]) -> None:
    if prepare is everything_new:
        return assert_whole(stage, "Ada", "Bea", people=people)
    fake = stage.fake
    assert dict(Agent.objects.values_list("name", "state")) == {
        "Ada": "active",
        "Bea": "active",
        "Cy": "active",
        "Gone": "archived",
    }
    assert len(fake.rooms) == 5
    children = next(
        fake.children(room.room_id)
        for room in fake.rooms.values()
        if "agent_space" in str(room.state.get(("m.room.canonical_alias", "")))
    )
    assert children == {stage.room(name).room_id for name in ("Ada", "Bea", "Cy")}
    for name in ("Ada", "Bea", "Cy"):
        room = fake.rooms[str(stage.room(name).room_id)]
        assert room.state[("m.room.name", "")]["content"] == {"name": name}
        assert fake.users[stage.mapping(name).account.user_id]["displayname"] == name
        assert all(room.membership(person) == "invite" for person in people)
    return None


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("prepare", [everything_new, renamed_archived_and_returned])
def test_killed_at_every_step_it_converges_in_one_pass(stage: Stage, settings: Any, prepare: Any, after: bool) -> None:
    people = (ALICE, BOB)
    settings.MATRIX_INVITE = list(people)
    stage.homeserver()
    stage.service()
    total = steps_of(stage, prepare)
    assert total > 25
    for at in range(1, total + 1):
        stage.fake.reset()
        stage.world.reset()
        point = transaction.savepoint()
        prepare(stage)
        with Killer(at, after) as killer:
            try:
                stage.sync()
            except Killed:
                # Outside of a test the write would stand or fall alone; the test's own transaction goes on.
                transaction.set_rollback(False)
        assert killer.dead
        report = stage.sync(wait=0)
        assert report.findings == [], at
        check(stage, prepare, people)
        assert stage.sync(wait=0).plan.steps == [], f"step {at} of {total}: one pass must be enough"
        assert not SyncRun.objects.filter(state=SyncState.RUNNING).exists()
        transaction.savepoint_rollback(point)
