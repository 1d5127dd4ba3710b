"""``letta.endpoint_wrong``: a server that moved, one of another protocol, one with fewer agents; and the repair's guard."""

from __future__ import annotations

from typing import Any

import pytest

from agents.doctor.letta import candidates
from agents.doctor.letta.candidates import addresses_of
from agents.models import Agent
from ops.doctor.repairs import RepairRefused
from ops.models import AuditEvent, Service
from ops.services.repairs import repair_plan, repair_start, repair_undo
from tests.agents.doctor.letta.conftest import change, letta_service, outcome
from tests.peers.base import free_port

pytestmark = pytest.mark.django_db(transaction=True)
CHECK, REPAIR = "letta.endpoint_wrong", "letta.set_endpoint"


@pytest.fixture(autouse=True)
def _no_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else listens on this machine's usual ports is no concern of these tests."""
    monkeypatch.setattr(candidates, "PORTS", ())


def moved(letta_stub: Any, **options: Any) -> Service:
    service = letta_service(letta_stub.url)
    return change(
        service,
        base_url=f"http://127.0.0.1:{free_port()}",
        options={"other_addresses": [letta_stub.url, *options.pop("others", [])], **options},
    )


def test_the_usual_ports_of_the_host_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "PORTS", (8283, 8289, 1416))
    service = Service.objects.create(name="letta", kind="letta", base_url="http://letta.test:9000/v1")
    Service.objects.create(name="other", kind="letta", base_url="http://letta.test:8289")
    assert addresses_of(service) == [
        "http://letta.test:9000",
        "http://letta.test:8283",
        "http://letta.test:1416",
    ]


def test_a_server_that_moved_is_found_adopted_and_left_again(letta_stub: Any) -> None:
    service = moved(letta_stub)
    wrong = service.base_url
    run = outcome(CHECK, "letta")
    assert run.status == "fail"
    assert letta_stub.url in run.sentence
    assert [one["count"] for one in run.evidence["answers"]] == [None, 3]
    assert run.fix is not None
    assert run.fix.params == {"address": letta_stub.url}
    service.refresh_from_db()
    assert service.status == "down"

    asked = {"repair_id": REPAIR, "target": run.fix.target, "params": run.fix.params, "actor": "test"}
    planned = repair_plan(**asked)
    assert [(one.what, one.before, one.after) for one in planned.plan.changes] == [("address", wrong, letta_stub.url)]
    assert "Every agent that is known here is there." in planned.plan.sentence
    done = repair_start(**asked, trigger="command")
    service.refresh_from_db()
    assert (done.state, service.base_url, service.status) == ("succeeded", letta_stub.url, "ok")
    assert Agent.objects.filter(service=service, state="active").count() == 3
    assert outcome(CHECK, "letta").status == "pass"
    assert repair_start(**asked, trigger="command").state == "unneeded"

    repair_undo(run=done, actor="test")
    service.refresh_from_db()
    assert service.base_url == wrong
    assert outcome(CHECK, "letta").status == "fail"
    assert AuditEvent.objects.filter(action="service.changed").count() >= 2


def test_a_server_without_our_agents_is_not_adopted(letta_stub: Any) -> None:
    letta_stub.reset(agents=12)
    moved(letta_stub)
    gone = letta_stub.agent_ids()[:5]
    letta_stub.control(delete=gone)
    asked = {"repair_id": REPAIR, "target": "service:letta", "actor": "test"}
    with pytest.raises(RepairRefused, match="5 of our agents are not there"):
        repair_plan(**asked, params={"address": letta_stub.url})
    planned = repair_plan(**asked, params={"address": letta_stub.url, "force": True})
    assert planned.plan.changes[0].after == letta_stub.url


def test_an_address_that_does_not_answer_is_not_adopted(letta_stub: Any) -> None:
    moved(letta_stub)
    with pytest.raises(RepairRefused, match="cannot be used"):
        repair_plan(
            repair_id=REPAIR, target="letta", params={"address": f"http://127.0.0.1:{free_port()}"}, actor="test"
        )


def test_a_dead_server_is_unreachable_and_not_a_wrong_address(letta_stub: Any) -> None:
    service = letta_service(letta_stub.url)
    change(service, base_url=f"http://127.0.0.1:{free_port()}")
    assert outcome(CHECK, "letta").status == "skip"
    reachable = outcome("backend.reachable", "letta")
    assert reachable.status == "fail"
    assert "cannot connect" in reachable.sentence


def test_an_address_of_another_protocol_is_named(letta_stub: Any, model_stub: Any) -> None:
    service = letta_service(letta_stub.url)
    change(service, base_url=model_stub.url)
    run = outcome(CHECK, "letta")
    assert run.status == "fail"
    assert "an OpenAI-style list, not a Letta V1 server" in run.sentence
    assert run.evidence["answers"][0]["protocol"] == "openai"
    assert outcome("backend.reachable", "letta").status == "blocked"


def test_of_two_servers_the_one_with_our_agents_is_right(letta_stub: Any, letta: Any) -> None:
    letta_stub.reset(agents=8)
    # Tests before this one may have left more there than we know.
    letta.delete_all_agents()
    service = letta_service(letta_stub.url)
    change(service, base_url=letta.url, options={"other_addresses": [letta_stub.url]})
    run = outcome(CHECK, "letta")
    assert run.status == "fail"
    assert run.evidence["ours_there"] == 8
    assert run.fix is not None
    assert run.fix.params["address"] == letta_stub.url
    # The other way round all is well, although a second server answers.
    change(service, base_url=letta_stub.url, options={"other_addresses": [letta.url]})
    assert outcome(CHECK, "letta").status == "pass"


def test_the_password_goes_to_letta_only(model_stub: Any, letta_stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    real = candidates._json

    def watched(client: Any, path: str) -> Any:
        seen.append(str(client.headers.get("authorization", "")))
        return real(client, path)

    monkeypatch.setattr(candidates, "_json", watched)
    service = letta_service(letta_stub.url, credentials={"token": "a-password"})
    change(service, base_url=model_stub.url)
    outcome(CHECK, "letta")
    assert seen
    assert not any(seen)
