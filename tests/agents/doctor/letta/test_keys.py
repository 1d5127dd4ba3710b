"""``llm.key_missing`` and ``llm.key_invalid`` with providers that insist on a key, of both protocols."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from agents.doctor.letta.common import ask_provider, shown
from agents.doctor.letta.keys import flaw_of
from ops.doctor.guides import guide_for
from ops.models import CheckState, Service
from ops.redaction import redact_text
from ops.runner import run_checks
from ops.services.repairs import repair_plan, repair_start, repair_undo
from ops.services.services import service_save
from tests.agents.doctor.letta.conftest import outcome
from tests.peers.anthropic_stub import AnthropicStub
from tests.peers.base import free_port
from tests.peers.model_stub import ModelStub

pytestmark = pytest.mark.django_db(transaction=True)
GOOD, BAD = "sk-good-0123456789abcdefgh", "sk-oldx-9876543210zyxwvuts"


@pytest.fixture(scope="module")
def strict_openai() -> Iterator[ModelStub]:
    with ModelStub(arguments=["--key", GOOD]) as stub:
        yield stub


@pytest.fixture(scope="module")
def strict_anthropic() -> Iterator[AnthropicStub]:
    with AnthropicStub(arguments=["--key", GOOD]) as stub:
        yield stub


def provider(url: str, key: str = "", kind: str = "openai") -> Service:
    return service_save(actor="test", name="llm", kind=kind, base_url=url, credentials={"api_key": key} if key else {})


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_a_missing_key_is_told_and_mended(kind: str, strict_openai: ModelStub, strict_anthropic: AnthropicStub) -> None:
    stub = strict_openai if kind == "openai" else strict_anthropic
    provider(stub.url, kind=kind)
    runs = {run.check.id: run for run in run_checks(["llm.key_missing", "llm.key_invalid", "backend.reachable"])}
    missing = runs["llm.key_missing"]
    assert missing.status == "fail"
    assert "has no key" in missing.sentence
    # One cause, one red check: the others wait for it.
    assert {id: run.status for id, run in runs.items() if id != "llm.key_missing"} == {
        "llm.key_invalid": "blocked",
        "backend.reachable": "blocked",
    }
    assert Service.objects.get(name="llm").status == "down"
    assert missing.fix is not None
    asked = {"repair_id": missing.fix.repair, "target": missing.fix.target, "actor": "test"}
    params = {**missing.fix.params, "secret": GOOD}
    done = repair_start(**asked, params=params, trigger="command")
    assert done.state == "succeeded"
    assert GOOD not in str(done.changes) + done.sentence + str(done.receipt)
    assert outcome("llm.key_missing", "llm").status == "pass"
    assert outcome("llm.key_invalid", "llm").status == "pass"
    assert outcome("backend.reachable", "llm").status == "pass"
    assert repair_start(**asked, params=params, trigger="command").state == "unneeded"
    repair_undo(run=done, actor="test")
    assert outcome("llm.key_missing", "llm").status == "fail"


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_a_refused_key_is_shown_in_part_and_replaced(
    kind: str, strict_openai: ModelStub, strict_anthropic: AnthropicStub
) -> None:
    stub = strict_openai if kind == "openai" else strict_anthropic
    provider(stub.url, BAD, kind)
    runs = {run.check.id: run for run in run_checks(["llm.key_missing", "llm.key_invalid", "backend.reachable"])}
    run = runs["llm.key_invalid"]
    assert (run.status, run.evidence["answer"], run.evidence["shown_as"]) == ("fail", "refused", "sk-o…vuts")
    assert "sk-o…vuts" in run.sentence
    assert runs["backend.reachable"].status == "blocked"
    state = CheckState.objects.get(check_id="llm.key_invalid")
    assert BAD not in f"{state.sentence}{state.evidence}"
    assert run.fix is not None
    planned = repair_plan(
        repair_id="config.edit", target=run.fix.target, params={**run.fix.params, "secret": GOOD}, actor="test"
    )
    assert GOOD not in str(planned.to_dict())
    repair_start(
        repair_id="config.edit",
        target=run.fix.target,
        params={**run.fix.params, "secret": GOOD},
        actor="test",
        trigger="command",
    )
    assert outcome("llm.key_invalid", "llm").status == "pass"


def test_a_local_server_needs_no_key(model_stub: ModelStub) -> None:
    provider(model_stub.base_url)
    assert outcome("llm.key_missing", "llm").status == "pass"
    assert outcome("llm.key_invalid", "llm").status == "skip"


def test_a_provider_that_does_not_answer_says_nothing_about_keys() -> None:
    provider(f"http://127.0.0.1:{free_port()}/v1", BAD)
    assert outcome("llm.key_missing", "llm").status == "pass"
    assert outcome("llm.key_invalid", "llm").status == "skip"
    assert outcome("backend.reachable", "llm").status == "fail"


@pytest.mark.parametrize(
    ("key", "kind", "url", "word"),
    [
        ("sk-abc def", "openai", "", "white space"),
        ("sk-abc\n", "openai", "", "white space"),
        ('"sk-abc"', "openai", "", "quotation marks"),
        ("Bearer sk-abc", "openai", "", "white space"),
        ("sk-ant-0123", "openai", "https://api.openai.com/v1", "key of Anthropic"),
        ("sk-ant-0123", "openai", "http://gateway.test/v1", ""),
        ("sk-proj-0123", "openai", "https://api.openai.com/v1", ""),
    ],
)
def test_flaws_of_a_key_are_named(key: str, kind: str, url: str, word: str) -> None:
    flaw = flaw_of(key, Service(name="llm", kind=kind, base_url=url))
    assert word in flaw
    assert bool(flaw) == bool(word)


def test_what_is_shown_of_a_key_survives_redaction_and_gives_nothing_away() -> None:
    assert redact_text(f"The key {shown(BAD)}") == "The key sk-o…vuts"
    assert shown("short-key") == "(short)"


def test_an_answer_without_json_is_odd(letta_stub: Any) -> None:
    assert ask_provider("openai", letta_stub.url, GOOD).code in ("odd", "ok")
    assert ask_provider("openai", "ftp://nowhere", GOOD).code == "odd"


def test_the_guide_names_the_variable_and_no_key() -> None:
    provider("https://api.anthropic.com", GOOD, "anthropic")
    guide = guide_for("llm.key_missing", "llm", {})
    assert guide is not None
    text = str(guide.to_dict())
    assert "ANTHROPIC_API_KEY=…" in text
    assert GOOD not in text
