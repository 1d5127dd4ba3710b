"""Tool calls that need permission, and branches, with a real Letta 0.16.8: from the message to the answer through our own rows."""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from agents.models import Agent
from chat.models import Message, Role, Turn
from chat.services.approvals import approval_decide
from chat.services.attachments import attachment_store
from chat.services.turns import turn_cancel
from ops.models import Service
from tests.chat.portal_helpers import again, begin, edit, message, person, say, shown
from tests.peers.letta import Letta
from tests.peers.model_stub import ModelStub
from tests.support.stage import Stage, _fake_homeserver, stage

__all__ = ["_fake_homeserver", "stage"]

pytestmark = [pytest.mark.e2e, pytest.mark.django_db]

TOOL = '''
def send_parcel(address: str) -> str:
    """Send a parcel.

    Args:
        address (str): where to

    Returns:
        str: what happened
    """
    return "sent to " + address
'''


@pytest.fixture
def agent(letta: Letta, stage: Stage, settings: Any) -> Iterator[Agent]:
    """An agent on the real server whose only tool asks for permission, known here by a sync."""
    # Rows have the same numbers in each test; the server must not take a message for one of the test before.
    settings.MATRIX_HS_TOKEN = secrets.token_hex(16)
    with letta.client() as client:
        body = {"source_code": TOOL, "source_type": "python", "default_requires_approval": True}
        tool = client.put("/v1/tools/", json=body).raise_for_status().json()
    name = f"Careful {secrets.token_hex(3)}"
    made = letta.create_agent(name, tool_ids=[tool["id"]])
    Service.objects.create(name="real-letta", kind="letta", base_url=letta.url)
    stage.sync()
    yield Agent.objects.select_related("service").get(external_id=made["id"])
    letta.delete_agent(made["id"])


def asked_for(model: ModelStub) -> int:
    return len(model.ledger(path="/v1/chat/completions"))


def waits(stage: Stage, agent: Agent, text: str = "[tool] please") -> Turn:
    talk = begin(stage, name=agent.name)
    turn = say(talk, text).turn
    assert turn is not None
    stage.run_turns()
    turn.refresh_from_db()
    assert turn.state == "waiting_approval", (turn.state, turn.error_reason)
    return turn


def test_allowed_it_runs_and_the_answer_goes_on(stage: Stage, agent: Agent) -> None:
    turn = waits(stage, agent)
    (asked,) = turn.approvals
    assert (asked["name"], "address" in asked["arguments"]) == ("send_parcel", True)
    approval_decide(turn=turn, call_id=asked["id"], approve=True, actor="person:grace")
    stage.run_turns()
    turn.refresh_from_db()
    assert (turn.state, turn.error_reason) == ("done", "")
    assert turn.reply.text.startswith("echo:")
    result = next(part for part in turn.reply.parts if part["type"] == "tool_result")
    assert (result["ok"], result["output"].startswith("sent to")) == (True, True)
    assert turn.output_tokens > 0
    # The conversation is free again.
    following = say(turn.conversation, "[say fine] and now").turn
    stage.run_turns()
    following.refresh_from_db()
    assert following.reply.text == "fine"


def test_refused_it_does_not_run_and_the_agent_is_told_why(stage: Stage, agent: Agent, model_stub: ModelStub) -> None:
    turn = waits(stage, agent)
    call = turn.approvals[0]["id"]
    approval_decide(turn=turn, call_id=call, approve=False, reason="Not to Kiel", actor="person:grace")
    stage.run_turns()
    turn.refresh_from_db()
    assert (turn.state, turn.error_reason) == ("done", "")
    told = [one for one in model_stub.ledger()[-1]["messages"] if one["role"] == "tool"]
    assert "Not to Kiel" in told[-1]["content"]
    results = [part for part in turn.reply.parts if part["type"] == "tool_result"]
    assert [(one["ok"], one["output"]) for one in results] == [(False, "Denied: Not to Kiel")]


def test_stopped_while_it_waits_nothing_runs_and_no_model_is_asked(
    stage: Stage, agent: Agent, model_stub: ModelStub
) -> None:
    turn = waits(stage, agent)
    before = asked_for(model_stub)
    turn_cancel(turn=turn, actor="person:grace")
    stage.run_turns()
    turn.refresh_from_db()
    assert (turn.state, asked_for(model_stub)) == ("cancelled", before)
    following = say(turn.conversation, "[say free] again").turn
    stage.run_turns()
    following.refresh_from_db()
    assert (following.state, following.reply.text) == ("done", "free")


def test_an_answer_that_was_given_is_found_and_not_given_again(
    stage: Stage, agent: Agent, model_stub: ModelStub
) -> None:
    turn = waits(stage, agent)
    approval_decide(turn=turn, call_id=turn.approvals[0]["id"], approve=True, actor="person:grace")
    stage.run_turns()
    turn.refresh_from_db()
    text, before = turn.reply.text, asked_for(model_stub)
    # As after a crash between the server's last byte and our commit.
    reply = turn.reply
    Turn.objects.filter(pk=turn.pk).update(state="queued", reply=None, finished_at=None, attempts=1)
    Message.objects.filter(pk=reply.pk).delete()
    stage.run_turns()
    turn.refresh_from_db()
    assert (turn.state, turn.reply.text, asked_for(model_stub)) == ("done", text, before)


def test_a_call_of_somebody_elses_run_can_be_answered_here(stage: Stage, agent: Agent, letta: Letta) -> None:
    Agent.objects.filter(pk=agent.pk).update(memory_policy="shared")
    with letta.client() as client:
        body = {"messages": [{"role": "user", "content": "[tool] from elsewhere"}], "streaming": False}
        client.post(f"/v1/agents/{agent.external_id}/messages", json=body).raise_for_status()
    turn = waits(stage, agent, "[say and hello] to you")
    (asked,) = turn.approvals
    assert (asked["foreign"], asked["name"]) == (True, "send_parcel")
    approval_decide(turn=turn, call_id=asked["id"], approve=True, actor="person:grace")
    stage.run_turns()
    turn.refresh_from_db()
    assert (turn.state, turn.reply.text) == ("done", "and hello"), turn.error_reason
    assert shown(turn.conversation) == ["[say and hello] to you", "and hello"]
    assert not Message.objects.filter(role=Role.NOTICE).exists()


def test_each_branch_is_a_conversation_of_its_own(stage: Stage, agent: Agent, model_stub: ModelStub) -> None:
    talk = begin(stage, name=agent.name)
    for text in ("[say first] one", "[say second] two"):
        say(talk, text)
        stage.run_turns()
    again(message("second"))
    stage.run_turns()
    heard = model_stub.ledger()[-1]["messages"]
    assert [(one["role"], one["content"]) for one in heard if one["role"] != "system"] == [
        ("user", "Grace: [say first] one"),
        ("assistant", "first"),
        ("user", "Grace: [say second] two"),
    ]
    edit(message("[say first] one"), "[say anew] uno")
    stage.run_turns()
    heard = model_stub.ledger()[-1]["messages"]
    assert [one["content"] for one in heard if one["role"] == "user"] == ["Grace: [say anew] uno"]
    assert shown(talk) == ["[say anew] uno", "anew"]


def test_a_picture_reaches_the_model(
    stage: Stage, agent: Agent, model_stub: ModelStub, settings: Any, tmp_path: Path
) -> None:
    settings.ATTACHMENTS_DIR = tmp_path / "attachments"
    out = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(out, "PNG")
    out.seek(0)
    picture = attachment_store(person=person(), file=out, name="cat.png", actor="test")
    talk = begin(stage, name=agent.name)
    say(talk, "[say a cat] Look", attachments=[str(picture.pk)])
    stage.run_turns()
    assert shown(talk)[-1] == "a cat"
    content = model_stub.ledger()[-1]["messages"][-1]["content"]
    assert [part["type"] for part in content] == ["text", "image_url"]
    assert content[1]["image_url"]["url"].startswith("data:image/png;base64,")
