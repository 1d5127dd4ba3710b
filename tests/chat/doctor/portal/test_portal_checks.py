"""What the portal's checks see and what they leave alone, as far as rows alone decide it."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
from django.utils import timezone

from chat.doctor.portal import invites, keys, passwords, sessions, sockets
from chat.doctor.portal.sockets import peak, wanted
from chat.models import AccessAttempt, Invite, Person, ProgramLogin, SigningKey, SocketClose
from chat.services.invites import invite_create
from chat.services.program_logins import login_open
from chat.services.reset_handed import reset_handed
from chat.services.signing_keys import signing_key
from ops.live import live_set
from ops.models import CheckState, Sighting
from ops.origins import REFUSED, SERVICE

pytestmark = pytest.mark.django_db


@pytest.fixture
def bea(db) -> Person:
    return Person.objects.create_user("bea", password="a long passphrase")


def wrong(person: Person, times: int = 5, **fields: object) -> None:
    for _ in range(times):
        AccessAttempt.objects.create(kind="sign_in", outcome="wrong_password", person=person, **fields)


class TestPasswords:
    def test_a_right_password_or_a_link_settles_the_wrong_ones(self, bea) -> None:
        wrong(bea, 4)
        assert passwords.bad_credentials().status == "pass"
        wrong(bea, 1)
        assert "5 times" in passwords.bad_credentials().sentence
        AccessAttempt.objects.create(kind="sign_in", outcome="ok", person=bea)
        assert passwords.bad_credentials().status == "pass"
        wrong(bea, 5)
        assert passwords.bad_credentials().status == "warn"
        reset_handed(person=bea)
        assert passwords.bad_credentials().status == "pass"

    def test_yesterdays_and_names_of_nobody_are_no_issue(self, bea) -> None:
        wrong(bea, 9, at=timezone.now() - timedelta(hours=25))
        for _ in range(50):
            AccessAttempt.objects.create(kind="sign_in", outcome="unknown", name="guess")
        found = passwords.bad_credentials()
        assert (found.status, found.evidence["unknown_names"]) == ("pass", 50)

    def test_many_people_cost_one_query_each_check(self, bea, django_assert_num_queries) -> None:
        for number in range(30):
            wrong(Person.objects.create_user(f"p{number}"))
        with django_assert_num_queries(2):
            assert len(passwords.bad_credentials().affected) == 30

    def test_a_closed_account_that_was_opened_again_is_no_issue(self, bea) -> None:
        AccessAttempt.objects.create(kind="sign_in", outcome="inactive", person=bea)
        assert passwords.user_disabled().status == "pass"
        Person.objects.filter(pk=bea.pk).update(is_active=False, deactivated_by="person:ada")
        assert "by person:ada, without a reason" in passwords.user_disabled().sentence


class TestInvites:
    def test_only_what_still_does_not_count(self) -> None:
        invite, _ = invite_create(actor="test")
        AccessAttempt.objects.create(kind="invite", outcome="expired", invite=invite)
        assert invites.invite_invalid().status == "pass"
        Invite.objects.filter(pk=invite.pk).update(revoked_at=timezone.now())
        found = invites.invite_invalid()
        assert found.status == "fail"
        assert "was revoked" in found.sentence

    def test_guesses_turn_nothing_red(self) -> None:
        for _ in range(200):
            AccessAttempt.objects.create(kind="invite", outcome="not_found")
        found = invites.invite_invalid()
        assert (found.status, found.evidence["refused"]) == ("pass", {"not_found": 200})

    def test_a_wrong_clock_is_red(self, monkeypatch) -> None:
        monkeypatch.setattr(invites, "clock_skews", lambda: {"a": 3600.0, "b": 3601.0, "c": 0.0})
        found = invites.invite_timezone()
        assert found.status == "fail"
        assert "3600 s ahead of" in found.sentence


class TestKeys:
    def test_a_key_that_changed_without_rotation(self) -> None:
        key = signing_key()
        first = keys.ephemeral()
        assert first.status == "pass"
        now = timezone.now()
        CheckState.objects.create(
            check_id=keys.CHECK, status="pass", sentence="x", since=now, checked_at=now, evidence=first.evidence
        )
        secret = str.__str__(key.secret)
        assert secret not in str(first.evidence)
        key.secret = "z" * 64
        key.save()
        assert "nobody rotated it" in keys.ephemeral().sentence

    def test_lost_keys_are_red_only_while_programs_are_signed_in(self, bea) -> None:
        assert keys.ephemeral().status == "pass"
        login_open(person=bea, actor="test")
        SigningKey.objects.all().delete()
        assert "it was lost" in keys.ephemeral().sentence


class TestSessions:
    def test_used_ended_and_expired_ones_are_no_issue(self, bea) -> None:
        login_open(person=bea, actor="test")
        assert sessions.token_expired().status == "pass"
        then = timezone.now() - timedelta(days=60)
        ProgramLogin.objects.update(last_used_at=then)
        assert sessions.token_expired().status == "warn"
        ProgramLogin.objects.update(revoked_at=timezone.now(), revoked_reason="An old refresh token was used.")
        found = sessions.token_expired()
        assert found.status == "pass"
        assert "used twice" in found.sentence


class TestSockets:
    def test_a_peak_is_half_of_the_drops_at_one_time(self) -> None:
        assert peak(Counter({60: 20, 61: 5, 59: 3, 12: 4, 300: 2})) == (60, 28, 34)
        assert peak(Counter(dict.fromkeys(range(3, 60), 1))) is None
        assert peak(Counter({60: 7})) is None
        assert peak(Counter({0: 50, 1: 50})) is None

    def test_the_heartbeat_gets_shorter_and_never_too_short(self) -> None:
        assert wanted(60, 20) == 13
        assert wanted(30, 20) == 10
        assert wanted(10, 6) == 5

    def test_a_changed_heartbeat_begins_anew(self) -> None:
        hour = timezone.now().replace(minute=0, second=0, microsecond=0)
        SocketClose.objects.create(hour=hour, code=1006, seconds=60, count=30)
        SocketClose.objects.create(hour=hour, code=1000, seconds=60, count=300)
        assert sockets.flapping().status == "warn"
        live_set(key=sockets.HEARTBEAT, value=10, actor="test")
        assert sockets.flapping().status == "pass"

    def test_a_few_refusals_among_many_sockets_are_no_issue(self) -> None:
        hour = timezone.now().replace(minute=0, second=0, microsecond=0)
        SocketClose.objects.create(hour=hour, code=1000, seconds=5, count=100)
        row = SocketClose.objects.create(hour=hour, code=4401, seconds=0, count=20)
        assert sockets.token_missing().status == "pass"
        SocketClose.objects.filter(pk=row.pk).update(count=60)
        assert sockets.token_missing().status == "fail"


def test_a_strange_origin_is_amber_and_an_own_one_red(settings) -> None:
    from chat.doctor.portal.origins import cors

    settings.ALLOWED_HOSTS = [".example.org"]
    now = timezone.now()
    place = {"service": SERVICE, "kind": REFUSED, "hour": now, "first_at": now, "last_at": now, "count": 14}
    Sighting.objects.create(**place, label="https://evil.example.com")
    found = cors()
    assert found.status == "warn"
    Sighting.objects.create(**place, label="https://chat.example.org")
    found = cors()
    assert (found.status, found.fix.params["value"]) == ("fail", "https://chat.example.org")
    assert "refused 14 times" in found.sentence
    live_set(key="ALLOWED_ORIGINS", value="https://chat.example.org", actor="test")
    assert cors().status == "warn"
