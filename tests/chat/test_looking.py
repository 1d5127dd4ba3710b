"""An operator who looks at the portal as a person: reading only, audited, for a while, and never as another operator."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session
from django.core.exceptions import ValidationError
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from agents.models import Agent
from chat.access.identity import identity_of_session_key, still_valid
from chat.access.tickets import ticket_issue, ticket_redeem
from chat.models import Conversation, Impersonation, Membership, Message, Person
from chat.services.impersonation import LASTS, impersonation_start, impersonations_expire
from chat.services.portal import conversation_start
from ops.models import AuditEvent, Service

pytestmark = pytest.mark.django_db


@pytest.fixture
def bea(db) -> Person:
    return Person.objects.create_user("bea", password="a long passphrase", display_name="Bea")


@pytest.fixture
def ada(db) -> Person:
    return Person.objects.create_superuser("ada", password="a long passphrase")


@pytest.fixture
def talk(bea) -> Conversation:
    service = Service.objects.create(name="demo", kind="demo")
    agent = Agent.objects.create(service=service, external_id="demo-echo", name="Echo")
    return conversation_start(person=bea, agent=agent, title="Private words", actor="person:bea").conversation


@pytest.fixture
def browser(ada) -> Client:
    client = Client()
    client.force_login(ada)
    return client


def begin(browser: Client, person: Person, reason: str = "They see an empty page") -> None:
    answer = browser.post(reverse("admin:chat_person_deed", args=[person.pk, "look"]), {"reason": reason})
    assert answer.status_code == 302


def key_of(browser: Client) -> str:
    return browser.cookies["switchboard_session"].value


def titles(browser: Client) -> list[str]:
    return [row["title"] for row in browser.get("/api/v1/chat/conversations").json()["items"]]


class TestLooking:
    def test_the_pages_show_what_the_person_sees_with_a_banner(self, browser, bea, talk) -> None:
        assert titles(browser) == []
        begin(browser, bea)
        assert titles(browser) == ["Private words"]
        page = browser.get("/chat/").content.decode()
        assert "see the portal as Bea does" in page
        started = AuditEvent.objects.get(action="impersonation.started")
        assert (started.actor, started.message) == ("person:ada", "They see an empty page")

    def test_nothing_is_changed_as_the_person(self, browser, bea, talk) -> None:
        begin(browser, bea)
        path = f"/api/v1/chat/conversations/{talk.pk}"
        for method, address, body in (
            ("post", f"{path}/messages", '{"client_id": "a", "text": "Hello"}'),
            ("patch", path, '{"title": "Mine"}'),
            ("delete", path, ""),
            ("post", f"{path}/read", '{"seq": 1}'),
            ("put", f"{path}/draft", '{"text": "x"}'),
            ("post", "/api/v1/chat/conversations", '{"agent": 1}'),
        ):
            answer = getattr(browser, method)(address, body, content_type="application/json")
            assert (answer.status_code, answer.json()["code"]) == (403, "impersonation.read_only"), (method, address)
        talk.refresh_from_db()
        assert talk.title == "Private words"
        assert not Message.objects.exists()
        assert Membership.objects.get().removed_at is None

    def test_secrets_stay_shut(self, browser, bea) -> None:
        begin(browser, bea)
        for address in (
            "/profile/",
            "/account/password/change/",
            "/account/2fa/",
            "/account/email/",
            "/account/sessions/",
        ):
            answer = browser.get(address)
            assert answer.status_code == 403, address
            assert "Not while you look as somebody else" in answer.content.decode()
        assert browser.get("/api/v1/chat/me/tokens").json()["code"] == "impersonation.shut"

    def test_the_desk_stays_the_operators_own(self, browser, bea, ada) -> None:
        begin(browser, bea)
        page = browser.get(reverse("admin:index"))
        assert page.status_code == 200
        assert page.wsgi_request.user == ada
        assert "see the portal as" not in page.content.decode()

    def test_it_ends_with_the_button(self, browser, bea, talk) -> None:
        begin(browser, bea)
        answer = browser.post(reverse("admin:chat_person_look_stop"))
        assert answer["Location"] == reverse("admin:chat_person_change", args=[bea.pk])
        assert titles(browser) == []
        assert "see the portal as" not in browser.get("/chat/").content.decode()
        assert AuditEvent.objects.get(action="impersonation.stopped").actor == "person:ada"

    def test_it_ends_by_itself(self, browser, bea, talk) -> None:
        begin(browser, bea)
        assert Impersonation.objects.get().expires_at - timezone.now() <= LASTS
        Impersonation.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
        assert titles(browser) == []
        assert impersonations_expire() == 1
        assert Impersonation.objects.get().ended_because == "its time was over"

    @pytest.mark.parametrize("what", ["operator", "closed", "reason"])
    def test_whom_and_why(self, browser, bea, ada, what) -> None:
        person, reason = bea, "They asked"
        if what == "operator":
            person = Person.objects.create_superuser("olaf", password="a long passphrase")
        elif what == "closed":
            Person.objects.filter(pk=bea.pk).update(is_active=False)
            person = Person.objects.get(pk=bea.pk)
        else:
            reason = " "
        with pytest.raises(ValidationError):
            impersonation_start(operator=ada, person=person, session_key="k", reason=reason, actor="person:ada")
        browser.post(reverse("admin:chat_person_deed", args=[person.pk, "look"]), {"reason": reason})
        assert not Impersonation.objects.exists()

    def test_a_person_cannot_begin_it(self, bea, ada) -> None:
        other = Person.objects.create_user("cid", password="a long passphrase")
        client = Client()
        client.force_login(bea)
        assert (
            client.post(reverse("admin:chat_person_deed", args=[other.pk, "look"]), {"reason": "x y z"}).status_code
            == 302
        )
        with pytest.raises(ValidationError):
            impersonation_start(operator=bea, person=other, session_key="k", reason="I want", actor="person:bea")
        assert not Impersonation.objects.exists()

    def test_a_stolen_number_does_not_help_another_session(self, browser, bea, ada, talk) -> None:
        begin(browser, bea)
        row = Impersonation.objects.get()
        second = Client()
        second.force_login(ada)
        session = second.session
        session["looks_as"] = row.pk
        session.save()
        assert titles(second) == []

    def test_it_ends_when_the_operator_is_none_any_more(self, browser, bea, ada, talk) -> None:
        begin(browser, bea)
        Person.objects.create_superuser("olaf", password="a long passphrase")
        Person.objects.filter(pk=ada.pk).update(is_staff=False)
        assert titles(browser) == []


class TestSockets:
    def test_the_identity_says_who_looks_and_ends_with_it(self, browser, bea, talk) -> None:
        begin(browser, bea)
        identity = identity_of_session_key(key_of(browser))
        assert identity is not None
        assert (identity.username, identity.impersonator) == ("bea", "person:ada as person:bea")
        assert identity.actor == "person:ada as person:bea"
        assert still_valid([identity]) == {identity}
        browser.post(reverse("admin:chat_person_look_stop"))
        assert still_valid([identity]) == set()
        own = identity_of_session_key(key_of(browser))
        assert own is not None
        assert (own.username, own.impersonator) == ("ada", "")

    def test_it_ends_with_the_operators_session(self, browser, bea) -> None:
        begin(browser, bea)
        identity = identity_of_session_key(key_of(browser))
        assert identity is not None
        Session.objects.all().delete()
        assert still_valid([identity]) == set()
        impersonations_expire()
        assert Impersonation.objects.get().ended_because == "the operator signed out"

    def test_a_ticket_carries_who_looks(self, browser, bea) -> None:
        begin(browser, bea)
        identity = identity_of_session_key(key_of(browser))
        assert identity is not None
        redeemed = ticket_redeem(ticket_issue(identity=identity, actor=identity.actor))
        assert redeemed == identity
        ticket = ticket_issue(identity=identity, actor=identity.actor)
        browser.post(reverse("admin:chat_person_look_stop"))
        assert ticket_redeem(ticket) is None
