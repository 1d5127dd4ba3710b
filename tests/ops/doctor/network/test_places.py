"""Our own addresses: ports, the way from outside, each process's own way; registries and streams."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from datetime import datetime, timedelta

import httpx
import pytest
from django.utils import timezone

from ops.doctor.guides import guide_for
from ops.doctor.repairs import RepairRefused
from ops.doctor_config import faults_network, faults_settings
from ops.live import live_clear, live_set
from ops.models import CheckState, Issue, Process
from ops.network import chunks, ports, reach
from ops.network.places import PUBLIC, PUBLIC_PROBE, places
from ops.runner import run_checks
from ops.services.repairs import repair_start, repair_undo
from ops.services.services import service_save
from tests.ops.doctor.network.wires import closed_port, name_server, say, web
from tests.peers.base import PROJECT_ROOT, free_port

LISTEN = "import socket, sys, time; s = socket.socket(); s.bind(('127.0.0.1', int(sys.argv[1]))); s.listen(); print('up', flush=True); time.sleep(60)"


@pytest.fixture
def env_path(settings, tmp_path):
    settings.ENV_FILE = tmp_path / "settings.env"
    return settings.ENV_FILE


@contextlib.contextmanager
def another_program(port: int):
    """A real second process that listens on the port."""
    process = subprocess.Popen([sys.executable, "-c", LISTEN, str(port)], stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.wait(60)
        process.stdout.close()


def state(check: str, target: str = "") -> CheckState:
    run_checks([check])
    return CheckState.objects.get(check_id=check, target=target)


@pytest.mark.django_db(transaction=True)
class TestPorts:
    def test_another_program_has_it_the_next_free_one_is_taken_and_undone(self, env_path):
        port = free_port()
        env_path.write_text(f"# ours\nPORT={port}\n")
        assert state("net.port_conflict", "web").status == "pass"
        with another_program(port) as program:
            found = state("net.port_conflict", "web")
            assert found.status == "fail"
            assert (found.evidence["port"], found.evidence["process"]) == (port, program.pid)
            assert f"process {program.pid}" in found.sentence
            issue = Issue.objects.get(check_id="net.port_conflict")
            free = issue.fix["params"]["port"]
            assert ports.is_free("127.0.0.1", free)
            ask = {
                "repair_id": "config.port",
                "target": "web",
                "params": {"port": free},
                "actor": "t",
                "trigger": "command",
            }
            with pytest.raises(RepairRefused, match="taken as well"):
                repair_start(**{**ask, "params": {"port": port}})
            run = repair_start(**ask, issue=issue)
            assert run.state == "succeeded", run.error
            assert env_path.read_text() == f"# ours\nPORT={free}\n"
            assert repair_start(**ask).state == "unneeded"
            repair_undo(run=run, actor="t")
            assert env_path.read_text() == f"# ours\nPORT={port}\n"
            assert CheckState.objects.get(check_id="net.port_conflict", target="web").status == "fail"
            assert "config.port --target web" in " ".join(
                s.snippet for s in guide_for("net.port_conflict", "web").steps
            )
        assert state("net.port_conflict", "web").status == "pass"

    def test_our_own_web_server_is_no_conflict(self, env_path):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            env_path.write_text(f"PORT={listening.getsockname()[1]}\n")
            found = state("net.port_conflict", "web")
        assert found.status == "pass"
        assert found.evidence["process"] == os.getpid()

    def test_a_port_of_the_environment_comes_with_its_line(self, env_path, monkeypatch):
        port = free_port()
        monkeypatch.setenv("PORT", str(port))
        with another_program(port):
            assert state("net.port_conflict", "web").status == "fail"
            with pytest.raises(RepairRefused, match=r"PORT is set in the environment of the process.*PORT=\d+"):
                repair_start(repair_id="config.port", target="web", actor="t", trigger="command")

    def test_the_fault_takes_a_port_and_gives_it_back(self, env_path):
        env_path.write_text(f"PORT={free_port()}\n")
        before = env_path.read_text()
        memory = json.loads(json.dumps(faults_settings._take_port()))
        try:
            assert state("net.port_conflict", memory["port"]).status == "fail"
        finally:
            faults_settings._give_port_back(memory)
        assert state("net.port_conflict", memory["port"]).status == "pass"
        assert env_path.read_text() == before


@pytest.fixture(scope="module")
def daphne(tmp_path_factory):
    """Our own application behind a real ASGI server, in a process of its own."""
    from django.conf import settings

    port = free_port()
    environment = {
        **os.environ, "DATA_DIR": str(tmp_path_factory.mktemp("web")), "SECRET_KEY": settings.SECRET_KEY, "PORT": str(port),
        "DJANGO_SETTINGS_MODULE": "controlplane.settings", "SWITCHBOARD_ENV_FILE": "/nowhere",
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "daphne", "-b", "127.0.0.1", "-p", str(port), "controlplane.asgi:application"],
        cwd=PROJECT_ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(300):
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"http://127.0.0.1:{port}/livez").status_code == 200:
                    break
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture
def look_at(db):
    yield lambda address: live_set(key=PUBLIC_PROBE, value=address, actor="t")
    live_clear(key=PUBLIC_PROBE, actor="t")


@pytest.mark.django_db(transaction=True)
class TestFromOutside:
    @pytest.fixture(autouse=True)
    def here(self, daphne, settings):
        settings.PORT = daphne
        settings.MATRIX_APPSERVICE_URL = settings.PUBLIC_URL = f"http://127.0.0.1:{daphne}"

    def test_inside_and_outside(self, daphne, look_at, settings):
        assert state("net.host_unreachable", PUBLIC).status == "pass"
        look_at(f"http://127.0.0.1:{closed_port()}")
        found = state("net.host_unreachable", PUBLIC)
        assert found.status == "fail"
        assert "Inside OK" in found.sentence
        assert "outside refused" in found.sentence
        assert found.evidence["inside"]["ok"]
        assert found.evidence["outside"]["kind"] == "refused"
        text = " ".join(step.snippet for step in guide_for("net.host_unreachable", PUBLIC, found.evidence).steps)
        assert f":{daphne}" in text
        with web(lambda handler: say(handler, 200, b"<h1>Welcome to nginx</h1>")) as port:
            look_at(f"http://127.0.0.1:{port}")
            assert "something else answers" in state("net.host_unreachable", PUBLIC).sentence
        settings.PORT = closed_port()
        settings.MATRIX_APPSERVICE_URL = settings.PUBLIC_URL = f"http://127.0.0.1:{settings.PORT}"
        assert state("net.host_unreachable", PUBLIC).status == "skip"

    def test_a_stream_comes_piece_by_piece_and_a_buffering_proxy_is_found(self, daphne, look_at):
        good = state("mcp.http_stream", PUBLIC)
        assert good.status == "pass", good.sentence
        # What was sent over a second came over a second.
        assert 0.8 <= good.evidence["spread_ms"] / 1000 <= 1.6
        memory = faults_network._buffer()
        try:
            assert state("net.host_unreachable", PUBLIC).status == "pass"
            bad = state("mcp.http_stream", PUBLIC)
            assert bad.status == "fail"
            assert "Chunks arrive together" in bad.sentence
            assert bad.evidence["spread_ms"] < 200
        finally:
            faults_network._look_back(memory)
        assert state("mcp.http_stream", PUBLIC).status == "pass"

    def test_a_proxy_that_does_not_pass_the_api_on(self, daphne, look_at):
        with web(lambda handler: say(handler, 200 if handler.path == "/livez" else 404, b"ok")) as port:
            look_at(f"http://127.0.0.1:{port}")
            found = state("mcp.http_stream", PUBLIC)
        assert found.status == "fail"
        assert "answers 404" in found.sentence

    def test_the_guides_name_this_host_and_path(self, settings):
        settings.PUBLIC_URL = "https://agents.lan/desk"
        text = " ".join(step.snippet for step in guide_for("mcp.http_stream", PUBLIC, {}).steps)
        for word in (
            "location /desk/api/v1/",
            "proxy_buffering off",
            "agents.lan",
            "flush_interval -1",
            "flushInterval",
            "flushpackets=on",
        ):
            assert word in text

    def test_strangers_get_no_stream_and_old_tickets_are_none(self, daphne):
        address = f"http://127.0.0.1:{daphne}{chunks.PATH}"
        assert httpx.get(address).status_code == 401
        assert httpx.get(address, headers={chunks.HEADER: "probe:1:forged"}).status_code == 401
        ticket = chunks.ticket()
        assert chunks.is_ticket(ticket)
        assert (
            httpx.get(f"http://127.0.0.1:{daphne}/api/v1/services", headers={chunks.HEADER: ticket}).status_code == 401
        )


def report_here(name: str, seconds_ago: float = 0.0, **fields) -> Process:
    now = timezone.now()
    return Process.objects.create(
        name=name,
        role="worker",
        host="there",
        pid=1,
        boot_id="another",
        started_at=now - timedelta(hours=1),
        seen_at=now,
        **fields,
    )


# A real second process that looks names up elsewhere: as in another container.
ELSEWHERE = """
import django, json, sys
django.setup()
from ops.network import dns, places, reach
from ops.network.dns import Resolver
place = places.Place("lab", sys.argv[1], pk=1)
reach.places = lambda: {"lab": place}
with dns.using(Resolver([("127.0.0.1", int(sys.argv[2]))])):
    print(json.dumps(reach.report()))
"""


@pytest.mark.django_db(transaction=True)
class TestEveryProcess:
    def test_one_that_does_not_reach_what_others_reach(self, tmp_path):
        with web(lambda handler: say(handler, 200)) as port, name_server(lambda name: (3, "")) as server:
            address = f"http://localhost:{port}"
            service = service_save(actor="t", name="lab", kind="openai", base_url=f"{address}/v1")
            ours = reach.with_failures(reach.report(), {})
            done = subprocess.run(
                [sys.executable, "-c", ELSEWHERE, f"{address}/v1", str(server[1])],
                cwd=PROJECT_ROOT, capture_output=True, text=True, check=True,
                env={**os.environ, "DATA_DIR": str(tmp_path), "DJANGO_SETTINGS_MODULE": "controlplane.settings"},
            )  # fmt: skip
        theirs = json.loads(done.stdout.splitlines()[-1])
        assert (ours["lab"]["ok"], theirs["lab"]["ok"], theirs["lab"]["stage"]) == (True, False, "dns")
        report_here("a:1:1", reach=ours)
        report_here("b:1:1", reach=reach.with_failures(theirs, {}))
        assert state("net.service_to_service", "lab").status == "pass"  # once is nothing
        Process.objects.filter(name="b:1:1").update(
            reach=reach.with_failures(theirs, {"lab": {**theirs["lab"], "failures": 1}})
        )
        found = state("net.service_to_service", "lab")
        assert found.status == "fail"
        assert "ends at dns" in found.sentence
        assert set(found.evidence["cells"]) == {"a:1:1", "b:1:1"}
        # What was asked before the address changed says nothing about the new one.
        service_save(actor="t", name="lab", kind="openai", base_url="http://127.0.0.1:9/v1")
        assert state("net.service_to_service", "lab").status == "skip"
        assert service.pk

    def test_an_answer_about_another_address_says_nothing(self, monkeypatch):
        """The row changed between reading the address and asking it: whoever waits for a lock is late, and no clock tells."""
        service_save(actor="t", name="lab", kind="openai", base_url=f"http://127.0.0.1:{closed_port()}/v1")
        dead = places()["lab"]
        with web(lambda handler: say(handler, 200)) as port:
            service_save(actor="t", name="lab", kind="openai", base_url=f"http://127.0.0.1:{port}/v1")
            good = reach.with_failures(reach.report(), {})
            with monkeypatch.context() as context:
                context.setattr(reach, "places", lambda: {"lab": dead})
                late = reach.with_failures(reach.report(), {"lab": {"failures": 1, "asked": dead.asked}})
            assert (late["lab"]["failures"], late["lab"]["ok"]) == (2, False)
            report_here("a:1:1", reach=good)
            report_here("b:1:1", reach=late)
            assert state("net.service_to_service", "lab").status == "pass"
            # Nor do failures at the old address count for the new one.
            assert reach.with_failures({"lab": {**good["lab"], "ok": False}}, late)["lab"]["failures"] == 1

    def test_it_counts_from_when_the_address_was_read(self, monkeypatch):
        service_save(actor="t", name="lab", kind="openai", base_url=f"http://127.0.0.1:{closed_port()}/v1")
        read = []
        monkeypatch.setattr(reach, "places", lambda: read.append(timezone.now()) or places())
        assert datetime.fromisoformat(reach.report()["lab"]["at"]) <= read[0]

    def test_one_that_is_down_for_all_is_no_matter_of_where_one_runs(self):
        service_save(actor="t", name="lab", kind="openai", base_url=f"http://127.0.0.1:{closed_port()}/v1")
        cells = reach.with_failures(reach.report(), {"lab": {"failures": 4, "asked": places()["lab"].asked}})
        report_here("a:1:1", reach=cells)
        assert state("net.service_to_service", "lab").status == "skip"

    def test_a_process_writes_what_it_reaches(self):
        service_save(actor="t", name="lab", kind="openai", base_url=f"http://127.0.0.1:{closed_port()}/v1")
        report_here("a:1:1")
        assert reach.write("a:1:1", reach.report())
        assert Process.objects.get(name="a:1:1").reach["lab"]["stage"] == "tcp"
        assert not reach.write("gone:1:1", {})


@pytest.mark.django_db(transaction=True)
class TestImage:
    """A registry as a real HTTP server, with the token that public registries hand to everybody."""

    DIGEST = "sha256:" + "a" * 64

    def registry(self, *, has=True, token="", digest=DIGEST):
        def handle(handler):
            if handler.path.startswith("/token"):
                assert "scope=pull" in handler.path
                say(handler, 200, {"token": token})
            elif token and handler.headers.get("Authorization") != f"Bearer {token}":
                realm = f'Bearer realm="http://{handler.headers["Host"]}/token",scope="pull"'
                say(handler, 401, WWW_Authenticate=realm)
            elif has and handler.path == "/v2/team/switchboard/manifests/1.2":
                assert "oci.image.index" in handler.headers["Accept"]
                say(handler, 200, Docker_Content_Digest=digest, Content_Length="512")
            else:
                say(handler, 404)

        return web(handle)

    @pytest.fixture
    def image(self, settings):
        def use(port, mirrors=()):
            values = {**settings.ENVIRONMENT.values, "SWITCHBOARD_IMAGE": f"127.0.0.1:{port}/team/switchboard:1.2"}
            values["SWITCHBOARD_IMAGE_MIRRORS"] = [f"127.0.0.1:{one}" for one in mirrors]
            settings.ENVIRONMENT = type(settings.ENVIRONMENT)(values=values)

        return use

    def test_not_from_an_image(self, settings):
        assert state("docker.image_pull").status == "skip"

    def test_it_can_be_pulled_with_everybodys_token(self, image):
        with self.registry(token="for-all") as port:
            image(port)
            found = state("docker.image_pull")
        assert found.status == "pass", found.sentence
        assert found.evidence["registry"]["digest"] == self.DIGEST

    def test_a_mirror_has_it_and_the_guide_names_the_digest(self, image):
        with self.registry(has=False) as port, self.registry() as mirror:
            image(port, [closed_port(), mirror])
            found = state("docker.image_pull")
            assert found.status == "fail"
            assert f"127.0.0.1:{mirror} has the image" in found.sentence
            guide = guide_for("docker.image_pull", "", found.evidence)
        assert f"127.0.0.1:{mirror}/team/switchboard@{self.DIGEST}" in " ".join(step.snippet for step in guide.steps)

    def test_nobody_has_it_and_a_mirror_with_another_image(self, image):
        image(closed_port())
        assert "cannot be pulled" in state("docker.image_pull").sentence
        with self.registry() as port, self.registry(digest="sha256:" + "b" * 64) as other:
            image(port, [other])
            found = state("docker.image_pull")
        assert found.status == "warn"
        assert "another image under this name" in found.sentence
