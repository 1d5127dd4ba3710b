"""What the tests of the pages of restores and resets share: their steps, and the work of a worker."""

from __future__ import annotations

from typing import Any

from django.test import Client
from django.urls import reverse

from agents.models import Agent
from agents.services.agents import agent_pause
from chat.models import Person
from ops.models import Backup, Job, Restore, RestoreState
from ops.services.backups import backup_now
from ops.services.jobs import job_cancel, run_job


def page(client: Client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200, answer.get("Location", answer.status_code)
    return answer.content.decode()


def run_all() -> None:
    """What a worker does."""
    while job := Job.objects.filter(state="queued").order_by("created_at").first():
        run_job(job.pk)


def compare(client: Client, backup: Backup, **said: Any) -> tuple[Restore, str]:
    """The first two steps, and the work of the job."""
    answer = client.post(reverse("admin:ops_restore_start"), {"backup": str(backup.pk), "everything": "yes", **said})
    assert answer.status_code == 302, answer.content.decode()
    run_all()
    row = Restore.objects.latest("created_at")
    return row, reverse("admin:ops_restore_change", args=[row.pk])


def signed_in_again(client: Client) -> None:
    client.force_login(Person.objects.get(username="ada"))


def applied(house: Client) -> tuple[Restore, str]:
    """A restore that is done, and its page."""
    backup = backup_now(actor="person:ada")
    agent_pause(agent=Agent.objects.get(), actor="person:ada")
    row, address = compare(house, backup)
    house.post(reverse("admin:ops_restore_deed", args=[row.pk, "apply"]), {"typed": "restore"})
    run_all()
    signed_in_again(house)
    row.refresh_from_db()
    assert row.state == RestoreState.DONE, row.error
    return row, address


def cancelled_after(monkeypatch: Any, function: str) -> None:
    """Somebody cancels the job that runs right after this function has done its work."""
    from importlib import import_module

    module, _, name = function.rpartition(".")
    work = getattr(import_module(module), name)

    def and_cancel(*given: Any, **more: Any) -> Any:
        done = work(*given, **more)
        job_cancel(job=Job.objects.get(state="running"), actor="person:ada")
        return done

    monkeypatch.setattr(function, and_cancel)
    # Every question is asked of the database, also one that comes soon after another.
    monkeypatch.setattr("ops.job_kinds._PROGRESS_SECONDS", 0.0)
