"""``manage.py invite`` and ``manage.py person``."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.core.management import CommandError, call_command

from chat.models import Invite, Person
from chat.services.program_logins import login_open
from ops.models import AuditEvent
from ops.secrets import seal_text

pytestmark = pytest.mark.django_db


@pytest.fixture
def bea(db) -> Person:
    return Person.objects.create_user("bea", email="bea@example.org", password="a long passphrase")


def run(*arguments: str, **options: Any) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out, **options)
    return out.getvalue()


def told(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json"))


def test_an_invitation_from_the_terminal() -> None:
    made = told("invite", "create", "--note", "Lyon", "--uses", "3", "--days", "0")
    assert (made["max_uses"], made["expires_at"], made["note"]) == (3, None, "Lyon")
    assert told("invite", "check", made["link"])["counts"]
    assert made["code_begins"] in run("invite", "list")
    assert told("invite", "revoke", str(made["id"]))["state"] == "revoked"
    with pytest.raises(SystemExit) as ended:
        run("invite", "check", made["code"])
    assert ended.value.code == 1
    assert told("invite", "list", "--state", "revoked")[0]["id"] == made["id"]
    told("invite", "bring-back", str(made["id"]))
    assert told("invite", "extend", str(made["id"]), "--uses", "0")["max_uses"] is None
    assert Invite.objects.get().state() == "open"
    assert "code" not in told("invite", "list")[0]
    assert made["code"] not in run("invite", "list")


def test_wrong_usage_says_what_to_do() -> None:
    for arguments, words in (
        (("invite", "revoke", "99"), "There is no invitation 99"),
        (("invite", "check"), "Give the code"),
        (("invite", "create", "--agent", "Nobody"), "No agent is called Nobody"),
        (("person", "deactivate"), "Say who"),
        (("person", "reset-link", "nobody"), "Nobody has the name nobody"),
    ):
        with pytest.raises(CommandError, match=words) as error:
            run(*arguments)
        assert error.value.returncode == 3


def test_people_from_the_terminal(bea: Person) -> None:
    login_open(person=bea, actor="test")
    assert [row["username"] for row in told("person", "list", "bea")] == ["bea"]
    assert "bea" in run("person", "list")
    found = told("person", "deactivate", "bea@example.org", "--reason", "Left")
    assert (found["is_active"], found["deactivated_reason"]) == (False, "Left")
    assert AuditEvent.objects.get(action="person.deactivated").actor == "command"
    with pytest.raises(CommandError, match="person reactivate bea"):
        run("person", "reset-link", "bea")
    assert told("person", "reactivate", "bea")["is_active"]
    assert "/account/password/reset/key/" in told("person", "reset-link", "bea")["link"]
    run("person", "sign-out", "bea")
    bea.refresh_from_db()
    assert bea.program_logins.get().revoked_at is not None


def test_deleting_asks_for_the_name(bea: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda prompt: "bee")
    with pytest.raises(CommandError, match="another name"):
        run("person", "delete", "bea")
    assert Person.objects.filter(username="bea").exists()
    monkeypatch.setattr("builtins.input", lambda prompt: "bea")
    run("person", "delete", "bea")
    assert not Person.objects.filter(username="bea").exists()


def test_a_lost_second_factor_is_taken_away(bea: Person) -> None:
    Authenticator.objects.create(user=bea, type=Authenticator.Type.TOTP, data={"secret": seal_text("ABCDEFGH")})
    assert "password alone" in run("person", "remove-second-factor", "bea")
    assert not Authenticator.objects.exists()
    assert AuditEvent.objects.filter(action="person.second_factor_removed", target_id=str(bea.pk)).exists()
    assert "has no second factor" in run("person", "remove-second-factor", "bea")
