"""The operators' API about people: who they are, how they join, what they have open, what they use."""

from __future__ import annotations

from datetime import timedelta

import pytest
from allauth.usersessions.models import UserSession
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from chat.models import AccessAttempt, Invite, Person, Quota, UsageDay
from chat.services.program_logins import login_open
from ops.models import AuditEvent, IdempotencyRecord

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def bea(db) -> Person:
    return Person.objects.create_user("bea", email="bea@example.org", password="a long passphrase", display_name="Bea")


def queries(work) -> int:
    with CaptureQueriesContext(connection) as asked:
        work()
    return len(asked)


class TestPeople:
    def test_listed_found_and_paged_in_a_constant_number_of_queries(self, api, bea):
        api("get", "people?limit=200")
        few = queries(lambda: api("get", "people?limit=200"))
        Person.objects.bulk_create([Person(username=f"p{number:03}") for number in range(120)])
        assert queries(lambda: api("get", "people?limit=200")) == few
        assert [row["username"] for row in api.walk("people?limit=50")][-1] == "p119"
        assert [row["username"] for row in api("get", "people?q=example.org")["items"]] == ["bea"]
        assert [row["username"] for row in api("get", "people?role=operator")["items"]] == ["olga"]
        assert api("get", "people?active=false")["items"] == []

    def test_shut_out_and_let_in(self, api, bea):
        found = api("post", f"people/{bea.pk}/deactivate", {"reason": "Left"})
        assert (found["is_active"], found["deactivated_reason"], found["deactivated_by"]) == (False, "Left", "token:ci")
        assert api("post", f"people/{bea.pk}/reactivate")["is_active"]
        assert AuditEvent.objects.filter(action="person.reactivated", actor="token:ci").exists()

    def test_the_only_operator_stays(self, api, operator):
        problem = api("post", f"people/{operator.pk}/deactivate", {}, status=422)
        assert "only operator" in problem["detail"]

    def test_sessions_are_listed_and_ended_one_by_one_and_all(self, api, bea):
        browser = Client()
        browser.force_login(bea)
        browser.get("/chat/")
        login_open(person=bea, user_agent="curl", actor="test")
        rows = api("get", f"people/{bea.pk}/sessions")["items"]
        assert sorted(row["kind"] for row in rows) == ["browser", "program"]
        program = next(row for row in rows if row["kind"] == "program")
        api("delete", f"people/{bea.pk}/sessions/program/{program['key']}", status=204)
        api("delete", f"people/{bea.pk}/sessions/program/{program['key']}", status=404)
        api("delete", f"people/{bea.pk}/sessions/browser/x", status=404)
        api("post", f"people/{bea.pk}/sign-out")
        assert api("get", f"people/{bea.pk}/sessions")["items"] == []
        assert browser.get("/chat/").status_code == 302
        assert not UserSession.objects.filter(user=bea).exists()

    def test_another_persons_session_is_not_ended_by_this_address(self, api, bea, operator):
        login_open(person=bea, actor="test")
        key = api("get", f"people/{bea.pk}/sessions")["items"][0]["key"]
        api("delete", f"people/{operator.pk}/sessions/program/{key}", status=404)

    def test_a_reset_link_is_given_once_and_repeated_only_for_its_key(self, api, bea):
        made = api("post", f"people/{bea.pk}/reset-link", status=201, key="k1")
        assert "/account/password/reset/key/" in made["link"]
        assert api.response.headers["Cache-Control"] == "no-store"
        assert api("post", f"people/{bea.pk}/reset-link", status=201, key="k1") == made
        secret = made["link"].rstrip("/").rsplit("-", 1)[1]
        with connection.cursor() as cursor:
            cursor.execute("SELECT response, sealed FROM ops_idempotencyrecord")
            stored = str(cursor.fetchall())
        assert secret not in stored
        assert secret not in str(list(AuditEvent.objects.values()))

    def test_whom_they_may_talk_to(self, api, bea, ada):
        found = api("put", f"people/{bea.pk}/agents", {"agents": [ada.pk]})
        assert (found["all_agents"], found["agents"]) == (False, [ada.pk])
        api("put", f"people/{bea.pk}/agents", {"agents": [999]}, status=422)
        assert api("put", f"people/{bea.pk}/agents", {"all_agents": True})["agents"] == []

    def test_deleted_only_with_the_name(self, api, bea):
        api("delete", f"people/{bea.pk}", {"confirm": "Bea"}, status=422)
        api("delete", f"people/{bea.pk}", {"confirm": "bea"}, status=204)
        api("get", f"people/{bea.pk}", status=404)

    def test_reading_tokens_only_read(self, reader, bea):
        assert reader("get", f"people/{bea.pk}")["username"] == "bea"
        reader("post", f"people/{bea.pk}/deactivate", {}, status=403, code="auth.scope")

    def test_people_themselves_are_no_operators(self, bea):
        browser = Client()
        browser.force_login(bea)
        for path in ("people", "invites", "quotas", "usage", "access-attempts", f"people/{bea.pk}"):
            assert browser.get(f"/api/v1/{path}").status_code == 401, path


class TestInvites:
    def test_made_checked_changed_revoked_and_brought_back(self, api, ada):
        made = api(
            "post",
            "invites",
            {"note": "Lyon", "max_uses": 2, "all_agents": False, "agents": [ada.pk]},
            status=201,
            key="i1",
        )
        assert made["link"].endswith(f"#{made['code']}")
        assert (
            api(
                "post",
                "invites",
                {"note": "Lyon", "max_uses": 2, "all_agents": False, "agents": [ada.pk]},
                status=201,
                key="i1",
            )
            == made
        )
        assert Invite.objects.count() == 1
        assert made["code"] not in str(list(IdempotencyRecord.objects.values_list("response", flat=True)))
        listed = api("get", "invites")["items"][0]
        assert "code" not in listed
        assert (listed["code_begins"], listed["agents"]) == (made["code_begins"], [ada.pk])
        assert api("post", "invites/check", {"code": made["link"]})["counts"]
        assert api("post", f"invites/{made['id']}/revoke")["state"] == "revoked"
        found = api("post", "invites/check", {"code": made["code"]})
        assert (found["reason"], found["invite"]) == ("revoked", made["id"])
        assert [row["id"] for row in api("get", "invites?state=revoked")["items"]] == [made["id"]]
        assert api("post", f"invites/{made['id']}/bring-back")["state"] == "open"
        soon = (timezone.now() + timedelta(days=3)).isoformat()
        changed = api("patch", f"invites/{made['id']}", {"expires_at": soon})
        assert (changed["max_uses"], changed["expires_at"] is not None) == (2, True)
        assert api("patch", f"invites/{made['id']}", {"max_uses": None})["max_uses"] is None
        assert AuditEvent.objects.filter(action="invite.created", actor="token:ci").exists()

    def test_what_cannot_be_made(self, api):
        api("post", "invites", {"all_agents": False}, status=422)
        api("post", "invites", {"role": "king"}, status=422)
        api("post", "invites", {"expires_at": "2001-01-01T00:00:00Z"}, status=422)
        api("post", "invites", {"expires_at": "2031-01-01T00:00:00"}, status=422)

    def test_lists_are_constant(self, api, ada):
        for _ in range(2):
            api("post", "invites", {}, status=201)
        few = queries(lambda: api("get", "invites"))
        for _ in range(10):
            api("post", "invites", {}, status=201)
        assert queries(lambda: api("get", "invites")) == few


class TestQuotasAndUse:
    def test_set_read_and_taken_away(self, api, bea, ada):
        made = api("put", "quotas", {"person": bea.pk, "messages_per_day": 5})
        UsageDay.objects.create(
            day=timezone.now().date(), person=bea, agent=ada, messages=3, input_tokens=10, output_tokens=20
        )
        api("put", "quotas", {"agent": ada.pk, "tokens_per_day": 100})
        api("put", "quotas", {"role": "person", "messages_per_day": 9})
        rows = api("get", "quotas")["items"]
        assert [(row["messages_used"], row["tokens_used"]) for row in rows] == [(3, 30), (3, 30), (None, None)]
        assert api("get", f"people/{bea.pk}")["quota"] == [
            {"what": "messages", "used": 3, "limit": 5},
            {"what": "messages", "used": 3, "limit": 9},
        ]
        api("put", "quotas", {"person": bea.pk, "agent": ada.pk, "messages_per_day": 5}, status=422)
        api("put", "quotas", {"person": 999, "messages_per_day": 5}, status=422)
        api("put", "quotas", {"role": "person"}, status=204)
        api("delete", f"quotas/{made['id']}", status=204)
        api("delete", f"quotas/{made['id']}", status=404)
        assert Quota.objects.count() == 1

    def test_the_list_of_quotas_is_constant(self, api, ada):
        api("put", "quotas", {"agent": ada.pk, "tokens_per_day": 100})
        few = queries(lambda: api("get", "quotas"))
        for number in range(10):
            person = Person.objects.create_user(f"q{number}")
            api("put", "quotas", {"person": person.pk, "messages_per_day": 1})
        assert queries(lambda: api("get", "quotas")) == few

    def test_sums(self, api, bea, ada):
        UsageDay.objects.create(
            day=timezone.now().date(), person=bea, agent=ada, messages=3, answers=2, input_tokens=10, output_tokens=20
        )
        UsageDay.objects.create(day=timezone.now().date() - timedelta(days=3), agent=ada, messages=4)
        found = api("get", "usage?by=person&days=7")
        assert [(row["label"], row["messages"]) for row in found["items"]] == [
            ("Others (guests, callers)", 4),
            ("Bea", 3),
        ]
        assert found["total"]["messages"] == 7
        assert [row["key"] for row in api("get", "usage?days=7")["items"]][-1] == timezone.now().date().isoformat()
        assert api("get", f"usage?by=agent&person={bea.pk}")["total"]["messages"] == 3
        api("get", "usage?by=colour", status=422)


def test_attempts_are_filtered(api, bea):
    AccessAttempt.objects.create(kind="sign_in", outcome="wrong_password", person=bea, name="bea")
    AccessAttempt.objects.create(kind="invite", outcome="not_found")
    AccessAttempt.objects.create(kind="sign_in", outcome="ok", person=bea)
    assert [row["outcome"] for row in api("get", "access-attempts?outcome=failed")["items"]] == [
        "not_found",
        "wrong_password",
    ]
    assert [row["kind"] for row in api("get", f"access-attempts?person={bea.pk}&outcome=ok")["items"]] == ["sign_in"]
    assert [row["kind"] for row in api("get", "access-attempts?kind=invite")["items"]] == ["invite"]
