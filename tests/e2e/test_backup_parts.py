"""The optional parts of a backup with the real servers: a local Synapse that runs while it is copied, and a real Letta."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ops.drill.conftest import Installation
from tests.peers.install import ensure_synapse
from tests.up.running import Up

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

# What the agent's room says on the homeserver, and a picture that lies there.
SAID = """
import io
from agents.models import Mapping
from agents.services.backends import open_homeserver
from ops.models import Service
mapping = Mapping.objects.select_related("room", "account").get(agent__name="Ada")
client = open_homeserver().client
page = client.messages(mapping.room.room_id, user_id=mapping.account.user_id, limit=100)
texts = [event["content"].get("body", "") for event in page.chunk if event["type"] == "m.room.message"]
result = {"room": mapping.room.room_id, "account": mapping.account.user_id, "texts": texts, "url": Service.objects.get(kind="homeserver").base_url}
"""
UPLOAD = "from agents.services.backends import open_homeserver\nresult = open_homeserver().client.upload_media(b'p' * 9999, 'image/png', 'p.png')"
FETCH = """
import io
from agents.services.backends import open_homeserver
target = io.BytesIO()
open_homeserver().client.download_media({mxc!r}, target, limit=1 << 20)
result = target.getvalue() == b'p' * 9999
"""
BACK_UP = """
from django.conf import settings
from ops.services.backups import backup_fetch, backup_now
backup = backup_now(actor="test", optional=["homeserver"])
result = {"path": str(backup_fetch(backup)), "parts": backup.parts, "missing": backup.missing, "key": settings.BACKUP_MACHINE_KEY,
    "name": backup.name}
"""
PUT_IN_PLACE = """
from pathlib import Path
from django.conf import settings
from ops.backup.components import Putting, component
from ops.backup.read import open_backup
told = []
with open_backup(Path({path!r})) as reader:
    files = ((one.path, one.size, one.stream) for one in reader.members() if one.kind == "file" and one.label == "homeserver")
    counts = component("homeserver").put(files, Putting(settings.DATA_DIR, "default", False, told.append, extra={{"replace": ("homeserver",)}}))
result = [counts, [one.sentence for one in told]]
"""


@pytest.fixture(scope="module")
def up(tmp_path_factory: Any) -> Iterator[Up]:
    running = Up(tmp_path_factory.mktemp("home"), SWITCHBOARD_SYNAPSE_VENV=str(ensure_synapse()))
    running.start(400)
    try:
        yield running
    finally:
        running.stop()


def test_a_local_homeserver_is_copied_while_it_runs_put_back_while_it_is_stopped_and_moves_to_an_empty_machine(
    up: Up, tmp_path: Path
) -> None:
    up.manage("say", "Ada", "said before the backup")
    before, mxc = up.ask(SAID), up.ask(UPLOAD)
    assert any("said before the backup" in text for text in before["texts"])
    made = up.ask(BACK_UP)
    assert made["missing"] == {}
    assert made["parts"]["homeserver"]["items"] >= 6
    assert "● Passed" in up.manage("backup", "drill", made["name"])

    # On the machine that it was made on: the one that runs is stopped, replaced, and started again by its keeper.
    up.manage("say", "Ada", "said after the backup")
    assert any("said after the backup" in text for text in up.ask(SAID)["texts"])
    counts, told = up.ask(PUT_IN_PLACE.format(path=made["path"]))
    assert counts["written"] == made["parts"]["homeserver"]["items"]
    assert "and started again with it" in told[-1]
    _until_it_answers(up)
    again = up.ask(SAID)
    assert again["room"] == before["room"]
    assert not any("said after the backup" in text for text in again["texts"])
    assert any("said before the backup" in text for text in again["texts"])
    up.stop()

    # On an empty machine.
    key = tmp_path / "key"
    key.write_text(made["key"])
    there = Up(tmp_path / "there", fresh=True, SWITCHBOARD_SYNAPSE_VENV=str(ensure_synapse()))
    there.manage("restore", made["path"], "--key-file", str(key), "--yes")
    there.start(400)
    try:
        found = there.ask(SAID)
        assert (found["room"], found["account"], found["url"]) == (before["room"], before["account"], before["url"])
        assert any("said before the backup" in text for text in found["texts"])
        assert there.ask(FETCH.format(mxc=mxc)) is True
        there.manage("say", "Ada", "said on the other machine")
        assert any("said on the other machine" in text for text in there.ask(SAID)["texts"])
    finally:
        there.stop()


def _until_it_answers(up: Up) -> None:
    up.ask(
        "import time, httpx\n"
        "from ops.models import Service\n"
        "url, until = Service.objects.get(kind='homeserver').base_url, time.monotonic() + 120\n"
        "time.sleep(1)\n"
        "while time.monotonic() < until:\n"
        "    try:\n"
        "        if httpx.get(f'{url}/health', timeout=2).status_code == 200: break\n"
        "    except httpx.HTTPError: time.sleep(0.2)\n"
        "else: raise AssertionError('the homeserver does not answer')"
    )


LETTA_ROWS = """
service = Service.objects.create(name="letta", kind="letta", base_url={url!r})
home = Service.objects.create(name="home", kind="homeserver", base_url="http://127.0.0.1:9", options={{"server_name": "sb.test"}})
for agent_id, name in {agents!r}:
    agent = Agent.objects.create(service=service, external_id=agent_id, name=name)
    account = Account.objects.create(homeserver=home, user_id=f"@{{name}}:sb.test", localpart=name)
    Mapping.objects.create(agent=agent, account=account, room=Room.objects.create(homeserver=home, name=name))
backup = make(optional=["letta_agents"])
from ops.services.backups import backup_fetch
result = {{"path": str(backup_fetch(backup)), "parts": backup.parts, "missing": backup.missing, "id": str(backup.pk)}}
"""
LETTA_BACK = """
from pathlib import Path
from ops.backup.files import put_files
from ops.backup.components import Putting
from agents.services.agent_files import agent_files_import
told = []
put_files(Path({path!r}), None, Putting(settings.DATA_DIR, "default", False, told.append), wanted=lambda one: one.name == "letta_agents")
found = agent_files_import(actor="test").to_dict()
result = [found, agent_files_import(actor="test").to_dict(), dict(Agent.objects.filter(state="active").values_list("name", "external_id"))]
"""


def test_letta_s_agents_are_exported_and_those_that_are_gone_are_made_again(letta: Any, tmp_path: Path) -> None:
    blocks = [{"label": "human", "value": "Her name is Ada."}, {"label": "persona", "value": "A patient agent."}]
    gone = letta.create_agent("gone-agent", memory_blocks=blocks, tags=["own"])
    kept = letta.create_agent("kept-agent")
    there = Installation(tmp_path / "with-letta")
    try:
        there.ask("call_command('migrate', verbosity=0)")
        agents = [(gone["id"], "gone-agent"), (kept["id"], "kept-agent")]
        made = there.ask(LETTA_ROWS.format(url=letta.url, agents=agents))
        assert (made["missing"], made["parts"]["letta_agents"]["items"]) == ({}, 2)
        drill = there.ask(f"result = drill(Backup.objects.get(pk={made['id']!r}))")
        assert (drill["state"], drill["findings"]) == ("passed", [])
        letta.delete_agent(gone["id"])
        found, again, rows = there.ask(LETTA_BACK.format(path=made["path"]))
        assert (found["made"], found["present"], found["failed"]) == (["gone-agent"], 1, {})
        assert again["made"] == []
        assert rows["kept-agent"] == kept["id"]
        assert rows["gone-agent"] != gone["id"]
        with letta.client() as client:
            state = client.get(f"/v1/agents/{rows['gone-agent']}").json()
            assert state["name"] == "gone-agent"
            assert sorted(state["tags"]) == ["own", f"switchboard-restored:{gone['id']}"]
            values = {one["label"]: one["value"] for one in state["memory"]["blocks"]}
            assert values["human"] == "Her name is Ada."
        letta.delete_agent(rows["gone-agent"])
        # A server that is down: the rows are in the backup all the same.
        down = there.ask(
            "Service.objects.filter(name='letta').update(base_url='http://127.0.0.1:9')\n"
            "backup = make(optional=['letta_agents'])\n"
            "result = [backup.state, backup.missing]"
        )
        assert down[0] == "complete"
        assert "2 agents of letta could not be exported" in down[1]["letta_agents"]
    finally:
        there.close()
        letta.delete_agent(kept["id"])
