"""An installation with something of everything that a drill tries, in a data directory of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.peers.asked import Asked
from tests.support.prepared import copy_database
from tests.up.running import clean_environment

SEED = """
import io, json, secrets
from pathlib import Path
from django.conf import settings
from django.core.management import call_command
from django.utils import timezone
from agents.models import Account, Agent, Mapping, Room
from agents.matrix.crypto.folder import path_of
from agents.matrix.crypto.vault import Vault
from chat.models import *
from chat.services.attachments import attachment_take_in
from chat.services.messages import message_send
from ops.models import Service
from ops.models.backup import Backup, BackupDrill
from ops.services import audit

def seed():
    backend = Service.objects.create(name="letta", kind="letta", base_url="http://127.0.0.1:9", credentials={"token": "t" * 30})
    home = Service.objects.create(name="home", kind="homeserver", base_url="http://127.0.0.1:9", options={"server_name": "sb.test"},
        credentials={"as_token": "a" * 30, "hs_token": "h" * 30})
    for number in range(3):
        agent = Agent.objects.create(service=backend, external_id=f"agent-{number}", name=f"Agent {number}")
        account = Account.objects.create(homeserver=home, user_id=f"@agent_{number}:sb.test", localpart=f"agent_{number}",
            secrets={"password": "p" * 20})
        room = Room.objects.create(homeserver=home, room_id=f"!room{number}:sb.test", name=agent.name)
        Mapping.objects.create(agent=agent, account=account, room=room)
        # Of another time: it waits, and must not hold up what the drill asks.
        message_send(agent=agent, text=f"Words for {agent.name}: äöü \\U0001F600", speaker_id="ada", speaker_name="Ada")
    ada = Person.objects.create_user("ada", password="brass-cord-and-lamp", is_staff=True)
    from django.contrib.auth.models import Permission
    ada.user_permissions.add(*Permission.objects.order_by("pk")[5:9])
    attachment_take_in(file=io.BytesIO(secrets.token_hex(200_000).encode()), name="note.txt", owner=ada)
    vault = Vault(path_of("@switchboard:sb.test"))
    vault.close()
    audit.record(actor="command", action="seeded", message="for a drill")

def make(**options):
    from ops.services.backups import backup_now
    return backup_now(actor="test", **options)

def drill(backup, **options):
    from ops.services.drills import drill_now
    row = drill_now(backup=backup, actor="test", **options)
    backup.refresh_from_db()
    return {"state": row.state, "error": row.error, "steps": {one["step"]: one for one in row.steps}, "rows": row.rows,
        "findings": [one["code"] for one in row.findings], "good": backup.good_at is not None, "verify_error": backup.verify_error,
        "left": sorted(path.name for path in (settings.DATA_DIR / "drill").iterdir() if path.is_dir())}
"""


class Installation:
    """``ask`` runs Python in it, with ``SEED``'s names at hand."""

    def __init__(self, folder: Path, **settings: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.data = folder / "data"
        if not settings.get("DATABASE_URL"):
            copy_database(self.data / "switchboard.sqlite3")
        self.environment = clean_environment(
            **{
                "DATA_DIR": str(self.data),
                "SWITCHBOARD_ENV_FILE": str(folder / "none"),
                "LOG_LEVEL": "error",
                **settings,
            }
        )
        self._asked = Asked(self.environment, folder, SEED)

    def ask(self, code: str) -> Any:
        return self._asked.ask(code)

    def close(self) -> None:
        self._asked.close()


@pytest.fixture(scope="module")
def installation(tmp_path_factory) -> Iterator[Installation]:
    made = Installation(tmp_path_factory.mktemp("drill"))
    made.ask("call_command('migrate', verbosity=0); seed()")
    yield made
    made.close()


@pytest.fixture(scope="module")
def passed(installation):
    """A backup that passed its drill; the template of empty databases is there afterwards."""
    found = installation.ask("backup = make(); result = {'id': str(backup.pk), 'name': backup.name, **drill(backup)}")
    assert found["state"] == "passed", found
    return found


def drill_of(installation: Installation, backup_id: str) -> dict:
    return installation.ask(f"result = drill(Backup.objects.get(pk={backup_id!r}))")
