"""How sockets ended, over all processes."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from chat.models import SocketClose
from chat.socket import statistics

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _empty() -> None:
    statistics._counted.clear()


def test_closes_and_lifetimes_are_added_up() -> None:
    for code, seconds in ((1006, 60.2), (1006, 60.9), (4401, 0.1), (1000, 4000), (1000, 400)):
        statistics.note(code, seconds)
    assert statistics.write() == 5
    statistics.note(1006, 59.5)
    found = statistics.snapshot()
    assert found.closes == {1000: 2, 1006: 3, 4401: 1}
    assert found.lifetimes[1006] == {59: 1, 60: 2}
    assert found.lifetimes[1000] == {360: 1, 3600: 1}
    assert found.total == 6
    # Another minute, or another process, adds to the same rows.
    statistics.note(1006, 60.0)
    assert statistics.write() == 2
    assert statistics.write() == 0
    assert SocketClose.objects.get(code=1006, seconds=60).count == 3


def test_what_cannot_be_written_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    statistics.note(1006, 1)

    def broken(**_: object) -> object:
        raise RuntimeError("no database")

    with monkeypatch.context() as patch:
        patch.setattr(SocketClose.objects, "get_or_create", broken)
        with pytest.raises(RuntimeError):
            statistics.write()
    assert statistics.write() == 1


def test_old_rows_are_forgotten() -> None:
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    for days in (0, 3, 20):
        SocketClose.objects.create(hour=hour - timedelta(days=days), code=1006, seconds=1, count=1)
    assert statistics.snapshot(24).closes == {1006: 1}
    assert statistics.prune() == 1
