"""Secrets that open something outside: those of this moment stay, those that are lost come back; and what was noted before rows change."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.db import connection

from agents.models import Account
from ops.backup import hooks
from ops.models import Service
from ops.secrets import MARK
from ops.services import restores

SESSION = {"access_token": "of-the-backup", "password": "of-the-backup", "device_id": "D1"}
NEWER = {"access_token": "newer", "password": "newer", "device_id": "D2"}


@pytest.fixture
def homeserver(house):
    return Service.objects.create(name="homeserver", kind="homeserver")


def account(homeserver, name, **more):
    return Account.objects.create(homeserver=homeserver, user_id=f"@{name}:sb.test", localpart=name, **more)


def restored(path, *kinds):
    planned = restores.restore_plan(path=path, kinds=kinds, actor="command")
    return restores.restore_apply(restore=planned, actor="command")


def secrets_of(name):
    return dict(Account.objects.get(localpart=name).secrets)


@pytest.mark.parametrize("kinds", [(), ("mappings",)], ids=["all", "mappings"])
def test_a_session_that_was_opened_since_stays(homeserver, backup_of, kinds):
    one = account(homeserver, "a", way="session", secrets=SESSION, session="good", display_name="Before")
    path = backup_of()
    Account.objects.filter(pk=one.pk).update(secrets=NEWER, session="refused", session_error="Why", display_name="Now")

    restored(path, *kinds)

    one.refresh_from_db()
    assert (dict(one.secrets), one.session, one.session_error) == (NEWER, "refused", "Why")
    assert one.display_name == "Before", "what says nothing of the session goes back"


def test_a_secret_that_was_lost_comes_back(homeserver, backup_of):
    emptied = account(homeserver, "emptied", way="session", secrets=SESSION, session="good")
    sealed = account(homeserver, "sealed", way="session", secrets=SESSION, session="good")
    path = backup_of()
    Account.objects.filter(pk=emptied.pk).update(secrets={}, session="none")
    with connection.cursor() as cursor:
        # With a key that is nowhere any more.
        lost = MARK + Fernet(Fernet.generate_key()).encrypt(b"{}").decode()
        cursor.execute("UPDATE agents_account SET secrets = %s WHERE id = %s", [lost, sealed.pk])

    restored(path)

    assert secrets_of("emptied") == SESSION
    assert secrets_of("sealed") == SESSION
    assert Account.objects.get(localpart="emptied").session == "good"


def test_an_account_made_since_stays_with_its_password_and_is_named(homeserver, backup_of):
    path = backup_of()
    account(homeserver, "made_since", way="session", secrets=NEWER, session="good")
    account(homeserver, "of_the_appservice")

    done = restored(path)

    assert list(Account.objects.values_list("localpart", flat=True)) == ["made_since"]
    assert secrets_of("made_since") == NEWER
    (found,) = [one for one in done.findings if one["code"] == "restore.opens_still"]
    assert "made_since" in found["sentence"]
    assert not [one for one in done.findings if one["code"] == "restore.kept"]


def test_what_was_noted_in_the_stillness_reaches_the_step_after_the_commit(homeserver, backup_of, monkeypatch):
    path, seen = backup_of(), []
    talk = account(homeserver, "since")

    def look(kinds: tuple[str, ...]) -> dict[str, Any]:
        return {"sentence": "One thing.", "work": [Account.objects.get(pk=talk.pk).localpart, list(kinds)]}

    def fails(kinds: tuple[str, ...]) -> None:
        raise RuntimeError("Nobody knows.")

    monkeypatch.setattr(hooks, "_before", {"Step": look, "Nothing": lambda kinds: None, "Fails": fails})
    monkeypatch.setattr(hooks, "_reconciles", {"Step": lambda work: seen.append(work.extra)})

    done = restored(path, "mappings")

    assert [one["work"] for one in seen] == [["since", ["mappings"]]], "the row is gone, and known"
    assert not Account.objects.exists()
    assert done.report["before.Step"]["sentence"] == "One thing."
    assert "before.Nothing" not in done.report
    assert done.report["before.Fails"]["error"] == "Nobody knows.", "the restore goes on"
