"""Alerts in a Matrix room of a real Synapse, spoken by Switchboard's own account."""

from __future__ import annotations

import httpx
import pytest
from django.utils import timezone

from ops.alerts.send import tell
from ops.models import AlertMessage, Service
from ops.services.alerts import channel_save, channel_test
from tests.peers.receiver import Receiver

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]


@pytest.fixture(scope="module")
def house(synapse_factory, tmp_path_factory):
    with Receiver() as receiver:
        yield synapse_factory(registration=receiver.registration(tmp_path_factory.mktemp("reg"))), receiver


@pytest.fixture
def ann(house):
    """A person's client with a room of her own: ``ann.room``, ``ann.texts()``."""
    synapse, _ = house
    user = synapse.register_user("ann", "ann-has-a-password")

    class Ann(httpx.Client):
        def v3(self, method, path, **json):
            answer = self.request(method, f"/_matrix/client/v3/{path}", json=json or None)
            answer.raise_for_status()
            return answer.json()

        def texts(self):
            chunk = self.v3("GET", f"rooms/{self.room}/messages?dir=b&limit=50")["chunk"]
            return [event["content"].get("body", "") for event in chunk if event["type"] == "m.room.message"]

    with Ann(base_url=synapse.url, headers={"Authorization": f"Bearer {user.access_token}"}) as client:
        client.room = client.v3("POST", "createRoom", name="Operators", preset="private_chat")["room_id"]
        yield client


def test_alerts_come_into_the_room_once_whoever_sends_again(house, ann, make_issue):
    synapse, receiver = house
    Service.objects.create(
        name="homeserver", kind="homeserver", base_url=synapse.url, credentials={"as_token": receiver.as_token},
        options={"server_name": "sb.test"},
    )  # fmt: skip
    channel = channel_save(actor="test", name="operators", url=f"room://{ann.room}")
    shut_out = channel_test(channel=channel, actor="test")
    assert shut_out.state == "failed"
    assert "@switchboard:sb.test is not in" in shut_out.error
    ann.v3("POST", f"rooms/{ann.room}/invite", user_id="@switchboard:sb.test")
    assert channel_test(channel=channel, actor="test").state == "sent"
    make_issue("db.reachable", severity="critical")
    assert tell() == 1
    # As if the worker had been killed between the homeserver's answer and its own note of it.
    AlertMessage.objects.filter(kind="opened").update(state="queued", due_at=timezone.now())
    assert tell() == 1
    texts = ann.texts()
    assert sum("Not well (critical): The database reads and writes" in text for text in texts) == 1
    assert sum("Switchboard: test" in text for text in texts) == 1
