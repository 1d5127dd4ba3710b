"""Access tokens, the keys that sign them, refresh tokens that rotate, personal tokens."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from io import StringIO
from typing import Any

import jwt
import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from chat.access import programs, signing
from chat.access.identity import still_valid
from chat.access.programs import identity_of_bearer
from chat.models import Person, ProgramLogin, SigningKey
from chat.services import program_logins
from chat.services.people import sign_out_everywhere
from chat.services.personal_tokens import MOST, personal_token_create, personal_token_revoke, personal_tokens
from chat.services.program_logins import RefreshRefused, login_end, login_open, login_refresh
from chat.services.signing_keys import signing_key, signing_key_rotate, signing_keys
from ops.models import ApiToken, AuditEvent
from ops.services.tokens import token_create
from tests.support.stage import in_threads


def opened(person: Person) -> program_logins.Tokens:
    return login_open(person=person, address="192.0.2.7", user_agent="client/1", actor=f"person:{person.username}")


def forget() -> None:
    """What a second does to the caches."""
    programs._recent._known.clear()
    signing.forget_keys()


def refused(token: str) -> str:
    with pytest.raises(RefreshRefused) as caught:
        login_refresh(refresh_token=token)
    return caught.value.code


def passed(login: ProgramLogin, seconds: float) -> None:
    ProgramLogin.objects.filter(pk=login.pk).update(rotated_at=timezone.now() - timedelta(seconds=seconds))


# Access tokens


def test_an_access_token_stands_for_its_person(ada: Person) -> None:
    tokens = opened(ada)
    identity = identity_of_bearer(tokens.access)
    assert identity is not None
    assert (identity.person_id, identity.username, identity.login_id) == (ada.pk, "ada", tokens.login.pk)
    assert identity.actor == "person:ada"
    header = jwt.get_unverified_header(tokens.access)
    claims = jwt.decode(tokens.access, options={"verify_signature": False})
    assert header["alg"] == "HS256"
    assert header["kid"] == SigningKey.objects.get().kid
    assert claims["sub"] == str(ada.pk)
    assert claims["exp"] - claims["iat"] == 15 * 60 == tokens.expires_in


def test_the_key_survives_and_is_no_plain_text_in_the_database(ada: Person) -> None:
    tokens = opened(ada)
    forget()  # another process
    assert identity_of_bearer(tokens.access) is not None
    with connection.cursor() as cursor:
        cursor.execute("SELECT secret FROM chat_signingkey")
        stored = cursor.fetchone()[0]
    assert str.__str__(SigningKey.objects.get().secret) not in stored
    jwt.decode(tokens.access, str.__str__(SigningKey.objects.get().secret), algorithms=["HS256"], issuer="switchboard")


@pytest.mark.parametrize("spoiled", ["", "x", "a.b.c", "swb_", "Bearer", "é.é.é", "." * 5000, "e30.e30."])
def test_nonsense_is_nobody(ada: Person, spoiled: str) -> None:
    assert identity_of_bearer(spoiled) is None


def test_forged_tokens_are_nobody(ada: Person, bob: Person) -> None:
    tokens = opened(ada)
    head, body, signature = tokens.access.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    other = base64.urlsafe_b64encode(json.dumps({**claims, "sub": str(bob.pk)}).encode()).decode().rstrip("=")
    assert identity_of_bearer(f"{head}.{other}.{signature}") is None
    kid = SigningKey.objects.get().kid
    secret = str.__str__(SigningKey.objects.get().secret)
    assert identity_of_bearer(jwt.encode(claims, "", algorithm="none", headers={"kid": kid})) is None
    assert identity_of_bearer(jwt.encode(claims, "another secret" * 5, headers={"kid": kid})) is None
    assert identity_of_bearer(jwt.encode(claims, secret)) is None, "without a key id"
    assert identity_of_bearer(jwt.encode(claims, secret, headers={"kid": "unknown"})) is None
    assert identity_of_bearer(jwt.encode({**claims, "iss": "else"}, secret, headers={"kid": kid})) is None
    late = jwt.encode({**claims, "exp": claims["iat"] - 60}, secret, headers={"kid": kid})
    assert identity_of_bearer(late) is None
    assert identity_of_bearer(jwt.encode({**claims, "epoch": 7}, secret, headers={"kid": kid})) is None
    # A valid one is not taken for another person's, even while the sign-in is known from a moment ago.
    assert identity_of_bearer(tokens.access) is not None
    assert identity_of_bearer(jwt.encode({**claims, "sub": str(bob.pk)}, secret, headers={"kid": kid})) is None


@pytest.mark.parametrize(
    "end",
    [
        lambda login: login_end(login=login, reason="test", actor="test"),
        lambda login: Person.objects.filter(pk=login.person_id).update(access_epoch=1),
        lambda login: Person.objects.filter(pk=login.person_id).update(is_active=False),
        lambda login: ProgramLogin.objects.filter(pk=login.pk).update(expires_at=timezone.now()),
        lambda login: login.person.delete(),
    ],
    ids=["signed out", "epoch", "deactivated", "expired", "deleted"],
)
def test_what_ends_a_sign_in_ends_its_tokens(ada: Person, end: Any) -> None:
    tokens = opened(ada)
    identity = identity_of_bearer(tokens.access)
    assert identity is not None
    end(tokens.login)
    forget()
    assert identity_of_bearer(tokens.access) is None
    assert still_valid([identity]) == set()
    assert refused(tokens.refresh) in {"ended", "unknown"}


def test_ending_a_sign_in_counts_at_once_in_this_process(ada: Person, django_capture_on_commit_callbacks: Any) -> None:
    tokens = opened(ada)
    assert identity_of_bearer(tokens.access) is not None
    with django_capture_on_commit_callbacks(execute=True):
        assert login_end(login=tokens.login, reason="test", actor="person:ada")
    assert identity_of_bearer(tokens.access) is None
    assert not login_end(login=tokens.login, reason="again", actor="person:ada")
    assert AuditEvent.objects.filter(action="program.signed_out").count() == 1


def test_a_valid_token_is_asked_about_once_a_second(ada: Person, django_assert_num_queries: Any) -> None:
    tokens = opened(ada)
    identity_of_bearer(tokens.access)
    with django_assert_num_queries(0):
        assert identity_of_bearer(tokens.access) is not None


# Keys


def test_rotation_signs_nobody_out(ada: Person) -> None:
    before = opened(ada)
    key = signing_key_rotate(actor="test")
    after = login_refresh(refresh_token=before.refresh)
    assert jwt.get_unverified_header(after.access)["kid"] == key.kid != jwt.get_unverified_header(before.access)["kid"]
    forget()
    assert identity_of_bearer(before.access) is not None
    assert identity_of_bearer(after.access) is not None
    assert signing_keys().count() == 2
    # Once its tokens have expired, the old key counts no more.
    SigningKey.objects.exclude(pk=key.pk).update(retired_at=timezone.now())
    forget()
    assert identity_of_bearer(before.access) is None
    assert [one.pk for one in signing_keys()] == [key.pk]


def test_rotation_at_once_ends_the_old_key(ada: Person) -> None:
    before = opened(ada)
    signing_key_rotate(actor="test", at_once=True)
    forget()
    assert identity_of_bearer(before.access) is None
    assert identity_of_bearer(login_refresh(refresh_token=before.refresh).access) is not None


@pytest.mark.django_db(transaction=True)
def test_many_who_need_the_first_key_make_one() -> None:
    keys = in_threads(6, lambda number: signing_key().pk)
    assert len(set(keys)) == 1
    assert SigningKey.objects.count() == 1


def test_the_command_lists_and_rotates(ada: Person) -> None:
    out = StringIO()
    call_command("signing_keys", stdout=out)
    assert "none yet" in out.getvalue()
    first = signing_key()
    out = StringIO()
    call_command("signing_keys", rotate=True, stdout=out)
    assert out.getvalue().count("signs") == 2
    assert first.kid in out.getvalue()
    assert str.__str__(first.secret) not in out.getvalue()
    assert signing_key().pk != first.pk


# Refresh tokens


def test_a_refresh_token_rotates(ada: Person) -> None:
    first = opened(ada)
    second = login_refresh(refresh_token=first.refresh)
    third = login_refresh(refresh_token=second.refresh)
    assert len({first.refresh, second.refresh, third.refresh}) == 3
    assert identity_of_bearer(third.access) is not None
    row = ProgramLogin.objects.get()
    for tokens in (first, second, third):
        assert tokens.refresh not in (row.digest, row.previous_digest)


def test_a_lost_answer_may_be_asked_for_again(ada: Person) -> None:
    first = opened(ada)
    lost = login_refresh(refresh_token=first.refresh)
    again = login_refresh(refresh_token=first.refresh)
    assert again.refresh == lost.refresh
    assert login_refresh(refresh_token=again.refresh)


def test_an_old_token_after_the_grace_ends_the_family(ada: Person) -> None:
    first = opened(ada)
    second = login_refresh(refresh_token=first.refresh)
    passed(first.login, 31)
    assert refused(first.refresh) == "reused"
    assert refused(second.refresh) == "ended"
    forget()
    assert identity_of_bearer(second.access) is None
    assert ProgramLogin.objects.get().revoked_reason == "An old refresh token was used."


def test_an_older_token_ends_the_family_even_within_the_grace(ada: Person) -> None:
    first = opened(ada)
    second = login_refresh(refresh_token=first.refresh)
    login_refresh(refresh_token=second.refresh)
    assert refused(first.refresh) == "reused"
    assert ProgramLogin.objects.get().revoked_at is not None


def test_a_guess_ends_nothing(ada: Person) -> None:
    tokens = opened(ada)
    guess = f"swr_{tokens.login.pk.hex}.{'x' * 43}.{'0' * 16}"
    assert refused(guess) == "unknown"
    assert refused("nonsense") == "unknown"
    assert refused(f"swr_{'0' * 32}.{'x' * 43}.{'0' * 16}") == "unknown"
    assert login_refresh(refresh_token=tokens.refresh)


@pytest.mark.django_db(transaction=True)
def test_several_at_once_get_the_same_and_end_nothing(ada: Person) -> None:
    tokens = opened(ada)
    results = in_threads(6, lambda number: login_refresh(refresh_token=tokens.refresh).refresh)
    assert len(set(map(str, results))) == 1, results
    assert login_refresh(refresh_token=results[0])


def test_all_sign_ins_of_a_person_end_together(ada: Person, bob: Person) -> None:
    opened(ada), opened(ada)
    kept = opened(bob)
    sign_out_everywhere(person=ada, actor="person:ada")
    assert ProgramLogin.objects.filter(person=ada, revoked_at=None).count() == 0
    assert identity_of_bearer(kept.access) is not None
    assert ProgramLogin.objects.filter(revoked_at=None).count() == 1


# Personal tokens


def test_a_personal_token_stands_for_its_owner(ada: Person) -> None:
    token, plain = personal_token_create(person=ada, name="laptop", actor="person:ada")
    identity = identity_of_bearer(plain)
    assert identity is not None
    assert (identity.person_id, identity.token_id) == (ada.pk, token.pk)
    personal_token_revoke(person=ada, token_id=token.pk, actor="person:ada")
    assert identity_of_bearer(plain) is None
    assert still_valid([identity]) == set()
    assert list(personal_tokens(ada)) == []


def test_an_operators_token_does_not_chat_and_a_personal_one_does_not_operate(ada: Person, client: Any) -> None:
    Person.objects.filter(pk=ada.pk).update(is_staff=True)
    ada.refresh_from_db()
    _, operating = token_create(owner=ada, name="ci", scope="write", actor="test")
    assert identity_of_bearer(operating) is None
    _, chatting = personal_token_create(person=ada, name="laptop", actor="test")
    answer = client.get("/api/v1/me", headers={"Authorization": f"Bearer {chatting}"})
    assert answer.status_code == 401


def test_nobody_revokes_anothers_token_and_there_are_not_endlessly_many(ada: Person, bob: Person) -> None:
    token, _ = personal_token_create(person=ada, name="laptop", actor="test")
    with pytest.raises(ApiToken.DoesNotExist):
        personal_token_revoke(person=bob, token_id=token.pk, actor="person:bob")
    for number in range(MOST - 1):
        personal_token_create(person=ada, name=f"{number}", actor="test")
    with pytest.raises(ValidationError):
        personal_token_create(person=ada, name="one more", actor="test")
