"""What is not started yet when a backup is restored is no failure: the report says so calmly, and the step is done when it runs."""

from __future__ import annotations

import socket

import pytest
from django.utils import timezone

from agents.restoring.waiting import unless_started
from ops.admin.restore_plan import report_lines
from ops.backup import hooks
from ops.models import Restore, RestoreState, Service
from ops.services.reconciling import reconcile, reconcile_what_waits

pytestmark = pytest.mark.django_db


def quiet(done: int, total: int, text: str) -> None:
    """Nobody watches."""


def test_a_step_that_has_to_wait_is_done_later_and_only_that_one(monkeypatch: pytest.MonkeyPatch) -> None:
    started, calls = [False], []

    def rooms(work: hooks.Reconcile) -> dict[str, str]:
        calls.append("rooms")
        if not started[0]:
            raise hooks.NotYet("The local homeserver is not started yet.")
        return {"sentence": "Two rooms were found."}

    def histories(work: hooks.Reconcile) -> dict[str, str]:
        calls.append("histories")
        return {"sentence": "Noted."}

    monkeypatch.setattr(hooks, "_reconciles", {"Rooms": rooms, "Histories": histories})
    row = Restore.objects.create(
        source="file", actor="command", state=RestoreState.RECONCILING, applied_at=timezone.now()
    )
    reconcile(row, actor="command", progress=quiet)
    assert (row.state, row.findings) == (RestoreState.DONE, [])
    marks = {title: (mark, said) for mark, title, said in report_lines(row.report)}
    assert marks["Rooms"] == ("off", ["The local homeserver is not started yet."])
    assert marks["Histories"][0] == "good"

    started[0] = True
    again = reconcile_what_waits(actor="system", progress=quiet)
    assert again == row
    row.refresh_from_db()
    assert row.report["outside.Rooms"]["sentence"] == "Two rooms were found."
    assert calls == ["rooms", "histories", "rooms"]
    assert reconcile_what_waits(actor="system", progress=quiet) is None


def test_only_a_local_homeserver_that_does_not_listen_is_waited_for() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        row = Service.objects.create(name="homeserver", kind="homeserver", base_url=address, options={"local": True})
        with pytest.raises(hooks.NotYet, match=r"not started yet.*; rooms are read then"):
            unless_started("rooms are read then.")
        Service.objects.filter(pk=row.pk).update(options={})
        unless_started("one elsewhere that does not answer is trouble.")
        Service.objects.filter(pk=row.pk).update(options={"local": True})
        listening.listen()
        unless_started("it answers.")
