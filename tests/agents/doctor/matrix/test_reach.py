"""The homeserver's address: nothing listens, something else answers, no answer comes. With a real Synapse, and servers that are none."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from agents.doctor.matrix import look
from agents.matrix import asking
from ops.doctor.guides import guide_for
from ops.doctor.queries import offer_of
from ops.models import Service
from ops.runner import CheckRun, run_checks
from tests.agents.doctor.matrix.conftest import AS_TOKEN, House, ask, issue, mend, plan, undo
from tests.agents.doctor.matrix.servers import as_json, html, serving

REACH = ("matrix.hs_process_down", "matrix.hs_url_wrong", "matrix.hs_unreachable")


def address(url: str) -> None:
    Service.objects.filter(name="homeserver").update(base_url=url)


def reach(*more: str) -> dict[str, CheckRun]:
    return {run.check.id: run for run in run_checks([*REACH, *more])}


def red(runs: dict[str, CheckRun]) -> list[str]:
    return [id for id, run in runs.items() if run.status == "fail"]


def test_a_stopped_process_is_told_from_everything_else_and_starting_it_closes_the_issue(house: House) -> None:
    assert red(reach("homeserver.reachable")) == []
    assert house.service.status == "ok"
    house.synapse.terminate()
    try:
        runs = reach("matrix.login_failed", "homeserver.reachable", "matrix.hs_flavour")
        assert red(runs) == ["matrix.hs_process_down"]
        down = runs["matrix.hs_process_down"]
        assert "The host is up, the homeserver is down" in down.sentence
        assert down.evidence["stage"] == "refused"
        assert down.evidence["last_answer_at"]
        assert {runs[id].status for id in ("matrix.login_failed", "homeserver.reachable", "matrix.hs_flavour")} == {
            "blocked"
        }
        assert house.service.status == "down"
        assert issue("matrix.hs_process_down") is None, "one refused connection is no issue yet"
        reach()
        opened = issue("matrix.hs_process_down")
        assert opened is not None
        offer = offer_of(opened)
        assert offer is not None
        assert (offer.repair.id, offer.target) == ("service.restart", "service:homeserver")
        guide = guide_for("matrix.hs_process_down", "homeserver")
        assert guide is not None
        assert any("systemctl start matrix-synapse" in step.snippet for step in guide.steps)
        assert any(house.synapse.url in step.snippet for step in guide.steps)
        assert down.evidence["last_answer_at"] in guide.why
    finally:
        house.synapse.start()
    assert red(reach("matrix.login_failed", "homeserver.reachable")) == []
    assert issue("matrix.hs_process_down") is None
    assert house.service.status == "ok"


def test_html_in_front_is_told_and_the_candidate_that_works_is_adopted(synced: House) -> None:
    real = synced.synapse.url

    def nginx(path: str, headers: dict[str, str]) -> Any:
        if path == "/.well-known/matrix/client":
            return as_json({"m.homeserver": {"base_url": f"{real}/"}})
        return html()

    with serving(nginx) as wrong:
        address(wrong.url)
        runs = reach("homeserver.reachable")
        assert red(runs) == ["matrix.hs_url_wrong"]
        found = runs["matrix.hs_url_wrong"]
        assert "answers HTML (200), not Matrix" in found.sentence
        assert f"A candidate that works, and it has our account: {real} (its .well-known)" in found.sentence
        assert found.evidence["candidate"] == real
        assert found.evidence["content_type"] == "text/html"
        assert found.fix is not None
        assert (found.fix.repair, found.fix.params) == ("config.edit", {"base_url": real})
        assert all("authorization" not in headers for _, headers in wrong.asked), "our token goes nowhere else"
        done = mend("config.edit", "service:homeserver", base_url=real)
        assert done.state == "succeeded", done.error
        assert synced.service.base_url == real
        assert issue("matrix.hs_url_wrong") is None
        assert mend("config.edit", "service:homeserver", base_url=real).state == "unneeded"
        undo(done)
        assert ask("matrix.hs_url_wrong").status == "fail"


def test_another_homeserver_is_no_candidate(synced: House, settings: Any) -> None:
    def stranger(path: str, headers: dict[str, str]) -> Any:
        if path == look.VERSIONS:
            return as_json({"versions": ["v1.11"]})
        return as_json({"errcode": "M_NOT_FOUND", "error": "no such user"}, 404)

    with serving(stranger) as other, serving(html) as wrong:
        address(wrong.url)
        settings.MATRIX_HOMESERVER_URL = other.url
        found = reach()["matrix.hs_url_wrong"]
        assert found.status == "fail"
        tried = {one["url"]: one for one in found.evidence["tried"]}
        assert tried[other.url] == {"url": other.url, "found_by": "known here", "works": False, "knows_us": False}
        assert found.evidence["candidate"] is None
        assert all("authorization" not in headers for _, headers in [*other.asked, *wrong.asked])


@pytest.mark.parametrize(
    ("answer", "expected", "words"),
    [
        (lambda p, h: (302, {"Location": "https://example.org/login"}, b""), "matrix.hs_url_wrong", "a redirect (302)"),
        (lambda p, h: as_json({"name": "some API"}), "matrix.hs_url_wrong", "200 application/json"),
        (lambda p, h: as_json({"errcode": "M_UNRECOGNIZED"}, 404), "matrix.hs_url_wrong", "404 M_UNRECOGNIZED"),
        (lambda p, h: (404, {"Content-Type": "text/html"}, b"<html>404"), "matrix.hs_url_wrong", "HTML (404)"),
        (lambda p, h: (502, {"Content-Type": "text/html"}, b"<html>Bad Gateway"), "matrix.hs_unreachable", "502"),
        (lambda p, h: None, "matrix.hs_unreachable", "does not answer"),
    ],
)
def test_each_answer_is_one_checks_matter(
    house: House, monkeypatch: pytest.MonkeyPatch, answer: Any, expected: str, words: str
) -> None:
    from ops.network import probe

    monkeypatch.setattr(asking, "ANSWER_SECONDS", 0.4)
    monkeypatch.setattr(probe, "ANSWER_SECONDS", 0.4)
    with serving(answer) as server:
        address(server.url)
        runs = reach("matrix.login_failed")
    assert red(runs) == [expected]
    assert words in runs[expected].sentence
    assert runs["matrix.login_failed"].status == "blocked"


def test_names_and_encryption_are_told_apart(house: House) -> None:
    address("http://homeserver.invalid:8008")
    runs = reach()
    assert red(runs) == ["matrix.hs_unreachable"]
    assert runs["matrix.hs_unreachable"].evidence["stage"] == "dns"
    guide = guide_for("matrix.hs_unreachable", "homeserver", runs["matrix.hs_unreachable"].evidence)
    assert guide is not None
    assert "getent hosts homeserver.invalid" in guide.steps[0].snippet
    with serving(html) as plain:
        address(plain.url.replace("http://", "https://"))
        runs = reach()
    assert red(runs) == ["matrix.hs_unreachable"]
    assert runs["matrix.hs_unreachable"].evidence["stage"] == "tls"


def test_what_speaks_no_http_is_the_wrong_address(house: House) -> None:
    with socket.socket() as wire:
        wire.bind(("127.0.0.1", 0))
        wire.listen(8)
        import threading

        def hang_up() -> None:
            while True:
                try:
                    peer, _ = wire.accept()
                except OSError:
                    return
                peer.recv(100)
                peer.sendall(b"220 mail.example.org ESMTP\r\n")
                peer.close()

        threading.Thread(target=hang_up, daemon=True).start()
        address(f"http://127.0.0.1:{wire.getsockname()[1]}")
        runs = reach()
        wire.shutdown(socket.SHUT_RDWR)
    assert red(runs) == ["matrix.hs_url_wrong"]
    assert "speaks no HTTP" in runs["matrix.hs_url_wrong"].sentence


def test_a_port_that_moved_is_proposed_instead_of_a_restart(house: House) -> None:
    assert ask("matrix.hs_flavour").status == "pass"  # keeps where it answered last
    house.lists("Ada")
    house.sync()
    address("http://127.0.0.1:9")
    found = reach()["matrix.hs_process_down"]
    assert found.evidence["candidate"] == house.synapse.url
    assert found.fix is not None
    assert found.fix.repair == "config.edit"
    assert plan("config.edit", found.fix.target, **found.fix.params).plan.changes
    assert AS_TOKEN not in str(found.evidence)


def test_the_fault_brings_a_page_of_its_own_where_switchboard_shows_none(house: House, settings: Any) -> None:
    from ops.doctor.faults import get_fault

    settings.PORT = 9
    fault = get_fault("matrix.hs_url_wrong")
    assert fault is not None
    memory = fault.cause()
    found = reach()["matrix.hs_url_wrong"]
    assert (found.status, found.evidence["content_type"]) == ("fail", "text/html")
    fault.heal(memory)
    assert house.service.base_url == house.synapse.url
    assert red(reach()) == []
    fault.heal(memory)
    assert house.service.managed_by == memory["managed_by"]
