"""Adapters against the programs that they speak to, and their manners where there is none."""

from __future__ import annotations

import os
import stat
import threading
from http.server import BaseHTTPRequestHandler
from socketserver import UnixStreamServer

import pytest

from ops.adapters import AdapterError, adapter_for, part_of, role_part
from ops.adapters.local import environment, log_path, spawn
from ops.models import Service
from ops.services.repairs import RepairRefused, repair_plan


@pytest.fixture
def systemctl(tmp_path, monkeypatch):
    """A systemctl that writes down how it was called, and fails for a unit called ``broken``."""
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\ncase "$*" in *broken*) echo "Unit broken.service not found." >&2; exit 5;; esac\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return tmp_path / "calls"


@pytest.fixture
def docker_socket(tmp_path):
    """Docker's socket, with one container ``letta``."""
    calls = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            calls.append(self.path)
            known = "/letta/" in self.path or "/switchboard-worker-1/" in self.path
            self.send_response(204 if known else 404)
            self.end_headers()

        def address_string(self):
            return "docker"

        def log_message(self, *arguments):
            pass

    path = tmp_path / "docker.sock"
    server = UnixStreamServer(str(path), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield path, calls
    server.shutdown()
    server.server_close()


class TestSystemd:
    def test_units_are_those_that_we_ship_or_those_that_were_named(self, settings, systemctl):
        settings.PROCESS_MANAGER = "systemd"
        settings.PROCESS_UNITS = ["beat=clock@2.service"]
        adapter = adapter_for(role_part("worker"))
        assert (adapter.name, adapter.why_not(role_part("worker"))) == ("systemd", "")
        adapter.restart(role_part("worker"))
        adapter.start(role_part("beat"))
        assert systemctl.read_text().splitlines() == [
            "--no-ask-password restart switchboard-worker@1",
            "--no-ask-password start clock@2.service",
        ]
        assert adapter.command(role_part("beat"), "restart") == "sudo systemctl restart clock@2.service"

    def test_what_it_answers_is_said_with_the_command(self, settings, systemctl):
        settings.PROCESS_MANAGER = "systemd"
        settings.PROCESS_UNITS = ["worker=broken"]
        with pytest.raises(
            AdapterError, match=r"Unit broken\.service not found\. By hand: sudo systemctl restart broken"
        ):
            adapter_for(role_part("worker")).restart(role_part("worker"))

    def test_a_name_that_is_none_never_becomes_a_command(self, settings, systemctl):
        settings.PROCESS_MANAGER = "systemd"
        settings.PROCESS_UNITS = ["worker=a; rm -rf /"]
        assert "is not the name of a unit" in adapter_for(role_part("worker")).why_not(role_part("worker"))
        with pytest.raises(AdapterError):
            adapter_for(role_part("worker")).restart(role_part("worker"))
        assert not systemctl.exists()


class TestDocker:
    def test_containers_are_restarted_over_the_socket(self, settings, docker_socket, db):
        path, calls = docker_socket
        settings.PROCESS_MANAGER, settings.DOCKER_HOST = "docker", f"unix://{path}"
        service = Service.objects.create(
            name="letta", kind="letta", base_url="http://127.0.0.1:1", options={"container": "letta"}
        )
        part = part_of(f"service:{service.pk}")
        adapter = adapter_for(part)
        assert (adapter.name, adapter.why_not(part)) == ("docker", "")
        adapter.restart(part)
        adapter.start(role_part("worker"))
        assert calls == ["/containers/letta/restart?t=20", "/containers/switchboard-worker-1/start"]
        with pytest.raises(AdapterError, match="Docker answered 404 to restart switchboard-web-1"):
            adapter.restart(role_part("web"))

    def test_without_a_socket_the_command_is_shown(self, settings, tmp_path):
        settings.PROCESS_MANAGER, settings.DOCKER_HOST = "docker", f"unix://{tmp_path}/none.sock"
        assert "docker restart switchboard-web-1" in adapter_for(role_part("web")).why_not(role_part("web"))

    def test_services_that_nobody_named_a_container_for_are_left_alone(self, settings, docker_socket, db):
        path, calls = docker_socket
        settings.PROCESS_MANAGER, settings.DOCKER_HOST = "docker", f"unix://{path}"
        Service.objects.create(name="theirs", kind="letta", base_url="http://theirs:8283")
        part = part_of("theirs")
        assert adapter_for(part).name == "none"
        with pytest.raises(RepairRefused, match="theirs:8283"):
            repair_plan(repair_id="service.restart", target="service:theirs", actor="proof")
        assert calls == []


def test_a_target_that_is_no_part_is_refused(db):
    with pytest.raises(RepairRefused, match="is no part that can be restarted"):
        repair_plan(repair_id="service.restart", target="agent:1", actor="proof")


def test_nobody_starts_nothing_and_says_what_to_type(settings):
    settings.PROCESS_MANAGER, settings.EMBEDDED = "none", True
    adapter = adapter_for(role_part("up"))
    assert adapter.command(role_part("up"), "start").endswith("make up")
    assert "PROCESS_MANAGER" in adapter.why_not(role_part("up"))
    with pytest.raises(AdapterError):
        adapter.start(role_part("up"))


def test_what_we_start_belongs_to_nobody_and_has_our_database(db, settings, tmp_path):
    settings.DATA_DIR = tmp_path
    import sys
    import time

    place = tmp_path / "said"
    code = "import os,sys,time; open(sys.argv[1],'w').write(f\"{os.getppid()} {os.environ.get('DATABASE_URL')}\")"
    pid = spawn([sys.executable, "-c", code, str(place)], log=log_path("worker"))
    until = time.monotonic() + 90
    while not (place.exists() and place.read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    parent, url = place.read_text().split()
    assert int(parent) != os.getpid()
    assert pid != os.getpid()
    assert url == environment()["DATABASE_URL"]
    assert log_path("worker").stat().st_mode & 0o077 == 0
