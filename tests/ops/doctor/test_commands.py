from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
import yaml
from django.core.management import call_command
from django.core.management.base import CommandError

from ops.doctor import faults
from ops.doctor.guides import Guide, GuideStep, register_guide
from ops.models import AuditEvent, RepairRun
from ops.registry import CheckOutcome, register_check

pytestmark = pytest.mark.django_db(transaction=True)


def run(capsys, *args, code=0):
    """The command's standard out; ``code`` is what it exits with."""
    got = 0
    try:
        call_command(*args)
    except SystemExit as end:
        got = end.code
    assert got == code
    return capsys.readouterr().out


class TestDoctor:
    def test_all_is_well(self, lamp, capsys):
        out = run(capsys, "doctor")
        assert "The one check is well." in out
        assert "lamp.on" in out
        assert "lamp.on" not in run(capsys, "doctor", "--spotlight")

    def test_what_is_wrong_comes_with_the_command_that_goes_on(self, lamp, capsys):
        @register_check("room.bright", title="Bright", depends_on=("lamp.on",))
        def bright():
            return CheckOutcome("pass", "Bright.")

        lamp.broken = {"agent:1"}
        out = run(capsys, "doctor", code=2)
        assert "Of 2 checks 1 failed, 1 could not be asked." in out
        assert "■ critical  lamp.on" in out
        assert "agent:1" in out
        assert "Not asked because of it: room.bright" in out
        assert "→ manage.py repair lamp.switch" in out

    def test_warnings_count_only_when_strict(self, lamp, capsys):
        lamp.broken, lamp.status = {"agent:1"}, "warn"
        run(capsys, "doctor")
        run(capsys, "doctor", "--strict", code=1)

    def test_for_machines(self, lamp, capsys):
        lamp.broken = {"agent:1"}
        found = json.loads(run(capsys, "doctor", "--json", code=2))
        assert (found["schema"], found["ok"], found["counts"]["fail"]) == (1, False, 1)
        assert found["checks"][0]["next"] == "manage.py repair lamp.switch"
        assert found["checks"][0]["affected"] == [{"target": "agent:1", "sentence": "It is dark."}]
        assert yaml.safe_load(run(capsys, "doctor", "--format", "yaml", code=2))["ok"] is False
        suite = ElementTree.fromstring(run(capsys, "doctor", "--format", "junit", code=2))
        assert (suite.get("failures"), suite[0].get("classname")) == ("1", "lamp.on")

    def test_fix_mends_and_a_dry_run_does_not(self, lamp, capsys):
        lamp.broken = {"agent:1"}
        run(capsys, "doctor", "--fix", "--dry-run", code=2)
        assert lamp.applied == 0
        found = json.loads(run(capsys, "doctor", "--fix", "--json"))
        assert (found["ok"], found["repairs"][0]["state"]) == (True, "succeeded")

    def test_a_repair_that_fails_has_its_own_code(self, lamp, capsys):
        lamp.broken, lamp.fail_apply = {"agent:1"}, RuntimeError("no fuse")
        run(capsys, "doctor", "--fix", code=4)

    def test_what_asks_first_is_not_done_without_a_terminal(self, lamp, capsys, monkeypatch):
        from dataclasses import replace

        from ops.choices import RepairClass
        from ops.doctor import repairs

        monkeypatch.setitem(repairs._repairs, "lamp.switch", replace(lamp.repair, repair_class=RepairClass.CONFIRM))
        lamp.broken = {"agent:1"}
        run(capsys, "doctor", "--fix", code=2)
        assert lamp.applied == 0
        run(capsys, "doctor", "--fix", "--yes")
        assert lamp.applied == 1

    def test_known_failures_are_understood_by_id_and_number(self, lamp, capsys):
        @register_check("net.dns", title="Names resolve", covers=("net.firewall",))
        def dns():
            """Asks the resolver."""
            return CheckOutcome("pass", "They do.")

        for wanted in ("net.dns", "16", "17", "net.firewall"):
            assert "net.dns" in run(capsys, "doctor", wanted)
        with pytest.raises(CommandError, match=r"Did you mean net\.dns") as caught:
            call_command("doctor", "net.dsn")
        assert caught.value.returncode == 3

    def test_explain_renders_the_remedy_for_this_installation(self, lamp, capsys):
        @register_check("net.dns", title="Names resolve")
        def dns():
            """Asks the resolver."""
            return CheckOutcome("fail", "No.", {"host": "matrix.local"})

        @register_guide("net.dns")
        def guide(target, evidence):
            host = evidence.get("host", "the host")
            return Guide(
                "Make it resolve",
                f"{host} is unknown.",
                (GuideStep("Add it.", f"127.0.0.1 {host}", place="/etc/hosts"),),
            )

        run(capsys, "doctor", "net.dns", code=2)
        out = run(capsys, "doctor", "--explain", "16")
        assert "Asks the resolver." in out
        assert "Known failure 16: Name does not resolve" in out
        assert "127.0.0.1 matrix.local" in out
        assert "/etc/hosts" in out


class TestRepairAndUndo:
    def test_plan_do_undo(self, lamp, capsys):
        lamp.broken = {"agent:1"}
        run(capsys, "doctor", code=2)
        assert "1 lamp would be switched on." in run(capsys, "repair", "lamp.switch", "--dry-run")
        out = run(capsys, "repair", "lamp.switch")
        assert "● Mended." in out
        assert "lamp.on: fail → pass" in out
        assert str(RepairRun.objects.get().pk) in run(capsys, "undo")
        assert "Undone." in run(capsys, "undo", "last")
        assert lamp.broken == {"agent:1"}
        assert "nothing to undo" in run(capsys, "undo")

    def test_they_say_what_is_wrong(self, lamp):
        with pytest.raises(CommandError, match="no repair 'lamp'") as caught:
            call_command("repair", "lamp")
        assert caught.value.returncode == 3
        with pytest.raises(CommandError, match="NAME=VALUE"):
            call_command("repair", "lamp.switch", "--param", "x")
        with pytest.raises(CommandError, match="no run 'x'"):
            call_command("undo", "x")

    def test_json_alone_on_standard_out(self, lamp, capsys):
        lamp.broken = {"agent:1"}
        assert json.loads(run(capsys, "repair", "lamp.switch", "--json"))["state"] == "succeeded"
        assert "lamp.switch" in run(capsys, "repair")


class TestDemo:
    @pytest.fixture
    def fault(self, lamp, settings, tmp_path):
        settings.DATA_DIR = tmp_path
        settings.EMBEDDED = True

        def cause():
            lamp.broken = {"agent:1"}
            return {"lamp": "agent:1"}

        # Resolved by its id alone, as a check of its own.
        return faults.register_fault(
            "lamp.on", title="A lamp goes dark.", cause=cause, heal=lambda memory: lamp.broken.discard(memory["lamp"])
        )

    def test_break_and_heal(self, lamp, fault, capsys):
        assert "A lamp goes dark." in run(capsys, "demo")
        assert "manage.py doctor lamp.on" in run(capsys, "demo", "--break", "lamp.on")
        run(capsys, "doctor", code=2)
        with pytest.raises(CommandError, match="broken already"):
            call_command("demo", "--break", "lamp.on")
        run(capsys, "demo", "--heal", "lamp.on")
        run(capsys, "doctor")
        with pytest.raises(CommandError, match="not broken by this command"):
            call_command("demo", "--heal", "lamp.on")
        assert AuditEvent.objects.filter(action="demo.broken").count() == 1

    def test_refused_where_people_may_depend_on_it(self, lamp, fault, settings):
        settings.EMBEDDED, settings.DEBUG = False, False
        with pytest.raises(CommandError, match="embedded mode or with DEBUG only"):
            call_command("demo", "--break", "lamp.on")
        assert lamp.broken == set()


def test_status_asks_nothing(lamp, capsys):
    assert "No check has run yet" in run(capsys, "status")
    lamp.broken = {"agent:1"}
    run(capsys, "doctor", code=2)
    lamp.broken = set()
    assert "1 lamp is off." in run(capsys, "status")
