"""The checks of settings and their repairs: broken for real, red with the right evidence, mended, undone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from datetime import timedelta

import pytest
from django.utils import timezone

from ops.configuration import envfile
from ops.doctor.guides import guide_for
from ops.doctor.repairs import RepairRefused, get_repair
from ops.live import live, live_clear
from ops.models import CheckState, Issue, Process, RepairRun
from ops.network.places import PUBLIC_PROBE
from ops.processes import facts
from ops.registry import ServiceField, TestResult, register_service_kind
from ops.runner import run_checks
from ops.services.repairs import repair_plan, repair_start, repair_undo
from ops.services.services import service_save
from tests.peers.base import PROJECT_ROOT, free_port
from tests.up.running import clean_environment

SECRET = "sk-real-1234567890-abcdef"


def state(check: str) -> CheckState:
    run_checks([check])
    return CheckState.objects.get(check_id=check, target="")


def mend(check: str, **params):
    """What the proposed button does."""
    issue = Issue.objects.exclude(state="resolved").get(check_id=check)
    fix = issue.fix
    return repair_start(
        repair_id=fix["repair"], target=fix["target"], params={**fix["params"], **params}, actor="person:ada",
        trigger="command", issue=issue,
    )  # fmt: skip


@pytest.fixture
def box(clean_doctor, db):
    """A kind of service whose test says what the test wants."""
    found = {"answer": TestResult("ok", "It answers."), "asked": []}

    def tester(service):
        found["asked"].append((service.base_url, dict(service.credentials or {})))
        return found["answer"]

    register_service_kind(
        "lab", label="Lab", role="lab", tester=tester,
        fields=[ServiceField("token", "Token", secret=True, required=True), ServiceField("depth", "Depth", kind="number")],
    )  # fmt: skip
    return found


@pytest.mark.django_db(transaction=True)
class TestInvalid:
    def test_a_word_for_a_number_is_red_mended_by_the_default_and_undone(self, env_path):
        assert state("config.env_invalid").status == "pass"
        env_path.write_text("# ours\nTURN_ATTEMPTS=many\n")
        found = state("config.env_invalid")
        assert found.status == "fail"
        assert "TURN_ATTEMPTS is not valid: 'many'" in found.sentence
        assert found.evidence["wrong"] == ["setting:TURN_ATTEMPTS"]
        assert "TURN_ATTEMPTS=4" in " ".join(step.snippet for step in guide_for("config.env_invalid").steps)
        run = mend("config.env_invalid", value="6")
        assert run.state == "succeeded", run.error
        assert env_path.read_text() == "# ours\nTURN_ATTEMPTS=6\n"
        again = repair_start(
            repair_id="config.edit", target="setting:TURN_ATTEMPTS", params={"value": "6"}, actor="t", trigger="command"
        )
        assert again.state == "unneeded"
        repair_undo(run=run, actor="t")
        assert env_path.read_text() == "# ours\nTURN_ATTEMPTS=many\n"
        assert CheckState.objects.get(check_id="config.env_invalid").status == "fail"

    def test_a_mistyped_name_is_only_odd_and_gets_its_right_name(self, env_path):
        address = f"http://127.0.0.1:{free_port()}"
        env_path.write_text(f"MATRIX_HOMESERVER_ULR={address}\n")
        found = state("config.env_invalid")
        assert found.status == "warn"
        assert "Did you mean MATRIX_HOMESERVER_URL?" in found.sentence
        with pytest.raises(RepairRefused, match="test of the new value fails"):
            mend("config.env_invalid")
        run = mend("config.env_invalid", override=True)
        assert run.state == "succeeded"
        assert env_path.read_text() == f"MATRIX_HOMESERVER_URL={address}\n"

    def test_a_service_without_its_token(self, env_path, box):
        service = service_save(actor="t", name="lab", kind="lab", base_url="http://x:1", credentials={"token": SECRET})
        type(service).objects.filter(pk=service.pk).update(base_url="x:1")
        found = state("config.env_invalid")
        assert found.status == "fail"
        assert found.evidence["wrong"] == ["service:lab"]
        assert "starts with http://" in found.sentence
        run = mend("config.env_invalid", value="http://127.0.0.1:1")
        assert run.state == "succeeded"

    def test_values_that_cannot_be_used_are_not_written(self, env_path):
        for params, word in (
            ({"value": "many"}, "cannot be used"),
            ({"value": "changeme"}, "cannot be used"),
        ):
            with pytest.raises(RepairRefused, match=word):
                repair_plan(repair_id="config.edit", target="setting:TURN_ATTEMPTS", params=params, actor="t")
        with pytest.raises(RepairRefused, match="placeholder"):
            repair_plan(
                repair_id="config.edit", target="setting:METRICS_TOKEN", params={"secret": "changeme"}, actor="t"
            )
        with pytest.raises(RepairRefused, match="not a setting"):
            repair_plan(repair_id="config.edit", target="setting:NOPE", params={"value": "1"}, actor="t")
        assert not env_path.exists()


@pytest.mark.django_db(transaction=True)
class TestPlaceholders:
    def test_in_the_file_the_line_goes(self, env_path):
        env_path.write_text("METRICS_TOKEN=changeme\nMAX_HOPS=3\n")
        found = state("config.placeholder_db_uri")
        assert (found.status, found.evidence["wrong"]) == ("fail", ["setting:METRICS_TOKEN"])
        run = mend("config.placeholder_db_uri")
        assert run.state == "succeeded"
        assert env_path.read_text() == "MAX_HOPS=3\n"

    def test_a_database_address_of_the_example(self, env_path):
        env_path.write_text("DATABASE_URL=postgres://user:pass@host:5432/dbname\n")
        found = state("config.placeholder_db_uri")
        assert found.status == "fail"
        assert "DATABASE_URL holds a placeholder" in found.sentence
        with pytest.raises(RepairRefused, match="placeholder"):
            mend("config.placeholder_db_uri", value="postgres://user:pass@host:5432/other")

    def test_in_a_services_credentials_without_showing_anything(self, env_path, box):
        service_save(
            actor="t", name="lab", kind="lab", base_url="http://127.0.0.1:1", credentials={"token": "sk-xxxxxxx"}
        )
        found = state("config.placeholder_db_uri")
        assert found.evidence["wrong"] == ["service:lab"]
        assert "credentials.token" in found.sentence
        run = mend("config.placeholder_db_uri", secret=SECRET)
        assert run.state == "succeeded"
        assert box["asked"][0] == ("http://127.0.0.1:1", {"token": SECRET})
        shown = json.dumps([run.changes, run.receipt, run.sentence])
        assert SECRET not in shown
        assert "[hidden]" in shown


@pytest.mark.django_db(transaction=True)
class TestEditService:
    def make(self, **fields):
        return service_save(
            actor="t", name="lab", kind="lab", base_url="http://old:1", credentials={"token": SECRET}, **fields
        )

    def test_the_test_comes_before_the_save(self, box, env_path):
        service = self.make()
        box["answer"] = TestResult("down", "Nothing there.")
        ask = {"repair_id": "config.edit", "target": "service:lab", "actor": "t"}
        with pytest.raises(RepairRefused, match="Nothing there"):
            repair_plan(**ask, params={"value": "http://new:1"})
        service.refresh_from_db()
        assert service.base_url == "http://old:1"
        run = repair_start(**ask, params={"value": "http://new:1", "override": True}, trigger="command")
        service.refresh_from_db()
        assert (run.state, service.base_url, service.status) == ("succeeded", "http://new:1", "down")
        repair_undo(run=run, actor="t")
        service.refresh_from_db()
        assert (service.base_url, dict(service.credentials)) == ("http://old:1", {"token": SECRET})

    def test_options_switch_and_fields_by_their_kind(self, box, env_path):
        service = self.make()
        ask = {"repair_id": "config.edit", "target": "lab", "actor": "t", "trigger": "command"}
        repair_start(**ask, params={"field": "options.depth", "value": "3"})
        repair_start(**ask, params={"base_url": "http://new:2"})
        repair_start(**ask, params={"field": "enabled", "value": "no"})
        service.refresh_from_db()
        assert (service.options, service.base_url, service.enabled) == ({"depth": 3}, "http://new:2", False)
        with pytest.raises(RepairRefused, match="has to be a number"):
            repair_start(**ask, params={"field": "options.depth", "value": "deep"})
        with pytest.raises(RepairRefused, match="no 'nonsense'"):
            repair_start(**ask, params={"field": "nonsense", "value": "x"})
        with pytest.raises(RepairRefused, match="no service"):
            repair_start(**{**ask, "target": "service:gone"}, params={"value": "x"})

    def test_what_the_environment_manages_comes_with_the_exact_line(self, box, env_path, monkeypatch):
        service_save(actor="environment", name="letta", kind="letta", base_url="http://old:1", managed_by="environment")
        ask = {"repair_id": "config.edit", "target": "service:letta", "params": {"value": "http://new:2"}, "actor": "t"}
        with pytest.raises(RepairRefused) as refused:
            repair_plan(**ask)
        assert f"Put this line into {env_path} and restart: LETTA_BASE_URL=http://new:2" in str(refused.value)
        monkeypatch.setenv("LETTA_BASE_URL", "http://old:1")
        with pytest.raises(RepairRefused, match="set in the environment of the process"):
            repair_plan(**ask)

    def test_somebody_elses_change_is_kept(self, box, env_path):
        service = self.make()
        run = repair_start(
            repair_id="config.edit",
            target="service:lab",
            params={"value": "http://new:1"},
            actor="t",
            trigger="command",
        )
        service_save(actor="t", name="lab", kind="lab", base_url="http://third:1")
        with pytest.raises(RepairRefused, match="changed by somebody since"):
            repair_undo(run=run, actor="t")
        service.refresh_from_db()
        assert service.base_url == "http://third:1"

    def test_a_live_setting_counts_at_once_and_goes_back(self, db, env_path):
        ask = {"repair_id": "config.edit", "target": f"setting:{PUBLIC_PROBE}", "actor": "t", "trigger": "command"}
        try:
            run = repair_start(**ask, params={"value": "http://127.0.0.1:5/"})
            assert live(PUBLIC_PROBE) == "http://127.0.0.1:5"
            with pytest.raises(RepairRefused, match="starts with http"):
                repair_start(**ask, params={"value": "nowhere"})
            repair_undo(run=run, actor="t")
            assert live(PUBLIC_PROBE) == ""
        finally:
            live_clear(key=PUBLIC_PROBE, actor="t")


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What real processes see that start with other environments: they start side by side."""
    folder = tmp_path_factory.mktemp("seen")
    shared = {"DATA_DIR": str(folder / "data"), "SWITCHBOARD_ENV_FILE": str(folder / "none"), "SECRET_KEY": "k" * 40}
    environments = {
        "web": {**shared, "LETTA_TOKEN": SECRET, "PORT": "9001"},
        "worker": {**shared, "PORT": "9002"},
        "stranger": {**shared, "SECRET_KEY": "o" * 40},
    }
    code = "import django, json; django.setup(); from ops.processes.facts import settings_seen; print(json.dumps(settings_seen()))"
    started = {
        name: subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=PROJECT_ROOT,
            env=clean_environment(**given),
            stdout=subprocess.PIPE,
            text=True,
        )
        for name, given in environments.items()
    }
    return {name: json.loads(process.communicate(timeout=120)[0].splitlines()[-1]) for name, process in started.items()}


def report(name: str, role: str, seen: dict[str, str], **fields) -> Process:
    now = timezone.now()
    common = {"host": "here", "pid": 1, "boot_id": "another", "started_at": now, "seen_at": now, "settings_seen": seen}
    return Process.objects.create(name=name, role=role, **{**common, **fields})


@pytest.mark.django_db(transaction=True)
class TestNotLoaded:
    def test_processes_that_see_different_values_are_named_without_the_values(self, env_path, seen):
        report("a:1:1", "web", seen["web"])
        report("b:1:1", "worker", seen["worker"], host="there")
        found = state("config.env_not_loaded")
        assert found.status == "fail"
        assert set(found.evidence["different"]) == {"LETTA_TOKEN"}
        assert SECRET not in json.dumps([found.sentence, found.evidence])
        assert "LETTA_TOKEN" in found.sentence
        Process.objects.filter(name="b:1:1").update(settings_seen=seen["web"])
        assert state("config.env_not_loaded").status == "pass"

    def test_another_secret_key_is_the_one_finding(self, env_path, seen):
        report("a:1:1", "web", seen["web"])
        report("b:1:1", "worker", seen["stranger"])
        assert set(state("config.env_not_loaded").evidence["different"]) == {"SECRET_KEY"}

    def test_a_line_that_the_running_process_has_not_loaded(self, env_path):
        row = report("up:1:1", "up", facts.settings_seen(), boot_id=facts.boot_id(), pid=os.getpid())
        Process.objects.filter(pk=row.pk).update(name=f"{row.host}:{os.getpid()}:")
        assert state("config.env_not_loaded").status == "pass"
        env_path.write_text("HISTORY_MESSAGES=77\n")
        found = state("config.env_not_loaded")
        assert (found.status, found.evidence["changed_on_disk"]) == ("fail", ["HISTORY_MESSAGES"])
        steps = guide_for("config.env_not_loaded", "", found.evidence).steps
        assert "HISTORY_MESSAGES=77" in steps[0].snippet
        plan = get_repair("config.load")
        assert plan is not None

    def test_a_value_that_cannot_be_used_is_told_first(self, env_path):
        env_path.write_text("TURN_ATTEMPTS=many\n")
        run_checks(["config.env_invalid", "config.placeholder_db_uri", "config.env_not_loaded"])
        states = dict(CheckState.objects.values_list("check_id", "status"))
        assert states["config.env_invalid"] == "fail"
        assert states["config.env_not_loaded"] == "blocked"


@pytest.mark.django_db(transaction=True)
class TestEnvironments:
    @pytest.fixture
    def prefix(self, tmp_path):
        """A real environment of another process."""
        venv.create(tmp_path / "other", with_pip=False, symlinks=True)
        return tmp_path / "other"

    def plant(self, prefix, name, requires=""):
        folder = next(prefix.glob("lib/python3*/site-packages")) / f"{name.replace('-', '_')}-1.0.dist-info"
        folder.mkdir()
        lines = [
            "Metadata-Version: 2.1",
            f"Name: {name}",
            "Version: 1.0",
            *([f"Requires-Dist: {requires}"] if requires else []),
        ]
        (folder / "METADATA").write_text("\n".join(lines) + "\n")

    def row(self, prefix, digest="d1", name="p:1:1"):
        import socket

        return report(name, "worker", {}, host=socket.gethostname(), prefix=str(prefix), packages_digest=digest)

    def test_packages_that_do_not_fit(self, prefix):
        self.row(prefix)
        assert state("config.mixed_venv").status == "pass"
        self.plant(prefix, "needy", "surely-not-there")
        found = state("config.mixed_venv")
        assert found.status == "fail"
        assert "needy 1.0 requires surely-not-there" in found.sentence
        guide = guide_for("config.mixed_venv", "", found.evidence)
        assert f"python3 -m venv {prefix}" in guide.steps[0].snippet

    def test_no_answer_is_not_taken_for_a_good_one(self, prefix, monkeypatch):
        monkeypatch.setattr("ops.configuration.packages.PIP_SECONDS", 0.001)
        found = state("config.mixed_venv")
        assert found.status == "skip"
        assert "pip gave no answer there" in found.sentence

    def test_another_program_in_the_same_environment(self, prefix):
        self.row(prefix)
        self.plant(prefix, "livekit-agents")
        found = state("config.mixed_venv")
        assert (found.status, found.evidence["shared_with"]) == ("fail", {str(prefix): ["LiveKit Agents 1.0"]})

    def test_processes_with_different_packages(self, prefix):
        self.row(prefix)
        self.row(prefix, "d2", "q:1:1")
        assert "2 different sets of packages" in state("config.mixed_venv").sentence
        Process.objects.update(seen_at=timezone.now() - timedelta(minutes=5))
        assert state("config.mixed_venv").status == "pass"


def test_a_refused_start_leaves_no_run(db, env_path):
    with pytest.raises(RepairRefused, match="Say what to change"):
        repair_start(repair_id="config.edit", actor="t", trigger="command")
    assert not RepairRun.objects.exists()
    assert envfile.read(env_path) is None
