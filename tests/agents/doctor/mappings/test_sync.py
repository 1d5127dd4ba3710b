"""Sync that is cut short, too slow or too frequent, agents that are gone, and a folder that is not kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from agents import tasks
from agents.backends import registry
from agents.backends.base import AgentInfo
from agents.doctor.mappings import storage
from agents.doctor.mappings.pace import percentile_95
from agents.doctor.mappings.storage import mount_of
from agents.models import Agent, AgentState, Mapping, SyncRun, SyncState
from agents.services import sync_pace
from agents.services.mappings import rows_kept
from agents.services.storage_marks import MARK, mark_read, mark_write
from agents.services.sync import sync_agents
from agents.services.sync_pace import sync_due, sync_interval, sync_interval_set
from ops import live
from ops.doctor.guides import guide_for
from ops.doctor.repairs import RepairRefused
from ops.models import LiveSetting, Service
from ops.runner import run_checks
from ops.services.repairs import repair_plan
from tests.agents.doctor.mappings.conftest import green, heal, mend, red, undone, walk
from tests.support.scripted_backend import WORLD

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def world(settings: Any) -> Iterator[None]:
    settings.MATRIX_INVITE, settings.DISABLED_AGENT_IDS, settings.MATRIX_HOMESERVER_URL = [], [], ""
    WORLD.reset()
    registry.close_all()
    live.forget()
    yield
    live.forget()
    WORLD.reset()
    registry.close_all()


def lists(*names: str) -> None:
    WORLD.agents["scripts"] = [AgentInfo(f"id-{name}", name) for name in names]


class TestStale:
    def test_break_red_plan_archive_green_undo_to_the_byte(self) -> None:
        Service.objects.create(name="scripts", kind="scripted")
        lists("Ada", "Bea")
        sync_agents(actor="test")
        before = rows_kept(Agent.objects.order_by("pk"), Mapping.objects.order_by("pk"))
        memory, run = walk("mapping.stale")
        assert Agent.objects.filter(state=AgentState.ARCHIVED).count() == len(memory["agents"])
        assert Agent.objects.filter(state=AgentState.ACTIVE).count() == 2
        kept = rows_kept(Agent.objects.filter(pk__in=memory["agents"]).order_by("pk"))
        undone(run)
        red("mapping.stale")
        assert rows_kept(Agent.objects.filter(pk__in=memory["agents"]).order_by("pk")) != kept
        heal("mapping.stale", memory)
        assert rows_kept(Agent.objects.order_by("pk"), Mapping.objects.order_by("pk")) == before

    def test_one_list_is_not_enough_and_neither_is_one_that_failed(self) -> None:
        Service.objects.create(name="scripts", kind="scripted")
        lists(*"ABCDEF")
        sync_agents(actor="test")
        lists("A")
        sync_agents(actor="test")
        green("mapping.stale")
        WORLD.complete["scripts"] = False
        sync_agents(actor="test")
        green("mapping.stale")
        WORLD.complete.clear()
        sync_agents(actor="test")
        sync_agents(actor="test")
        assert len(red("mapping.stale").affected) == 5

    def test_it_archives_only_on_a_complete_list_and_only_what_is_not_in_it(self) -> None:
        Service.objects.create(name="scripts", kind="scripted")
        lists(*"ABCDEF")
        sync_agents(actor="test")
        lists("A")
        sync_agents(actor="test")
        sync_agents(actor="test")
        red("mapping.stale")
        lists("A", "B", "C")
        planned = repair_plan(repair_id="mapping.prune", actor="test")
        assert {change.target for change in planned.plan.changes} == {
            f"agent:{agent.pk}" for agent in Agent.objects.filter(name__in="DEF")
        }
        assert "2 are in the list again" in planned.plan.sentence
        WORLD.complete["scripts"] = False
        with pytest.raises(RepairRefused, match="not complete"):
            repair_plan(repair_id="mapping.prune", actor="test")
        assert not Agent.objects.filter(state=AgentState.ARCHIVED).exists()

    def test_the_stop_turns_one_check_red(self) -> None:
        Service.objects.create(name="scripts", kind="scripted")
        lists(*"ABCDEF")
        sync_agents(actor="test")
        lists("A")
        sync_agents(actor="test")
        sync_agents(actor="test")
        runs = {run.check.id: str(run.status) for run in run_checks(["mapping.stale", "mapping.lost", "sync.recent"])}
        assert (runs["mapping.stale"], runs["mapping.lost"], runs["sync.recent"]) == ("warn", "pass", "pass")


class TestTruncated:
    @pytest.fixture
    def letta(self, letta_stub: Any) -> Any:
        letta_stub.reset(51)
        Service.objects.create(name="letta", kind="letta", base_url=letta_stub.url)
        sync_agents(actor="test")
        return letta_stub

    def test_break_red_plan_sync_green(self, letta: Any) -> None:
        memory, run = walk("letta.list_truncated", "letta")
        assert run.receipt["run"] > memory["run"]
        assert Agent.objects.filter(state=AgentState.ACTIVE).count() == 51
        heal("letta.list_truncated", memory)

    @pytest.mark.parametrize("count", [51, 101, 201])
    def test_lists_of_every_length_are_read_to_the_end(self, letta: Any, count: int) -> None:
        letta.reset(count)
        assert sync_agents(actor="test", force=True).state == SyncState.DONE
        assert Agent.objects.filter(state=AgentState.ACTIVE, external_id__in=letta.agent_ids()).count() == count
        assert f"{count} agents" in green("letta.list_truncated", "letta").sentence

    def test_a_list_that_stays_cut_is_no_matter_for_another_pass(self, letta: Any) -> None:
        letta.control(half_list=True)
        sync_agents(actor="test")
        found = red("letta.list_truncated", "letta")
        assert "51" in found.evidence["proof"]
        with pytest.raises(RepairRefused, match="still cut off"):
            mend("sync.run", "service:letta")
        assert not Agent.objects.exclude(state=AgentState.ACTIVE).exists(), "nothing is archived on it"
        letta.control(half_list=False)
        assert mend("sync.run", "service:letta").state == "succeeded"
        green("letta.list_truncated", "letta")


class TestPace:
    def test_too_frequent_break_red_plan_set_green_undo(self) -> None:
        memory, run = walk("sync.too_frequent")
        assert sync_interval() == 60
        undone(run)
        assert sync_interval() == 5
        red("sync.too_frequent")
        heal("sync.too_frequent", memory)
        assert not LiveSetting.objects.exists()

    def test_below_the_floor_only_when_allowed(self) -> None:
        with pytest.raises(ValidationError, match="webhook"):
            sync_interval_set(seconds=5, actor="test")
        with pytest.raises(RepairRefused, match="below the floor"):
            repair_plan(repair_id="sync.set_interval", params={"seconds": 5}, actor="test")
        assert mend("sync.set_interval", seconds=5, below_floor=True).state == "succeeded"
        green("sync.too_frequent")
        assert (sync_interval(), sync_pace.below_floor_allowed()) == (5, True)

    def test_too_many_passes_break_the_budget_whoever_asks_for_them(self) -> None:
        SyncRun.objects.bulk_create([SyncRun(state=SyncState.DONE, trigger="api") for _ in range(100)])
        assert red("sync.too_frequent").evidence["runs"] == 100
        assert mend("sync.set_interval", seconds=120).state == "succeeded"
        green("sync.too_frequent")

    def test_beat_obeys_the_interval_that_counts_now(self, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        settings.SYNC_INTERVAL = 3600
        monkeypatch.setattr(sync_pace, "_started", timezone.now())
        tasks.sync_when_due()
        assert not SyncRun.objects.exists(), "the first pass is not beat's before an interval is over"
        sync_agents(actor="test")
        SyncRun.objects.update(started_at=timezone.now() - timedelta(seconds=120))
        assert not sync_due()
        sync_interval_set(seconds=60, actor="test")
        tasks.sync_when_due()
        assert SyncRun.objects.order_by("-pk").first().trigger == "beat"  # type: ignore[union-attr]
        assert not sync_due()

    def test_failed_passes_come_less_often(self, settings: Any) -> None:
        settings.SYNC_INTERVAL = 60
        ago = timezone.now() - timedelta(seconds=100)
        for number in range(1, 5):
            SyncRun.objects.create(state=SyncState.FAILED)
            SyncRun.objects.update(started_at=ago)
            waits = (sync_pace.next_sync_at() - ago).total_seconds()
            assert waits == pytest.approx(60 * min(2**number, 8), rel=0.11)

    def test_slow_break_red_plan_sync_green(self) -> None:
        Service.objects.create(name="scripts", kind="scripted")
        lists("Ada")
        sync_agents(actor="test")
        memory, _ = walk("sync.slow")
        assert SyncRun.objects.filter(trigger="repair").count() == 1
        heal("sync.slow", memory)

    def test_a_first_pass_that_makes_many_rooms_is_not_slow(self) -> None:
        run = SyncRun.objects.create(state=SyncState.DONE, counts={"room.create": 500}, finished_at=timezone.now())
        SyncRun.objects.filter(pk=run.pk).update(started_at=timezone.now() - timedelta(minutes=9))
        assert green("sync.slow").status == "skip"
        assert [percentile_95([]), percentile_95([3.0]), percentile_95([float(n) for n in range(1, 21)])] == [0, 3, 19]


class TestStorage:
    @pytest.fixture
    def folder(self, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        settings.DATA_DIR = tmp_path
        monkeypatch.setattr(storage, "folders", lambda: [tmp_path])
        monkeypatch.setattr("agents.doctor.mappings.faults.folders", lambda: [tmp_path])
        monkeypatch.setattr(storage, "FLEETING", frozenset({"overlay"}))
        return tmp_path

    def test_break_red_guide_green(self, folder: Path) -> None:
        from agents.doctor.mappings import faults

        green("storage.volume_ephemeral")
        memory = json.loads(json.dumps(faults.lose_the_mark()))
        found = red("storage.volume_ephemeral")
        assert "vanished" in found.evidence["places"][0]["problem"]
        red("storage.volume_ephemeral")
        guide = guide_for("storage.volume_ephemeral")
        assert guide is not None
        assert f":{folder}" in next(step.snippet for step in guide.steps if step.language == "yaml")
        assert "vanished" in guide.why
        heal("storage.volume_ephemeral", memory)
        green("storage.volume_ephemeral")

    def test_a_mark_that_survived_a_restart_proves_the_folder(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        green("storage.volume_ephemeral")
        (folder / MARK).unlink()
        red("storage.volume_ephemeral")
        assert mark_read(folder).lost_before  # type: ignore[union-attr]
        monkeypatch.setattr(storage, "started_at", lambda: timezone.now() + timedelta(seconds=1))
        green("storage.volume_ephemeral")
        assert not mark_read(folder).lost_before  # type: ignore[union-attr]

    def test_two_that_put_the_first_mark_at_once_take_each_other_for_no_loss(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = storage.mark_remembered

        def meanwhile(path: Path) -> dict[str, Any] | None:
            # Another process has looked as well, and is done before we ask what is remembered.
            mark_write(folder=path, lost_before=False, actor="system")
            return real(path)

        monkeypatch.setattr(storage, "mark_remembered", meanwhile)
        green("storage.volume_ephemeral")
        assert not mark_read(folder).lost_before  # type: ignore[union-attr]

    def test_what_is_not_kept_by_its_kind_or_cannot_be_written(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(storage, "mount_of", lambda path: ("/", "overlay"))
        assert "overlay" in red("storage.volume_ephemeral").sentence
        monkeypatch.setattr(storage, "folders", lambda: [folder / "gone"])
        assert "cannot be read" in red("storage.volume_ephemeral").sentence

    def test_another_machine_with_the_same_database_is_no_loss(
        self, folder: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings.EMBEDDED = False
        monkeypatch.setattr("socket.gethostname", lambda: "another")
        mark_write(folder=folder, lost_before=False, actor="test")
        (folder / MARK).unlink()
        monkeypatch.setattr("socket.gethostname", lambda: "this-one")
        green("storage.volume_ephemeral")

    def test_the_deepest_mount_counts(self) -> None:
        table = (
            "22 1 0:20 / / rw,relatime - overlay overlay rw\n"
            "30 22 8:1 / /srv/data\\040dir rw shared:1 - ext4 /dev/sda1 rw\n"
            "31 22 0:9 / /srv rw - tmpfs tmpfs rw\nbroken line\n"
        )
        assert mount_of(Path("/srv/data dir/var"), table) == ("/srv/data dir", "ext4")
        assert mount_of(Path("/srv/other"), table) == ("/srv", "tmpfs")
        assert mount_of(Path("/home"), table) == ("/", "overlay")
        assert mount_of(Path("/home"), "") == ("", "")
