"""How often passes that come by themselves compare mappings with the homeserver."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from agents.models import SyncRun
from agents.services.backends import open_homeserver
from agents.services.drift import EACH_TAKES, ROUND_EVERY, look_now
from tests.support.stage import Stage

pytestmark = pytest.mark.django_db


def test_the_more_there_is_to_read_the_longer_a_pass_waits(house: Stage) -> None:
    house.lists("scripts", "Ada", "Bea", "Cy")
    house.sync()
    house.sync()
    homeserver = open_homeserver()
    run = SyncRun.objects.exclude(looked={}).latest("pk")
    assert run.looked["turned"] == 3
    assert not looked(homeserver).in_turn, "the last round was a moment ago"
    assert look_now(homeserver).in_turn, "whoever asks gets an answer"
    ago(run, ROUND_EVERY + timedelta(seconds=1))
    assert looked(homeserver).in_turn
    # As if two hundred had been read then.
    run.looked["turned"] = 200
    ago(run, 200 * EACH_TAKES - timedelta(seconds=5))
    assert not looked(homeserver).in_turn
    ago(run, 200 * EACH_TAKES + timedelta(seconds=1))
    assert looked(homeserver).in_turn


def looked(homeserver: Any) -> Any:
    return look_now(homeserver, by_itself=True)


def ago(run: SyncRun, time: timedelta) -> None:
    moment: datetime = timezone.now() - time
    SyncRun.objects.filter(pk=run.pk).update(looked={**run.looked, "turned_at": moment.isoformat()})
