from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from ops.models import ApiToken, AuditEvent
from ops.services.tokens import token_authenticate, token_create, token_revoke


@pytest.fixture
def made(alice):
    return token_create(owner=alice, name="ci", scope="write", actor="person:alice")


def test_a_token_proves_its_owner_and_is_stored_nowhere(made, alice):
    token, plaintext = made
    assert plaintext.startswith(f"swb_{token.prefix}.")
    found = token_authenticate(plaintext)
    assert (found.pk, found.owner, found.scope) == (token.pk, alice, "write")
    secret = plaintext.split(".")[1]
    assert secret not in str(ApiToken.objects.values().get())
    assert secret not in str(list(AuditEvent.objects.values()))
    assert secret not in f"{token!r} {token}"


@pytest.mark.parametrize("change", ["", "x", "swb_short.y", None])
def test_what_is_no_token_is_nobody(made, change):
    assert token_authenticate(change) is None


def test_a_wrong_secret_or_prefix_is_nobody(made):
    _, plaintext = made
    last = "A" if plaintext[-1] != "A" else "B"
    assert token_authenticate(plaintext[:-1] + last) is None
    assert token_authenticate("swb_zzzzzzzzzzzz." + plaintext.split(".")[1]) is None
    assert token_authenticate(plaintext) is not None


def test_revoked_expired_and_inactive_are_nobody(made, alice):
    token, plaintext = made
    ApiToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert token_authenticate(plaintext) is None
    ApiToken.objects.update(expires_at=None)
    alice.is_active = False
    alice.save()
    assert token_authenticate(plaintext) is None
    alice.is_active = True
    alice.save()
    assert token_authenticate(plaintext) is not None
    token_revoke(token=token, actor="person:bob")
    token_revoke(token=token, actor="person:bob")
    assert token_authenticate(plaintext) is None
    assert AuditEvent.objects.filter(action="token.revoked").count() == 1


def test_last_use_is_written_once_a_minute(made):
    _, plaintext = made
    first = token_authenticate(plaintext).last_used_at
    assert token_authenticate(plaintext).last_used_at == first
    ApiToken.objects.update(last_used_at=timezone.now() - timedelta(seconds=61))
    assert token_authenticate(plaintext).last_used_at > first
    assert ApiToken.objects.get().last_used_at > first


def test_another_secret_key_ends_all_tokens_unless_it_is_a_fallback(made, settings):
    _, plaintext = made
    old = settings.SECRET_KEY
    settings.SECRET_KEY = "another-key"
    assert token_authenticate(plaintext) is None
    settings.SECRET_KEY_FALLBACKS = [old]
    assert token_authenticate(plaintext) is not None


@pytest.mark.parametrize(
    "wrong", [{"scope": "admin"}, {"name": " "}, {"expires_at": timezone.now() - timedelta(days=1)}]
)
def test_nonsense_is_refused(alice, wrong):
    with pytest.raises(ValidationError):
        token_create(**{"owner": alice, "name": "x", "actor": "a", **wrong})


def test_the_command_prints_the_token_once(alice, capsys):
    call_command("create_token", "alice", "--name", "cron", "--scope", "write", "--days", "2")
    out = capsys.readouterr().out.strip()
    token = token_authenticate(out)
    assert (token.name, token.scope) == ("cron", "write")
    assert timedelta(days=1.9) < token.expires_at - timezone.now() < timedelta(days=2.1)
    with pytest.raises(CommandError, match="nobody"):
        call_command("create_token", "mallory")
    with pytest.raises(CommandError, match="past"):
        call_command("create_token", "alice", "--days", "-1")
