"""Users come over with their passwords, whichever Portagent stored them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.hashers import identify_hasher
from django.test import Client, RequestFactory

from chat.access.hashers import of_portagent
from chat.models import ImportedRow, Invite, InviteUse, Person
from chat.services.invites import invite_check
from tests.chat.portagent.conftest import Run
from tests.chat.portagent.fixtures import Portagent, bcrypt_hash, pbkdf2_hash

pytestmark = pytest.mark.django_db

OLD = "portagent-Pässword 1"


@pytest.fixture(autouse=True)
def _real_hashers(settings: Any) -> None:
    """Those of the project, not the quick one that other tests use."""
    quick = "django.contrib.auth.hashers.MD5PasswordHasher"
    settings.PASSWORD_HASHERS = [name for name in settings.PASSWORD_HASHERS if name != quick]


def signs_in(name: str, password: str) -> Person | None:
    found = authenticate(RequestFactory().get("/"), username=name, password=password)
    assert found is None or isinstance(found, Person)
    return found


def test_users_of_portagent_1_sign_in_with_their_old_passwords(old: Portagent) -> None:
    ada = old.user(1, "Ada", email="ada@example.org", passwordHash=bcrypt_hash(OLD), displayName="Ada L.", avatar="🦉")
    old.user(2, "bob", passwordHash=bcrypt_hash("short1"), isActive=0)
    run = Run(old.folder)
    assert run.counts("create") == {"user": 2}
    person = Person.objects.get(email="ada@example.org")
    assert (person.username, person.display_name, person.is_staff) == ("ada", "Ada L.", False)
    assert person.preferences["avatar"] == "🦉"
    assert person.date_joined == datetime(2025, 1, 1, 0, 0, 0, 1000, UTC)
    assert identify_hasher(person.password).algorithm == "portagent_bcrypt"
    assert signs_in("Ada", "wrong") is None
    assert signs_in("ada@example.org", OLD) == person
    person.refresh_from_db()
    assert identify_hasher(person.password).algorithm == "pbkdf2_sha256", "stored in Django's own way from now on"
    assert signs_in("Ada", OLD) == person
    assert ImportedRow.objects.get(kind="user", key=ada).target_id == str(person.pk)
    bob = Person.objects.get(username="bob")
    assert bob.email == "", "the placeholder is no address"
    assert not bob.is_active
    assert signs_in("bob", "short1") is None


def test_users_of_portagent_2_sign_in_with_their_old_passwords(newer: Portagent) -> None:
    newer.user(1, "carol", password_hash=pbkdf2_hash(OLD), role="admin")
    run = Run(newer.folder)
    person = Person.objects.get()
    assert (person.username, person.email, person.is_staff) == ("carol", "carol@example.org", False)
    assert person.date_joined == datetime(2025, 6, 1, 10, 0, 1, tzinfo=UTC)
    assert signs_in("carol@example.org", OLD + "x") is None
    assert signs_in("carol@example.org", OLD) == person
    person.refresh_from_db()
    assert identify_hasher(person.password).algorithm == "pbkdf2_sha256"
    assert "portagent.admin" in run.codes()


def test_administrators_become_operators_when_asked_for(newer: Portagent) -> None:
    newer.user(1, "carol", password_hash=pbkdf2_hash(OLD), role="admin")
    newer.user(2, "dan", password_hash=pbkdf2_hash(OLD))
    Run(newer.folder, operators=True)
    assert set(Person.objects.filter(is_staff=True).values_list("username", flat=True)) == {"carol"}


def test_the_sign_in_page_takes_an_old_password(old: Portagent) -> None:
    old.user(1, "ada", passwordHash=bcrypt_hash(OLD))
    Run(old.folder)
    client = Client()
    client.post("/account/login/", {"login": "ada", "password": OLD})
    assert client.session.get("_auth_user_id") == str(Person.objects.get().pk)


@pytest.mark.parametrize("long", ["x" * 73, "ü" * 60, "x" * 500])
def test_long_passwords_count_as_bun_and_as_bcryptjs_stored_them(old: Portagent, long: str) -> None:
    import bcrypt

    old.user(1, "bun", passwordHash=bcrypt_hash(long))
    old.user(2, "node", passwordHash=bcrypt.hashpw(long.encode()[:72], bcrypt.gensalt(10)).decode())
    Run(old.folder)
    assert signs_in("bun", long[:-1]) is None
    assert signs_in("node", long[:30]) is None
    assert signs_in("bun", long) is not None
    assert signs_in("node", long) is not None


def test_other_makers_of_bcrypt_mean_the_same(old: Portagent) -> None:
    for number, prefix in enumerate(("2a", "2b", "2y"), 1):
        old.user(number, f"user-{prefix}", passwordHash=bcrypt_hash(OLD).replace("$2b$", f"${prefix}$"))
    Run(old.folder)
    for prefix in ("2a", "2b", "2y"):
        assert signs_in(f"user-{prefix}", OLD) is not None


@pytest.mark.parametrize(
    "stored", ["", "plain", "$2b$31$" + "a" * 53, "$2b$10$short", "a:b", "YQ==:YQ==", "$argon2id$v=19$x"]
)
def test_unknown_hashes_open_nothing(old: Portagent, stored: str) -> None:
    assert of_portagent(stored) is None
    old.user(1, "ada", passwordHash=stored)
    run = Run(old.folder)
    assert "portagent.password_unknown" in run.codes()
    person = Person.objects.get()
    assert not person.has_usable_password()
    assert signs_in("ada", stored) is None


# Names and addresses


def test_names_that_differ_by_capitals_both_stay(old: Portagent) -> None:
    old.user(1, "ada", passwordHash=bcrypt_hash("first1"))
    old.user(2, "Ada", passwordHash=bcrypt_hash("second2"))
    run = Run(old.folder)
    assert run.codes() == ["portagent.name_case"]
    assert set(Person.objects.values_list("username", flat=True)) == {"ada", "Ada"}
    first, second = signs_in("ada", "first1"), signs_in("Ada", "second2")
    assert first is not None
    assert second is not None
    assert first != second


def test_a_name_that_is_somebodys_here_is_not_taken_from_them(old: Portagent) -> None:
    ours = Person.objects.create_user("ada", email="ours@example.org", password="ours-12345")
    old.user(1, "Ada", email="ada@example.org", passwordHash=bcrypt_hash(OLD))
    run = Run(old.folder)
    assert run.codes() == ["portagent.name_taken"]
    assert set(Person.objects.values_list("username", flat=True)) == {"ada", "ada-2"}
    assert signs_in("ada", OLD) is None
    assert signs_in("Ada", OLD) is None
    assert signs_in("ada", "ours-12345") == ours
    assert signs_in("ada@example.org", OLD) is not None


def test_match_takes_them_for_the_same_person_and_leaves_the_password(old: Portagent) -> None:
    ours = Person.objects.create_user("ada", password="ours-12345")
    other = Person.objects.create_user("robert", email="bob@example.org", password="ours-12345")
    old.user(1, "Ada", passwordHash=bcrypt_hash(OLD))
    old.user(2, "bob", email="Bob@example.org", passwordHash=bcrypt_hash(OLD))
    Run(old.folder, match=True)
    assert Person.objects.count() == 2
    assert signs_in("ada", OLD) is None
    assert signs_in("ada", "ours-12345") == ours
    assert set(ImportedRow.objects.filter(kind="user").values_list("target_id", flat=True)) == {
        str(ours.pk),
        str(other.pk),
    }


def test_an_address_of_two_is_said(old: Portagent) -> None:
    old.user(1, "ada", email="Same@example.org", passwordHash=bcrypt_hash(OLD))
    old.user(2, "bob", email="same@example.org", passwordHash=bcrypt_hash("other12"))
    run = Run(old.folder)
    assert run.codes() == ["portagent.email_twice"]
    assert Person.objects.filter(email="same@example.org").count() == 2
    assert signs_in("bob", "other12") is not None


# Invitations


def test_invitations_of_portagent_2_count_as_they_did(newer: Portagent) -> None:
    admin = newer.user(1, "carol", password_hash=pbkdf2_hash(OLD), role="admin")
    dan = newer.user(2, "dan", password_hash=pbkdf2_hash(OLD))
    newer.invite("ABCD2345", admin)
    newer.invite("WXYZ6789", admin, dan, "2025-06-02 11:00:00")
    run = Run(newer.folder)
    assert run.counts("create") == {"user": 2, "invite": 2}
    invite, reason = invite_check("abcd2345")
    assert reason == "ok"
    assert invite is not None
    assert (invite.imported, invite.created_by.username) == (True, "carol")
    assert invite_check("WXYZ6789")[1] == "used_up"
    use = InviteUse.objects.get()
    assert (use.person.username, use.at) == ("dan", datetime(2025, 6, 2, 11, 0, tzinfo=UTC))
    assert not Invite.objects.filter(hint__contains="ABCD2345").exists()
    assert "portagent.invite_short" in run.codes()


def test_codes_are_hashed_and_never_told(newer: Portagent) -> None:
    admin = newer.user(1, "carol", password_hash=pbkdf2_hash(OLD))
    newer.invite("ABCD2345", admin)
    run = Run(newer.folder)
    told = str([(one.sentence, one.evidence) for one in run.findings])
    assert "ABCD2345" not in told
    assert OLD not in told


def test_a_second_run_changes_nothing(newer: Portagent, old: Portagent) -> None:
    for place in (newer, old):
        hashed = pbkdf2_hash(OLD) if place.version == 2 else bcrypt_hash(OLD)
        user = place.user(
            place.version,
            f"carol{place.version}",
            **{"password_hash" if place.version == 2 else "passwordHash": hashed},
        )
        if place.version == 2:
            place.invite("ABCD2345", user)
        Run(place.folder)
        before = snapshot()
        again = Run(place.folder)
        assert again.counts("create") == {}
        assert again.counts("unchanged")["user"] == 1
        assert snapshot() == before


def snapshot() -> Any:
    from chat.models import Conversation, Message

    return [
        list(model.objects.order_by("pk").values())
        for model in (Person, Invite, InviteUse, Conversation, Message, ImportedRow)
    ]


def test_what_changed_there_is_said_and_ours_stays(old: Portagent) -> None:
    user = old.user(1, "ada", passwordHash=bcrypt_hash(OLD))
    Run(old.folder)
    with old.users() as users:
        users.execute(
            "UPDATE users SET displayName = 'Countess', passwordHash = ? WHERE userId = ?",
            [bcrypt_hash("new12345"), user],
        )
    run = Run(old.folder)
    assert run.codes() == ["portagent.changed"]
    assert run.counts("changed") == {"user": 1}
    assert Person.objects.get().display_name == ""
    assert signs_in("ada", OLD) is not None
