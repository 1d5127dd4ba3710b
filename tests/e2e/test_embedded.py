"""Embedded mode, end to end: one process with SQLite, a local Synapse, and agents of model providers.

The providers are stand-ins that speak the true protocols; a person listens with matrix-nio's client.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.matrix_client import Person, run
from tests.peers.install import ensure_synapse
from tests.up.running import Up

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

DEFINE = """
from agents.services.agents import agent_define
from ops.models import Service
agent_define(service=Service.objects.get(name="anthropic"), name="Claire", system_prompt="You are Claire.",
             model="claude-sonnet-4-5", actor="command")
"""


@pytest.fixture(scope="module")
def up(tmp_path_factory: Any, model_stub: Any, anthropic_stub: Any) -> Iterator[Up]:
    folder: Path = tmp_path_factory.mktemp("embedded")
    running = Up(
        folder,
        SWITCHBOARD_SYNAPSE_VENV=str(ensure_synapse()),
        OPENAI_BASE_URL=model_stub.base_url,
        OPENAI_API_KEY="sk-stub",
        ANTHROPIC_BASE_URL=anthropic_stub.url,
        ANTHROPIC_API_KEY="sk-ant-stub",
        DEMO_AGENTS="false",
    )
    running.start(180)
    try:
        yield running
    finally:
        running.stop()


def _agents(up: Up) -> dict[str, dict[str, str]]:
    script = (
        "from agents.models import Mapping\n"
        "rows=Mapping.objects.values('agent__name','account__user_id','room__room_id','room__homeserver__base_url')\n"
        "result={r['agent__name']: r for r in rows}"
    )
    found: dict[str, dict[str, str]] = up.ask(script)
    return found


def test_models_of_a_provider_are_agents(up: Up, model_stub: Any) -> None:
    agents = _agents(up)
    assert agents, "every model of the provider has a room"
    name = sorted(agents)[0]
    said = up.manage("say", name, "is this the whole path?", "--trace")
    assert "is this the whole path?" in said
    assert "Delivered to" in said
    asked = [entry for entry in model_stub.ledger() if "is this the whole path?" in str(entry)]
    assert len(asked) == 1


def test_an_agent_that_is_defined_here_answers_with_its_prompt(up: Up, anthropic_stub: Any) -> None:
    up.ask(DEFINE)
    up.manage("sync_agents")
    said = up.manage("say", "Claire", "who are you?")
    assert "who are you?" in said
    asked = [entry for entry in anthropic_stub.ledger() if "who are you?" in str(entry)]
    assert len(asked) == 1
    assert "You are Claire." in str(asked[0])


def test_a_stateless_agent_is_given_what_was_said_before(up: Up, model_stub: Any) -> None:
    name = next(name for name in sorted(_agents(up)) if name != "Claire")
    up.manage("say", name, "my number is 4711")
    up.manage("say", name, "and now?")
    last = [entry for entry in model_stub.ledger() if "and now?" in str(entry)][-1]
    assert "4711" in str(last)


def test_the_room_shows_both_sides(up: Up) -> None:
    """People's words from elsewhere come from Switchboard's own account, answers from the agent's."""
    row = _agents(up)["Claire"]
    found = re.search(r"/setup/[0-9a-f]+/", up.output())
    assert found, "a fresh installation prints the set-up link"

    with httpx.Client(base_url=up.url, timeout=30) as browser:
        form = browser.get(found.group())
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', form.text)
        assert token
        answer = browser.post(
            found.group(),
            data={
                "csrfmiddlewaretoken": token.group(1),
                "username": "ada",
                "display_name": "Ada",
                "password": "brass-cord-and-lamp",
                "again": "brass-cord-and-lamp",
            },
            headers={"Referer": up.url},
        )
        assert answer.status_code == 302, answer.text[:2000]
    up.manage("sync_agents")
    up.manage("say", "Claire", "said in the terminal", "--as", "ada")

    async def as_ada() -> None:
        home = row["room__homeserver__base_url"]
        async with Person(home, "@ada:switchboard.localhost", "brass-cord-and-lamp") as ada:
            await ada.join(row["room__room_id"])
            await ada.say(row["room__room_id"], "said in the room")
            await ada.until(
                lambda: any("said in the room" in text for text in ada.said_in(row["room__room_id"])), 30, up.output()
            )
            events = await ada.all_messages(row["room__room_id"])
            texts = [(e["sender"], e["content"].get("body", "")) for e in events if e["type"] == "m.room.message"]
            assert ("@switchboard:switchboard.localhost", "**Ada:** said in the terminal") in texts
            assert any(sender == row["account__user_id"] and "said in the terminal" in body for sender, body in texts)

    run(as_ada)
