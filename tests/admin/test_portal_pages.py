"""The operator's side of the portal: people, invitations, attempts, quotas, use, files."""

from __future__ import annotations

import csv
import io
import re
from datetime import timedelta
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from allauth.usersessions.models import UserSession
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from chat.models import AccessAttempt, AgentGrant, Attachment, Invite, Person, ProgramLogin, Quota, UsageDay
from chat.services.invites import invite_create
from chat.services.program_logins import login_open
from chat.services.quotas import quota_set
from ops.live import live_set
from ops.models import AuditEvent
from ops.services.tokens import token_create
from tests.admin.conftest import World

TODAY = timezone.now().date()


def audited(action: str) -> AuditEvent:
    return AuditEvent.objects.filter(action=action).latest("id")


def deed(client: Any, row: Any, name: str, **asked: Any) -> Any:
    address = reverse(f"admin:chat_{row._meta.model_name}_deed", args=[row.pk, name])
    return client.post(address, asked, follow=True)


def text_of(answer: Any) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", answer.content.decode()).split())


def test_every_page_of_the_portal_opens(world: World, client: Any) -> None:
    invite, _ = invite_create(actor="test", note="Lyon")
    quota = quota_set(person=world.person, messages_per_day=5, tokens_per_day=None, actor="test")
    file = Attachment.objects.create(
        owner=world.person, name="a.png", media_type="image/png", size=2048, sha256="ab", path="ab"
    )
    for address in (
        reverse("admin:chat_person_change", args=[world.person.pk]),
        reverse("admin:chat_person_edit", args=[world.person.pk]),
        reverse("admin:chat_invite_change", args=[invite.pk]),
        reverse("admin:chat_invite_add"),
        reverse("admin:chat_invite_check"),
        reverse("admin:chat_quota_change", args=[quota.pk]),
        reverse("admin:chat_quota_add"),
        reverse("admin:chat_quota_edit", args=[quota.pk]),
        reverse("admin:usage"),
        reverse("admin:chat_attachment_change", args=[file.pk]),
        *(reverse("admin:chat_person_deed", args=[world.person.pk, name]) for name in ("look", "agents", "quota", "sign_out", "deactivate", "delete", "reset")),
    ):  # fmt: skip
        assert client.get(address).status_code == 200, address
        other = Client()
        assert other.get(address).status_code == 302, address
        other.force_login(world.person)
        assert "/login" in other.get(address)["Location"], address


class TestPeople:
    def test_the_list_tells_sessions_failures_and_second_factor_in_a_constant_number_of_queries(
        self, world: World, client: Any
    ) -> None:
        for _ in range(3):
            AccessAttempt.objects.create(kind="sign_in", outcome="wrong_password", person=world.person)
        AccessAttempt.objects.create(kind="sign_in", outcome="ok", person=world.person)
        AccessAttempt.objects.create(
            kind="sign_in", outcome="wrong_password", person=world.person, at=timezone.now() - timedelta(days=8)
        )
        for number in range(2):
            UserSession.objects.create(user=world.person, session_key=f"k{number}", ip="127.0.0.1")
        address = reverse("admin:chat_person_changelist")
        page = client.get(address)
        row = next(one for one in page.context["cl"].result_list if one.pk == world.person.pk)
        assert (row.open_sessions, row.failed, row.has_second) == (2, 3, False)

        def queries() -> int:
            with CaptureQueriesContext(connection) as asked:
                client.get(address)
            return len(asked)

        queries()
        few = queries()
        Person.objects.bulk_create([Person(username=f"p{number}") for number in range(40)])
        assert queries() == few

    def test_deactivated_with_a_reason_shown_and_reactivated(self, world: World, client: Any) -> None:
        page = deed(client, world.person, "deactivate", reason="Left the team")
        assert "Left the team" in text_of(page)
        assert "By person:ada" in text_of(page)
        world.person.refresh_from_db()
        assert not world.person.is_active
        assert audited("person.deactivated").message == "Left the team"
        deed(client, world.person, "reactivate")
        world.person.refresh_from_db()
        assert world.person.is_active

    def test_without_a_reason_nothing_happens(self, world: World, client: Any) -> None:
        page = deed(client, world.person, "deactivate", reason="")
        assert "This field is required" in page.content.decode()
        world.person.refresh_from_db()
        assert world.person.is_active

    def test_a_reset_link_is_shown_once_with_a_qr_code(self, world: World, client: Any) -> None:
        page = deed(client, world.person, "reset").content.decode()
        link = re.search(r'data-copy="(http[^"]+)"', page)
        assert link is not None
        assert "<svg" in page
        path = "/" + link[1].split("/", 3)[3]
        assert Client().get(path, follow=True).status_code == 200
        assert link[1].rsplit("/", 2)[1] not in str(audited("person.reset_link").__dict__)

    def test_an_operator_vouches_for_an_address_or_hands_the_link_over(self, world: World, client: Any) -> None:
        """Where no mail server is set nobody could prove an address otherwise."""
        address = reverse("admin:chat_person_deed", args=[world.person.pk, "confirm_email"])
        page = reverse("admin:chat_person_change", args=[world.person.pk])
        EmailAddress.objects.filter(user=world.person).delete()
        assert "Confirm e-mail" not in text_of(client.get(page)), "there is nothing to confirm"
        for email in ("old@example.org", "new@example.org"):
            EmailAddress.objects.create(user=world.person, email=email, verified=False)
        assert "Confirm e-mail" in text_of(client.get(page))
        shown = text_of(client.get(address))
        assert "old@example.org" in shown
        assert len(re.findall(r"/account/confirm-email/", shown)) == 2
        deed(client, world.person, "confirm_email", email="nobody@example.org")
        assert not EmailAddress.objects.filter(verified=True, user=world.person).exists(), "only one of theirs"
        EmailAddress.objects.create(user=world.operator, email="old@example.org", verified=True)
        refused = deed(client, world.person, "confirm_email", email="old@example.org")
        assert "Somebody else has proved that old@example.org is theirs." in text_of(refused)
        deed(client, world.person, "confirm_email", email="new@example.org")
        world.person.refresh_from_db()
        assert world.person.email == "new@example.org"
        assert list(EmailAddress.objects.filter(user=world.person).values_list("email", "verified")) == [
            ("new@example.org", True)
        ]
        assert audited("person.email_confirmed").actor == "person:ada"

    def test_one_browser_program_and_token_end_and_nobody_elses(self, world: World, client: Any) -> None:
        theirs = Client()
        theirs.force_login(world.person)
        theirs.get("/chat/")
        session = UserSession.objects.get(user=world.person)
        login_open(person=world.person, actor="test")
        login = ProgramLogin.objects.get()
        token, _ = token_create(owner=world.person, name="mine", scope="chat", actor="test")
        end = reverse("admin:chat_person_end", args=[world.person.pk])
        wrong = reverse("admin:chat_person_end", args=[world.operator.pk])
        for kind, key in (("browser", session.pk), ("program", login.pk), ("token", token.pk)):
            assert "has ended already" in text_of(client.post(wrong, {"kind": kind, "key": key}, follow=True))
        login.refresh_from_db()
        assert login.revoked_at is None
        for kind, key in (("browser", session.pk), ("program", login.pk), ("token", token.pk)):
            assert "is ended" in text_of(client.post(end, {"kind": kind, "key": key}, follow=True))
        login.refresh_from_db()
        token.refresh_from_db()
        assert login.revoked_at is not None
        assert token.revoked_at is not None
        assert not Session.objects.filter(session_key=session.session_key).exists()
        assert theirs.get("/chat/").status_code == 302

    def test_signed_out_everywhere_and_oneself_stays_here(self, world: World, client: Any) -> None:
        theirs = Client()
        theirs.force_login(world.person)
        theirs.get("/chat/")
        deed(client, world.person, "sign_out")
        assert theirs.get("/chat/").status_code == 302
        answer = deed(client, world.operator, "sign_out")
        assert "except here" in text_of(answer)
        assert client.get(reverse("admin:index")).status_code == 200

    def test_deleted_only_with_the_name_typed(self, world: World, client: Any) -> None:
        deed(client, world.person, "delete", conversations="keep", typed="Bea")
        assert Person.objects.filter(pk=world.person.pk).exists()
        deed(client, world.person, "delete", conversations="keep", typed="bea")
        assert not Person.objects.filter(pk=world.person.pk).exists()
        audited("person.deleted")

    def test_the_only_operator_stays(self, world: World, client: Any) -> None:
        for name, asked in (("deactivate", {"reason": "why"}), ("delete", {"conversations": "keep", "typed": "ada"})):
            assert "only operator" in text_of(deed(client, world.operator, name, **asked))
        assert Person.objects.filter(pk=world.operator.pk, is_active=True).exists()

    def test_some_agents_then_all(self, world: World, client: Any) -> None:
        deed(client, world.person, "agents", agents=[world.agent.pk])
        world.person.refresh_from_db()
        assert not world.person.all_agents
        assert AgentGrant.objects.get().agent == world.agent
        assert audited("person.agents_set").after == {"all_agents": False, "agents": [world.agent.pk]}
        deed(client, world.person, "agents", all_agents="on")
        world.person.refresh_from_db()
        assert world.person.all_agents
        assert not AgentGrant.objects.exists()


class TestInvites:
    def test_made_shown_once_and_found_by_the_check(self, world: World, client: Any) -> None:
        page = client.post(reverse("admin:chat_invite_add"), {"note": "Lyon", "role": "person", "uses": "2", "days": "7", "all_agents": "on"})  # fmt: skip
        text = page.content.decode()
        code = re.search(r"/join#([0-9A-Z-]+)", text)
        assert code is not None
        assert "<svg" in text
        invite = Invite.objects.get()
        assert (invite.max_uses, invite.note, invite.created_by) == (2, "Lyon", world.operator)
        assert code[1] not in client.get(reverse("admin:chat_invite_change", args=[invite.pk])).content.decode()
        assert code[1] not in str(list(AuditEvent.objects.values()))
        check = reverse("admin:chat_invite_check")
        assert "2 more people may join" in text_of(client.post(check, {"code": code[1].lower()}))
        assert "2 more people may join" in text_of(client.post(check, {"code": f"http://x/join#{code[1]}"}))

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            ({"expires_at": timezone.now() - timedelta(hours=3)}, "It expired 3 h ago"),
            ({"uses": 1}, "It is used up: 1 person has joined"),
            (
                {"revoked_at": timezone.now() - timedelta(hours=5), "revoked_by": "person:ada"},
                "It was revoked 5 h ago by person:ada",
            ),
        ],
    )
    def test_the_check_tells_the_true_state(
        self, world: World, client: Any, change: dict[str, Any], sentence: str
    ) -> None:
        invite, code = invite_create(actor="test")
        Invite.objects.filter(pk=invite.pk).update(**change)
        assert sentence in text_of(client.post(reverse("admin:chat_invite_check"), {"code": code}))

    def test_the_check_knows_wrong_codes_and_a_closed_door(self, world: World, client: Any) -> None:
        check = reverse("admin:chat_invite_check")
        assert "No invitation has this code" in text_of(client.post(check, {"code": "AAAA-BBBB"}))
        assert "That is no code" in text_of(client.post(check, {"code": "---"}))
        _, code = invite_create(actor="test")
        live_set(key="people.registration", value="closed", actor="test")
        assert "registration is closed" in text_of(client.post(check, {"code": code}))

    def test_revoked_brought_back_and_extended(self, world: World, client: Any) -> None:
        invite, _ = invite_create(actor="test")
        deed(client, invite, "revoke")
        invite.refresh_from_db()
        assert invite.state() == "revoked"
        deed(client, invite, "unrevoke")
        invite.refresh_from_db()
        assert invite.state() == "open"
        Invite.objects.filter(pk=invite.pk).update(uses=1)
        deed(client, invite, "extend", days="30", uses="5")
        invite.refresh_from_db()
        assert (invite.max_uses, invite.state()) == (5, "open")
        assert invite.expires_at is not None

    def test_the_list_filters_by_state_and_goes_out_as_csv_without_formulas(self, world: World, client: Any) -> None:
        first, code = invite_create(actor="test", note="=HYPERLINK(1)")
        invite_create(actor="test", note="other")
        Invite.objects.filter(pk=first.pk).update(revoked_at=timezone.now())
        found = client.get(reverse("admin:chat_invite_changelist"), {"state": "revoked"})
        assert [row.pk for row in found.context["cl"].result_list] == [first.pk]
        answer = client.get(reverse("admin:chat_invite_csv"), {"state": "revoked"})
        body = b"".join(answer.streaming_content).decode()
        rows = list(csv.DictReader(io.StringIO(body)))
        assert [(row["state"], row["note"]) for row in rows] == [("revoked", "'=HYPERLINK(1)")]
        assert code not in body


def test_attempts_tell_the_true_outcome_and_are_filtered(world: World, client: Any) -> None:
    AccessAttempt.objects.create(kind="sign_in", outcome="unknown", name="nobody", address="10.0.0.9")
    AccessAttempt.objects.create(kind="sign_in", outcome="ok", person=world.person)
    address = reverse("admin:chat_accessattempt_changelist")
    assert "Nobody has that name" in text_of(client.get(address))
    shown = client.get(address, {"came": "failed"}).context["cl"].result_list
    assert [row.outcome for row in shown] == ["unknown"]
    assert [row.name for row in client.get(address, {"q": "10.0.0.9"}).context["cl"].result_list] == ["nobody"]


class TestQuotas:
    def test_made_for_a_role_changed_and_removed(self, world: World, client: Any) -> None:
        add = reverse("admin:chat_quota_add")
        assert "exactly one of person, agent and role" in text_of(
            client.post(add, {"role": "person", "agent": world.agent.pk, "messages_per_day": "5"})
        )
        assert "Nobody is called" in text_of(client.post(add, {"person": "nobody", "messages_per_day": "5"}))
        client.post(add, {"role": "person", "messages_per_day": "5"})
        row = Quota.objects.get()
        assert (row.role, row.messages_per_day, row.tokens_per_day) == ("person", 5, None)
        client.post(reverse("admin:chat_quota_edit", args=[row.pk]), {"messages_per_day": "0", "tokens_per_day": "100"})
        row.refresh_from_db()
        assert (row.messages_per_day, row.tokens_per_day) == (0, 100)
        assert audited("quota.set").before == {"messages_per_day": 5, "tokens_per_day": None}
        deed(client, row, "remove")
        assert not Quota.objects.exists()

    def test_the_list_shows_what_is_used_today(self, world: World, client: Any) -> None:
        quota_set(person=world.person, messages_per_day=10, tokens_per_day=100, actor="test")
        quota_set(agent=world.agent, messages_per_day=None, tokens_per_day=50, actor="test")
        quota_set(role="person", messages_per_day=20, tokens_per_day=None, actor="test")
        UsageDay.objects.create(
            day=TODAY, person=world.person, agent=world.agent, messages=4, input_tokens=60, output_tokens=40
        )
        UsageDay.objects.create(day=TODAY - timedelta(days=1), person=world.person, agent=world.agent, messages=400)
        text = text_of(client.get(reverse("admin:chat_quota_changelist")))
        assert "4 of 10" in text
        assert "100 of 100, used up" in text
        assert "100 of 50, used up" in text
        assert "20 each" in text
        page = text_of(client.get(reverse("admin:chat_person_change", args=[world.person.pk])))
        assert "4 of 10" in page
        assert "4 of 20" in page


class TestUse:
    @pytest.fixture(autouse=True)
    def used(self, world: World) -> None:
        UsageDay.objects.create(
            day=TODAY, person=world.person, agent=world.agent, messages=4, answers=3, input_tokens=60, output_tokens=40
        )
        UsageDay.objects.create(
            day=TODAY, person=world.operator, agent=world.agent, messages=1, answers=1, output_tokens=7
        )
        UsageDay.objects.create(day=TODAY - timedelta(days=40), agent=world.agent, messages=9)

    def test_sums_by_day_person_agent_and_role(self, world: World, client: Any) -> None:
        page = client.get(reverse("admin:usage"))
        assert "5 messages and 4 answers in 30 days; agents read 60 and wrote 47 tokens." in text_of(page)
        groups = {
            group["name"]: [(line["used"].label, line["used"].messages) for line in group["lines"]]
            for group in page.context["groups"]
        }
        assert groups == {
            "person": [("bea", 4), ("ada", 1)],
            "agent": [("Agent 000", 5)],
            "role": [("Person", 4), ("Operator", 1)],
        }
        year = client.get(reverse("admin:usage"), {"days": "366", "role": "other"})
        assert "9 messages" in text_of(year)

    def test_queries_do_not_grow(self, world: World, client: Any) -> None:
        def queries() -> int:
            with CaptureQueriesContext(connection) as asked:
                client.get(reverse("admin:usage"), {"days": "366"})
            return len(asked)

        queries()
        few = queries()
        people = Person.objects.bulk_create([Person(username=f"p{number}") for number in range(60)])
        UsageDay.objects.bulk_create([UsageDay(day=TODAY, person=one, agent=world.agent, messages=1) for one in people])
        assert queries() == few

    def test_the_file(self, world: World, client: Any) -> None:
        body = b"".join(client.get(reverse("admin:usage_csv"), {"days": "366"}).streaming_content).decode()
        rows = list(csv.DictReader(io.StringIO(body)))
        assert [(row["person"], row["messages"]) for row in rows if row["day"] == TODAY.isoformat()] == [
            ("bea", "4"),
            ("ada", "1"),
        ]
        assert len(rows) == 3
        sums = b"".join(
            client.get(reverse("admin:usage_csv"), {"days": "366", "by": "agent"}).streaming_content
        ).decode()
        assert list(csv.reader(io.StringIO(sums)))[1][:2] == ["Agent 000", "14"]

    def test_nonsense_in_the_address_shows_the_whole(self, world: World, client: Any) -> None:
        assert client.get(reverse("admin:usage"), {"days": "-1", "role": "x", "person": "abc"}).status_code == 200
