"""Tickets of sockets: once, for a moment, and never longer than what they stand on."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from chat.access.identity import Identity, identity_of_session_key
from chat.access.tickets import ticket_issue, ticket_redeem, tickets_prune
from chat.models import Person, ProgramLogin, SocketTicket

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada() -> Person:
    return Person.objects.create_user("ada", password="a long enough one")


def _browser(ada: Person) -> Identity:
    client = Client()
    client.force_login(ada)
    identity = identity_of_session_key(client.session.session_key or "")
    assert identity is not None
    return identity


def test_it_opens_once(ada: Person) -> None:
    identity = _browser(ada)
    text = ticket_issue(identity=identity, actor="person:ada")
    assert ticket_redeem(text) == identity
    assert ticket_redeem(text) is None


def test_the_database_does_not_hold_it(ada: Person) -> None:
    text = ticket_issue(identity=_browser(ada), actor="person:ada")
    row = SocketTicket.objects.get()
    assert text not in {str(value) for value in vars(row).values()}


def test_it_expires(ada: Person) -> None:
    text = ticket_issue(identity=_browser(ada), actor="person:ada")
    SocketTicket.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert ticket_redeem(text) is None


@pytest.mark.parametrize("text", ["", "guess", "x" * 5000, "\x00"])
def test_what_was_never_issued_opens_nothing(text: str) -> None:
    assert ticket_redeem(text) is None


def test_the_end_of_the_session_ends_it(ada: Person) -> None:
    text = ticket_issue(identity=_browser(ada), actor="person:ada")
    Session.objects.all().delete()
    assert ticket_redeem(text) is None


def test_a_new_epoch_ends_it(ada: Person) -> None:
    text = ticket_issue(identity=_browser(ada), actor="person:ada")
    Person.objects.update(access_epoch=1)
    assert ticket_redeem(text) is None


def test_the_end_of_a_program_s_sign_in_ends_it(ada: Person) -> None:
    login = ProgramLogin.objects.create(person=ada, digest="d", expires_at=timezone.now() + timedelta(days=1))
    identity = Identity(ada.pk, "ada", 0, login_id=login.pk)
    assert ticket_redeem(ticket_issue(identity=identity, actor="person:ada")) == identity
    text = ticket_issue(identity=identity, actor="person:ada")
    ProgramLogin.objects.update(revoked_at=timezone.now())
    assert ticket_redeem(text) is None


def test_old_ones_are_forgotten(ada: Person) -> None:
    ticket_issue(identity=_browser(ada), actor="person:ada")
    assert tickets_prune() == 0
    SocketTicket.objects.update(expires_at=timezone.now() - timedelta(hours=2))
    assert tickets_prune() == 1
