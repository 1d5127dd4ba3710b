"""The checks of the way to a server: each broken for real, each with its own red, and nothing else red with it."""

from __future__ import annotations

import pytest

from ops.doctor.guides import guide_for
from ops.doctor_config import faults_network
from ops.models import CheckState, Issue, Service
from ops.network import container, dns
from ops.network.dns import Resolver
from ops.network.places import PUBLIC_PROBE, environment_proxy, is_inside, no_proxy
from ops.registry import ServiceField, TestResult, register_service_kind
from ops.runner import run_checks
from ops.services.repairs import repair_start, repair_undo
from ops.services.services import service_save
from tests.ops.doctor.network.wires import black_hole, closed_port, name_server, say, web

LADDER = (
    "net.container_network",
    "net.dns",
    "net.firewall",
    "net.egress_proxy",
    "llm.unreachable",
    "service.reachable",
)


@pytest.fixture
def lab(clean_doctor, db):
    """A kind of backend whose test is one GET, through the proxy that its row names."""

    def tester(service):
        from ops.network.probe import probe

        found = probe(service.base_url, proxy=(service.options or {}).get("proxy", ""))
        return TestResult("ok" if found.ok else "down", found.sentence)

    fields = [ServiceField("api_key", "Key", secret=True)]
    register_service_kind("openai", label="OpenAI-compatible server", role="backend", fields=fields, tester=tester)

    def make(url: str, **fields) -> Service:
        return service_save(actor="t", name="lab", kind="openai", base_url=url, **fields)

    return make


@pytest.fixture
def outside(monkeypatch):
    """As on a machine of its own, whatever the tests run in."""
    monkeypatch.setattr(container, "inside", lambda: False)


def states(target="lab"):
    run_checks([*LADDER, "backend.reachable"])
    return {
        row.check_id: row.status
        for row in CheckState.objects.filter(target=target, check_id__in=[*LADDER, "backend.reachable"])
    }


def sentence(check):
    return CheckState.objects.get(check_id=check, target="lab").sentence


def evidence(check):
    return CheckState.objects.get(check_id=check, target="lab").evidence


@pytest.mark.django_db(transaction=True)
class TestLadder:
    def test_all_green(self, lab, outside):
        with web(lambda handler: say(handler, 404)) as port:
            lab(f"http://127.0.0.1:{port}/v1")
            assert states() == {
                "net.container_network": "skip", "net.dns": "pass", "net.firewall": "pass", "net.egress_proxy": "skip",
                "llm.unreachable": "pass", "backend.reachable": "pass",
            }  # fmt: skip

    @pytest.mark.parametrize(("answer", "word"), [((3, ""), "NXDOMAIN"), ((2, ""), "SERVFAIL"), (None, "timeout")])
    def test_a_name_that_does_not_resolve_is_one_red(self, lab, outside, answer, word):
        lab("http://letta.test:8283/v1")
        with name_server(lambda name: answer) as server, dns.using(Resolver([server])):
            found = states()
        assert found["net.dns"] == "fail"
        assert {status for check, status in found.items() if check not in ("net.dns", "net.container_network")} == {
            "blocked"
        }
        assert word in sentence("net.dns")
        assert "letta.test" in sentence("net.dns")
        assert CheckState.objects.get(check_id="backend.reachable").evidence == {"blocked_by": "net.dns"}

    def test_a_mistyped_name_is_recognised_mended_and_undone(self, lab, outside):
        with web(lambda handler: say(handler, 200)) as port:
            service = lab(f"http://localhosst:{port}/v1")
            run_checks(["net.dns"])
            assert states()["net.dns"] == "fail"
            assert "Did you mean localhost?" in sentence("net.dns")
            run_checks(["net.dns"])
            issue = Issue.objects.get(check_id="net.dns", target="lab")
            assert issue.fix["params"] == {"field": "base_url", "value": f"http://localhost:{port}/v1"}
            asked = {
                "repair_id": "config.edit",
                "target": issue.fix["target"],
                "params": issue.fix["params"],
                "actor": "t",
            }
            run = repair_start(**asked, trigger="command", issue=issue)
            service.refresh_from_db()
            assert (run.state, service.base_url, service.status) == ("succeeded", f"http://localhost:{port}/v1", "ok")
            assert repair_start(**asked, trigger="command").state == "unneeded"
            repair_undo(run=run, actor="t")
            service.refresh_from_db()
            assert service.base_url == f"http://localhosst:{port}/v1"
            assert CheckState.objects.get(check_id="net.dns", target="lab").status == "fail"

    def test_dropped_is_the_firewalls_and_refused_is_not(self, lab, outside):
        with black_hole() as port:
            lab(f"http://127.0.0.1:{port}/v1")
            found = states()
            assert (found["net.dns"], found["net.firewall"]) == ("pass", "fail")
            assert {found[one] for one in ("net.egress_proxy", "llm.unreachable", "backend.reachable")} == {"blocked"}
            assert "timed out, not refused" in sentence("net.firewall")
            text = " ".join(f"{step.sentence} {step.snippet}" for step in guide_for("net.firewall", "lab").steps)
            assert str(port) in text
        lab(f"http://127.0.0.1:{closed_port()}/v1")
        found = states()
        assert (found["net.firewall"], found["llm.unreachable"], found["backend.reachable"]) == (
            "pass",
            "fail",
            "blocked",
        )
        assert "refuses connections" in sentence("llm.unreachable")

    def test_a_provider_in_trouble(self, lab, outside):
        with web(lambda handler: say(handler, 503)) as port:
            lab(f"http://127.0.0.1:{port}/v1")
            assert states()["llm.unreachable"] == "fail"
        assert "answers 503" in sentence("llm.unreachable")
        assert evidence("llm.unreachable")["stage"] == "done"

    def test_a_dead_proxy_before_a_server_that_answers_is_taken_out(self, lab, outside):
        with web(lambda handler: say(handler, 200)) as port:
            service = lab(
                f"http://127.0.0.1:{port}/v1", options={"proxy": f"http://u:topsecret@127.0.0.1:{closed_port()}"}
            )
            found = states()
            assert (found["net.egress_proxy"], found["llm.unreachable"], found["backend.reachable"]) == (
                "fail",
                "blocked",
                "blocked",
            )
            assert "topsecret" not in str(evidence("net.egress_proxy"))
            assert evidence("net.egress_proxy")["directly"]["ok"]
            run_checks(["net.egress_proxy"])
            issue = Issue.objects.get(check_id="net.egress_proxy")
            fix = issue.fix
            run = repair_start(
                repair_id=fix["repair"],
                target=fix["target"],
                params=fix["params"],
                actor="t",
                trigger="command",
                issue=issue,
            )
            service.refresh_from_db()
            assert (run.state, service.options["proxy"]) == ("succeeded", "")
            assert "topsecret" not in str(run.changes)
            assert states()["net.egress_proxy"] == "skip"

    def test_a_proxy_that_works(self, lab, outside):
        with web(lambda handler: say(handler, 200)) as port:
            lab("http://api.provider.test/v1", options={"proxy": f"http://127.0.0.1:{port}"})
            found = states()
        assert (found["net.dns"], found["net.egress_proxy"], found["llm.unreachable"]) == ("pass", "pass", "pass")

    def test_our_own_network_must_not_go_through_the_proxy(self, lab, outside, monkeypatch):
        with web(lambda handler: say(handler, 200)) as port:
            monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
            lab("http://letta:8283/v1")
            assert states()["net.egress_proxy"] == "fail"
            assert "NO_PROXY=" in sentence("net.egress_proxy")
            assert "letta" in evidence("net.egress_proxy")["no_proxy"].split(",")
            monkeypatch.setenv("no_proxy", no_proxy())
            assert environment_proxy("http://letta:8283") == ("", "")
            with name_server(lambda name: (0, "127.0.0.1")) as server, dns.using(Resolver([server])):
                assert states()["net.egress_proxy"] == "skip"

    def test_what_belongs_to_our_own_network(self):
        assert [is_inside(host) for host in ("letta", "10.1.2.3", "nas.local", "api.openai.com", "8.8.8.8")] == [
            True, True, True, False, False,
        ]  # fmt: skip


@pytest.mark.django_db(transaction=True)
class TestContainers:
    """Docker's API as a real HTTP server on a Unix socket, with the answers of Engine API 1.41."""

    @staticmethod
    def docker(ours: list[str], theirs: list[str] | None):
        def handle(handler):
            if handler.path.endswith("/containers/json"):
                networks = {name: {"Aliases": ["letta"]} for name in theirs or []}
                row = {"Id": "b" * 64, "Names": ["/agents-letta-1"], "Labels": {"com.docker.compose.service": "letta"},
                       "NetworkSettings": {"Networks": networks}}  # fmt: skip
                say(handler, 200, [row] if theirs is not None else [])
            else:
                say(handler, 200, {"NetworkSettings": {"Networks": {name: {} for name in ours}}})

        return handle

    @pytest.fixture
    def socket_path(self, tmp_path, monkeypatch):
        path = str(tmp_path / "docker.sock")
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        monkeypatch.setattr(container, "inside", lambda: True)
        return path

    @pytest.mark.parametrize(
        ("ours", "theirs", "status", "word"),
        [(["switchboard_default"], ["agents_default"], "fail", "they share none"),
         (["switchboard_default", "agents"], ["agents"], "pass", "share agents"),
         (["switchboard_default"], None, "fail", "no running container named letta")],
    )  # fmt: skip
    def test_networks_are_compared(self, lab, socket_path, ours, theirs, status, word):
        lab("http://letta:8283/v1")
        with web(self.docker(ours, theirs), unix=socket_path):
            found = states()
        assert found["net.container_network"] == status
        assert word in sentence("net.container_network")
        if status == "fail":
            assert {found[one] for one in ("net.dns", "net.firewall", "llm.unreachable", "backend.reachable")} == {
                "blocked"
            }
        if theirs and status == "fail":
            guide = guide_for("net.container_network", "lab", evidence("net.container_network"))
            assert "agents_default" in " ".join(step.snippet for step in guide.steps)

    def test_without_docker_a_bare_name_that_is_not_known(self, lab, socket_path):
        lab("http://letta-backend:8283/v1")
        with name_server(lambda name: (3, "")) as server, dns.using(Resolver([server])):
            assert states()["net.container_network"] == "fail"
        assert "does not know the name letta-backend" in sentence("net.container_network")
        with name_server(lambda name: (0, "127.0.0.1")) as server, dns.using(Resolver([server])):
            assert states()["net.container_network"] == "pass"

    def test_an_address_is_no_containers_name(self, lab, socket_path):
        lab("http://127.0.0.1:8283/v1")
        assert states()["net.container_network"] == "pass"


@pytest.mark.django_db(transaction=True)
def test_faults_bring_back_who_managed_the_row(lab, outside):
    with web(lambda handler: say(handler, 200)) as port:
        service = lab(f"http://127.0.0.1:{port}/v1", managed_by="environment", options={"a": 1})
        for fault in (faults_network._mistype_name, faults_network._dead_proxy):
            memory = fault()
            service.refresh_from_db()
            assert service.managed_by == "operator"
            faults_network._give_back(memory)
            service.refresh_from_db()
            assert (service.base_url, service.managed_by, service.options) == (
                f"http://127.0.0.1:{port}/v1",
                "environment",
                {"a": 1},
            )


def test_the_probe_address_is_a_live_setting():
    from ops.live import live_options

    assert PUBLIC_PROBE in {option.key for option in live_options()}
