"""Ending what people have open: browsers, programs, tokens, tickets; by password, by hand, by closing and deleting."""

from __future__ import annotations

import time
from typing import Any

import pytest
from allauth.usersessions.models import UserSession
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.models import Session
from django.core.exceptions import ValidationError
from django.test import Client

from chat import live
from chat.access.identity import Identity, identity_of_session, still_valid
from chat.access.programs import identity_of_bearer
from chat.models import Person, ProgramLogin
from chat.services import people
from chat.services.personal_tokens import personal_token_create
from chat.services.program_logins import RefreshRefused, login_open, login_refresh
from chat.services.sessions import session_end
from ops.models import AuditEvent
from ops.services.tokens import token_authenticate
from tests.chat.people.conftest import PASSWORD, signing_in

pytestmark = pytest.mark.django_db(transaction=True)


class Everything:
    """One person with two browsers, a program, a token, and the identities that their sockets would hold."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self.browsers = [Client(), Client()]
        for browser in self.browsers:
            browser.post("/account/login/", signing_in(person.username))
        self.tokens = login_open(person=person, actor="test")
        self.token, self.secret = personal_token_create(person=person, name="phone", actor="test")
        person.refresh_from_db()
        self.identities = [
            *(
                Identity(person.pk, person.username, person.access_epoch, session_key=b.session.session_key)
                for b in self.browsers
            ),
            Identity(person.pk, person.username, person.access_epoch, login_id=self.tokens.login.pk),
            Identity(person.pk, person.username, person.access_epoch, token_id=self.token.pk),
        ]
        assert self.opens() == [True, True, True, True]
        assert still_valid(self.identities) == set(self.identities)

    def opens(self) -> list[bool]:
        """Whether each of them still opens a door: the browsers, the program, the token."""
        return [
            *(browser.get("/profile/").status_code == 200 for browser in self.browsers),
            identity_of_bearer(self.tokens.access) is not None,
            identity_of_bearer(self.secret) is not None,
        ]


@pytest.fixture
def everything(ada, monkeypatch) -> Everything:
    return Everything(ada)


@pytest.fixture
def told(monkeypatch) -> list[Any]:
    """What a person's sockets are told."""
    frames: list[Any] = []
    monkeypatch.setattr(
        live, "publish_person", lambda person_id, frame: frames.append((person_id, frame)), raising=False
    )
    return frames


def test_closing_an_account_ends_everything_at_once(everything, told, root) -> None:
    began = time.monotonic()
    people.person_deactivate(person=everything.person, reason="left the company", actor="person:root")
    assert everything.opens() == [False] * 4
    assert still_valid(everything.identities) == set()
    assert time.monotonic() - began < 2
    assert (everything.person.pk, {"type": "access"}) in told
    with pytest.raises(RefreshRefused):
        login_refresh(refresh_token=everything.tokens.refresh)
    assert token_authenticate(everything.secret) is None
    row = Person.objects.get(pk=everything.person.pk)
    assert (row.is_active, row.deactivated_by, row.deactivated_reason) == (False, "person:root", "left the company")
    assert row.deactivated_at is not None
    # What was open stays shut after reopening; only the personal token, which nobody revoked, counts again.
    people.person_reactivate(person=everything.person, actor="person:root")
    assert everything.opens() == [False, False, False, True]
    row.refresh_from_db()
    assert (row.is_active, row.deactivated_at, row.deactivated_reason) == (True, None, "")
    assert everything.browsers[0].post("/account/login/", signing_in("ada")).status_code == 302
    actions = set(AuditEvent.objects.values_list("action", flat=True))
    assert {"person.deactivated", "person.reactivated"} <= actions


def test_signing_out_everywhere_keeps_the_one_browser(everything, told) -> None:
    mine = everything.browsers[0]
    assert mine.post("/profile/everywhere/end", {"tokens": "1"}).status_code == 302
    assert everything.opens() == [True, False, False, False]
    assert still_valid(everything.identities) == set()
    assert (everything.person.pk, {"type": "access"}) in told
    assert UserSession.objects.filter(user=everything.person).count() == 1


def test_signing_out_everywhere_leaves_the_tokens_unless_asked(everything) -> None:
    everything.browsers[0].post("/profile/everywhere/end")
    assert everything.opens() == [True, False, False, True]


def test_a_new_password_ends_all_but_this_browser(everything) -> None:
    mine = everything.browsers[1]
    answer = mine.post(
        "/account/password/change/",
        {"oldpassword": PASSWORD, "password1": "a-new-one-29!", "password2": "a-new-one-29!"},
    )
    assert answer.status_code == 302, answer.content.decode()
    assert everything.opens() == [False, True, False, True]
    fresh = Client()
    assert fresh.post("/account/login/", signing_in("ada")).status_code == 200
    assert fresh.post("/account/login/", signing_in("ada", "a-new-one-29!")).status_code == 302


def test_sessions_that_nobody_wrote_down_end_too(ada) -> None:
    """Made by other doors than ours: nothing but the epoch in Django's proof holds them."""
    browser = Client()
    browser.force_login(ada)
    UserSession.objects.all().delete()
    people.sign_out_everywhere(person=ada, actor="test")
    assert Session.objects.count() == 1
    assert browser.get("/profile/").status_code == 302
    assert SESSION_KEY not in browser.session


def test_raising_the_epoch_for_the_first_time_ends_no_other_persons_session(ada, bob) -> None:
    browser = Client()
    browser.force_login(bob)
    people.sign_out_everywhere(person=ada, actor="test")
    assert browser.get("/profile/").status_code == 200


def test_ending_one_browser(everything, told) -> None:
    mine, other = everything.browsers
    row = UserSession.objects.get(session_key=other.session.session_key)
    assert mine.post(f"/profile/browsers/{row.pk}/end").status_code == 302
    assert everything.opens() == [True, False, True, True]
    assert still_valid(everything.identities) == set(everything.identities) - {everything.identities[1]}
    assert told[-1] == (everything.person.pk, {"type": "access"})
    own = UserSession.objects.get(session_key=mine.session.session_key)
    assert mine.post(f"/profile/browsers/{own.pk}/end")["Location"] == "/account/login/"
    assert everything.opens()[0] is False


def test_ending_a_program_and_a_token(everything) -> None:
    mine = everything.browsers[0]
    assert mine.post(f"/profile/programs/{everything.tokens.login.pk}/end").status_code == 302
    assert everything.opens() == [True, True, False, True]
    assert mine.post(f"/profile/tokens/{everything.token.pk}/end").status_code == 302
    assert everything.opens() == [True, True, False, False]


def test_nobody_ends_what_is_another_persons(everything, bob) -> None:
    theirs = Client()
    theirs.force_login(bob)
    row = UserSession.objects.filter(user=everything.person).first()
    assert row is not None
    for path in (
        f"/profile/browsers/{row.pk}/end",
        f"/profile/programs/{everything.tokens.login.pk}/end",
        f"/profile/tokens/{everything.token.pk}/end",
    ):
        assert theirs.post(path).status_code == 404
    assert everything.opens() == [True] * 4


def test_an_operator_who_takes_the_tick_away_ends_everything(everything, root) -> None:
    person = everything.person
    person.is_active = False
    people.person_save(person=person, changed=["is_active"], actor="person:root")
    assert everything.opens() == [False] * 4
    person.refresh_from_db()
    assert person.deactivated_by == "person:root"


def test_the_last_operator_stays(root) -> None:
    for act in (
        lambda: people.person_deactivate(person=root, reason="", actor="test"),
        lambda: people.person_delete(person=root, actor="test"),
    ):
        with pytest.raises(ValidationError, match="only operator"):
            act()
    root.refresh_from_db()
    assert root.is_active


def test_two_who_close_the_same_account_leave_one_event(ada) -> None:
    stale = Person.objects.get(pk=ada.pk)
    people.person_deactivate(person=ada, reason="first", actor="person:a")
    people.person_deactivate(person=stale, reason="second", actor="person:b")
    assert stale.deactivated_reason == "first"
    assert not stale.is_active
    assert AuditEvent.objects.filter(action="person.deactivated").count() == 1


def test_a_demoted_operator_loses_what_was_open(root) -> None:
    other = Person.objects.create_user("op", password=PASSWORD, is_staff=True)
    browser = Client()
    browser.force_login(other)
    other.is_staff = False
    people.person_save(person=other, changed=["is_staff"], actor="person:root")
    assert browser.get("/profile/").status_code == 302


def test_a_session_is_kept_by_one_person_only(ada, rf) -> None:
    """What a socket would be opened with after the epoch rose: the new one."""
    browser = Client()
    browser.force_login(ada)
    request = rf.get("/")
    request.user, request.session = ada, browser.session
    before = identity_of_session(request)
    people.sign_out_everywhere(person=ada, keep_session=browser.session.session_key, actor="test")
    after = identity_of_session(request)
    assert before is not None
    assert after is not None
    assert still_valid([before, after]) == {after}


def test_ending_by_an_operator(everything) -> None:
    row = UserSession.objects.filter(user=everything.person).latest("pk")
    session_end(session=row, actor="person:root")
    event = AuditEvent.objects.get(action="session.ended")
    assert (event.actor, event.target_id) == ("person:root", str(everything.person.pk))
    assert ProgramLogin.objects.filter(revoked_at=None).count() == 1
