"""A key of FIELD_ENCRYPTION_KEYS that is lost: what is lost with it is named, given up, and put back when the key turns up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from cryptography.fernet import Fernet
from django.core.management import call_command

from agents.models import Account
from chat.models import Person, SigningKey
from chat.services.signing_keys import signing_key
from ops.backup.errors import BackupError
from ops.doctor.repairs import RepairRefused, RepairWork
from ops.doctor_data.lost_key import advice_of, plan, readable
from ops.losses import NAMED, losses
from ops.models import AlertChannel, ObjectVersion, RepairRun, Service
from ops.secrets import seal_text
from ops.services import backups
from ops.services.alerts import channel_save
from ops.services.repairs import repair_start, repair_undo
from ops.services.services import service_save
from ops.services.versions import bring_back, versions_of

pytestmark = pytest.mark.django_db(transaction=True)
TOKEN = "letta-token-445566"


@pytest.fixture
def filled(settings: Any) -> dict[str, Any]:
    """One secret of each kind that matters, all written with the first key."""
    service = service_save(
        actor="person:ada", name="letta", kind="letta", base_url="http://127.0.0.1:9", credentials={"token": TOKEN}
    )
    other = service_save(actor="person:ada", name="plain", kind="letta", base_url="http://127.0.0.1:9")
    channel = channel_save(actor="person:ada", name="Night", url="json://u:secret-8899@127.0.0.1:9/")
    homeserver = Service.objects.create(name="homeserver", kind="homeserver", base_url="http://127.0.0.1:9")
    account = Account.objects.create(
        homeserver=homeserver, user_id="@x:sb.test", localpart="x", secrets={"password": "pass-123456"}, session="good"
    )
    person = Person.objects.create_user("ada")
    Authenticator.objects.create(user=person, type=Authenticator.Type.TOTP, data={"secret": seal_text("ABCDEFGH")})
    key = signing_key()
    return {"service": service, "other": other, "channel": channel, "account": account, "key": key, "person": person}


@pytest.fixture
def lost(filled: dict[str, Any], settings: Any) -> str:
    """The key is replaced; returns the old one."""
    old = settings.FIELD_ENCRYPTION_KEYS[0]
    settings.FIELD_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    return str(old)


def give_up() -> RepairRun:
    return repair_start(
        repair_id="secrets.lost_key", params={"backup": False}, actor="person:ada", trigger="command", typed="lost"
    )


def test_nothing_is_lost_while_the_key_is_there(filled: dict[str, Any]) -> None:
    assert losses() == []
    assert give_up().state == "unneeded"


def test_what_is_lost_is_named_and_nothing_else(lost: str, capsys: Any) -> None:
    found = {loss.kind.label: loss.names for loss in losses() if loss.kind.matters}
    assert found == {
        "ops.Service.credentials": ("letta",),
        "ops.AlertChannel.url": ("Night",),
        "agents.Account.secrets": ("@x:sb.test",),
        "chat.SigningKey.secret": (str(SigningKey.objects.get()),),
        "mfa.Authenticator.data": ("ada (TOTP Authenticator)",),
    }
    with pytest.raises(SystemExit) as ended:
        call_command("lost_key")
    assert ended.value.code == 1
    said = capsys.readouterr().out
    for part in ("letta", "Night", "@x:sb.test", "Enter the address again"):
        assert part in said
    assert "plain" not in said
    assert Service.objects.get(name="letta").__dict__["credentials"].stored, "listing takes nothing away"


def test_giving_up_leaves_everything_usable(lost: str, filled: dict[str, Any]) -> None:
    former = signing_key()
    assert readable().status == "fail"
    run = give_up()
    assert readable().status == "pass"
    assert run.state == "succeeded", run.error
    assert TOKEN not in str(run.changes)
    assert losses() == []
    assert Service.objects.get(name="letta").credentials == {}
    channel = AlertChannel.objects.get()
    assert (channel.url, channel.enabled) == ("", False)
    account = Account.objects.get()
    assert (account.secrets, account.session) == ({}, "none")
    assert not Authenticator.objects.exists()
    # A key without content would let anybody in: there is none at all until the next is made.
    assert not SigningKey.objects.exists()
    assert signing_key().pk != former.pk
    service_save(
        actor="person:ada", name="letta", kind="letta", base_url="http://127.0.0.1:9", credentials={"token": "new-1"}
    )
    assert Service.objects.get(name="letta").credentials == {"token": "new-1"}
    assert give_up().state == "unneeded"


def test_the_key_that_turns_up_brings_back_what_was_not_entered_again(
    lost: str, filled: dict[str, Any], settings: Any
) -> None:
    run = give_up()
    channel_save(
        actor="person:ada", channel=AlertChannel.objects.get(), name="Night", url="json://new:word-1234@127.0.0.1:9/"
    )
    made = signing_key()
    settings.FIELD_ENCRYPTION_KEYS = [*settings.FIELD_ENCRYPTION_KEYS, lost]
    repair_undo(run=run, actor="person:ada")
    assert Service.objects.get(name="letta").credentials == {"token": TOKEN}
    assert "new:word-1234" in str.__str__(AlertChannel.objects.get().url)
    assert Account.objects.get().secrets == {"password": "pass-123456"}
    assert Authenticator.objects.get().user == filled["person"]
    assert {row.kid for row in SigningKey.objects.all()} == {filled["key"].kid, made.kid}
    assert losses() == []


def test_only_what_matters_has_to_be_entered_again(lost: str, filled: dict[str, Any]) -> None:
    found = losses()
    total, matters = sum(len(loss.keys) for loss in found), sum(len(loss.keys) for loss in found if loss.kind.matters)
    assert (matters, total > matters) == (5, True), "earlier versions are lost with it, and nobody enters them again"
    said = plan(RepairWork(target="", params={}, actor="person:ada")).sentence
    assert said.startswith(f"{total} secrets cannot be opened")
    assert "5 of them have to be entered again" in said
    Service.objects.all().update(credentials={})
    assert "4 of them have to be" in plan(RepairWork(target="", params={}, actor="person:ada")).sentence


def test_nothing_is_put_back_where_everything_was_entered_again(settings: Any) -> None:
    Service.objects.create(name="s", kind="demo", credentials={"token": TOKEN})
    old = settings.FIELD_ENCRYPTION_KEYS[0]
    settings.FIELD_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    run = give_up()
    row = Service.objects.get(name="s")
    row.credentials = {"token": "new-1"}
    row.save()
    settings.FIELD_ENCRYPTION_KEYS = [*settings.FIELD_ENCRYPTION_KEYS, old]
    with pytest.raises(RepairRefused, match="Everything was entered again"):
        repair_undo(run=run, actor="person:ada")
    assert Service.objects.get(name="s").credentials == {"token": "new-1"}


def test_a_backup_is_made_first_or_nothing_is_taken_away(lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def make(**given: Any) -> Any:
        asked.append(given | {"lost": len(losses())})
        if len(asked) == 1:
            raise BackupError("The disk is full.")
        return SimpleNamespace(name="switchboard-1")

    monkeypatch.setattr(backups, "backup_now", make)
    start = {"repair_id": "secrets.lost_key", "actor": "person:ada", "trigger": "command", "typed": "lost"}
    known = len(losses())
    failed = repair_start(**start)
    assert failed.state == "failed"
    assert "The disk is full. Nothing was taken away." in failed.error
    assert len(losses()) == known
    done = repair_start(**start)
    assert (done.state, losses()) == ("succeeded", [])
    assert [(one["reason"], one["pinned"], one["lost"] > 0) for one in asked] == [("safety", True, True)] * 2


def test_of_many_some_are_named_and_the_rest_is_counted(settings: Any) -> None:
    Service.objects.bulk_create(
        Service(name=f"s{number:03}", kind="demo", credentials={"token": TOKEN}) for number in range(NAMED + 2)
    )
    settings.FIELD_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    found = losses()
    work = RepairWork(target="", params={}, actor="person:ada")
    planned = plan(work)
    assert planned.sentence.startswith("202 secrets cannot be opened with the present keys")
    assert "202 of them have to be entered again" in planned.sentence
    assert len(planned.changes) == NAMED + 1
    assert planned.changes[0].target == "s000"
    assert planned.changes[-1].before == "2 that cannot be opened"
    (advice,) = advice_of(found)
    assert "s199 and 2 more): Enter them again" in advice


def test_versions_come_back_without_the_secrets_that_are_lost(filled: dict[str, Any], lost: str) -> None:
    first = versions_of(filled["service"]).first()
    service_save(
        actor="person:ada", name="letta", kind="letta", base_url="http://127.0.0.1:10", credentials={"token": "n"}
    )
    done = bring_back(version=ObjectVersion.objects.get(pk=first.pk), actor="person:bob")
    service = Service.objects.get(name="letta")
    assert (service.base_url, service.credentials) == ("http://127.0.0.1:9", {"token": "n"})
    assert "cannot be read" in done.sentence
