from __future__ import annotations

import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest
from django.db import connections
from django.utils import timezone
from structlog.testing import capture_logs

from ops import quiet
from ops.leases import WORKER, holder_is_dead, holder_lives_here
from ops.locks import HeldLock, LockHeld, LockLost, named_lock
from ops.models import NamedLock


@pytest.mark.django_db(transaction=True)
def test_one_holder_at_a_time():
    with named_lock("sync") as lock:
        assert lock.fence == 1
        with pytest.raises(LockHeld, match="'sync' is held by"), named_lock("sync"):
            pass
        with named_lock("other"):
            pass
    with named_lock("sync") as lock:
        assert lock.fence == 2


@pytest.mark.django_db(transaction=True)
def test_it_is_free_again_after_an_error():
    with pytest.raises(ZeroDivisionError), named_lock("sync"):
        _ = 1 / 0
    with named_lock("sync") as lock:
        lock.check()


@pytest.mark.django_db(transaction=True)
def test_waiting_gets_it_as_soon_as_it_is_free():
    taken, freed = threading.Event(), []

    def hold():
        with named_lock("sync"):
            taken.set()
            time.sleep(0.2)
            freed.append(time.monotonic())
        connections.close_all()

    holder = threading.Thread(target=hold)
    holder.start()
    assert taken.wait(60)
    with named_lock("sync", wait=60):
        assert freed
        assert time.monotonic() - freed[0] < 30, "it would have got it at the end of its patience"
    holder.join()


@pytest.mark.django_db(transaction=True)
def test_of_many_who_want_it_exactly_one_is_inside():
    inside, worst, entered = [0], [0], [0]
    guard = threading.Lock()
    errors = []

    def work():
        try:
            with named_lock("sync", wait=20):
                with guard:
                    inside[0] += 1
                    worst[0] = max(worst[0], inside[0])
                    entered[0] += 1
                time.sleep(0.01)
                with guard:
                    inside[0] -= 1
        except Exception as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(5)]
    [thread.start() for thread in threads]
    [thread.join(60) for thread in threads]
    assert errors == []
    assert (worst[0], entered[0]) == (1, 5)
    assert NamedLock.objects.get().fence == 5


@pytest.mark.django_db(transaction=True)
def test_an_expired_lock_is_taken_over_and_the_old_holder_notices():
    with named_lock("sync", ttl=60) as old:
        NamedLock.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
        with named_lock("sync") as new:
            assert new.fence == old.fence + 1
            assert old.renew() is False
            with pytest.raises(LockLost):
                old.check()
        # The old holder's release must not free what is not its own.
        NamedLock.objects.update(expires_at=timezone.now() + timedelta(seconds=60))
    assert NamedLock.objects.get().expires_at > timezone.now()


@pytest.mark.django_db(transaction=True)
def test_a_lock_of_a_killed_process_on_this_host_is_free_at_once():
    host_and_pid = WORKER.rsplit(":", 1)[0]
    NamedLock.objects.create(
        name="sync", holder=f"{host_and_pid}:1/abc", fence=8, expires_at=timezone.now() + timedelta(hours=1)
    )
    with named_lock("sync") as lock:
        assert lock.fence == 9


@pytest.mark.django_db(transaction=True)
def test_it_is_renewed_while_it_is_held():
    with named_lock("sync", ttl=3) as lock:
        first = NamedLock.objects.get().expires_at
        until = time.monotonic() + 60
        while NamedLock.objects.get().expires_at == first:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert lock.lost is False
        with pytest.raises(LockHeld), named_lock("sync"):
            pass


@pytest.mark.django_db(transaction=True)
def test_a_row_that_goes_at_the_end_was_not_taken_over(monkeypatch):
    """Whoever holds everything still removes the row. The thread that renews may wait for the database at that moment."""
    monkeypatch.setattr(quiet, "_TTL", 0.3)
    monkeypatch.setattr(quiet, "CACHE_SECONDS", 0.0)
    monkeypatch.setattr(quiet, "_drain", lambda: None)
    remove = quiet._remove

    def slowly(name: str) -> None:
        remove(name)
        time.sleep(1.0)

    monkeypatch.setattr(quiet, "_remove", slowly)
    renewed, renew = threading.Event(), HeldLock.renew
    monkeypatch.setattr(HeldLock, "renew", lambda lock: (renewed.set(), renew(lock))[1])
    with capture_logs() as logs, quiet.quiet("A test is being made"):
        assert renewed.wait(60)
    assert [line["event"] for line in logs if "lock" in line["event"]] == []
    assert not NamedLock.objects.filter(name__startswith=quiet.PREFIX).exists()


@pytest.mark.django_db(transaction=True)
def test_one_that_was_taken_over_says_so(monkeypatch):
    with capture_logs() as logs, named_lock("sync", ttl=0.6) as lock:
        NamedLock.objects.update(fence=99)
        until = time.monotonic() + 60
        while not lock.lost:
            assert time.monotonic() < until
            time.sleep(0.02)
        while not logs:
            assert time.monotonic() < until
            time.sleep(0.02)
    assert [(line["event"], line["lock"]) for line in logs] == [("lock_lost", "sync")]


def test_a_process_that_ended_and_whose_parent_did_not_ask_is_gone():
    """As those are that Switchboard started itself, or that run below a shell in a container."""
    code = "from ops.leases import WORKER; print(WORKER, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", PREPARED + code], stdin=-1, stdout=-1, text=True) as process:
        name = process.stdout.readline().strip()
        assert (holder_is_dead(name), holder_lives_here(name)) == (False, True)
        process.kill()
        until = time.monotonic() + 30
        while not holder_is_dead(name):
            assert time.monotonic() < until, "it is held for living"
            time.sleep(0.02)
        assert process.returncode is None, "nobody asked how it ended"
        assert not holder_lives_here(name)


PREPARED = """
import os, django
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
django.setup()
"""
