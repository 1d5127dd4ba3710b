"""The profile: what people change of themselves, and how they leave."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from chat.models import Person
from chat.services import portal
from ops.models import ApiToken, AuditEvent
from tests.chat.people.conftest import PASSWORD

pytestmark = pytest.mark.django_db


@pytest.fixture
def mine(client, ada) -> Client:
    client.force_login(ada)
    return client


def test_what_people_change_of_themselves(mine, ada) -> None:
    given = {"display_name": "Ada \u202eLovelace", "language": "de", "time_zone": "Europe/London", "theme": "dark"}
    assert mine.post("/profile/", given).status_code == 302
    ada.refresh_from_db()
    assert (ada.display_name, ada.language, ada.time_zone) == ("Ada Lovelace", "de", "Europe/London")
    assert ada.preferences["theme"] == "dark"
    assert AuditEvent.objects.get(action="person.changed").after["time_zone"] == "Europe/London"
    page = mine.get("/profile/").content.decode()
    assert 'lang="de"' in page
    assert 'data-theme="dark"' in page


@pytest.mark.parametrize(
    "wrong",
    [
        {"time_zone": "Mars/Olympus"},
        {"time_zone": "../../etc/passwd"},
        {"language": "xx"},
        {"theme": "neon"},
        {"display_name": "x" * 151},
    ],
)
def test_what_cannot_be(mine, ada, wrong: dict[str, str]) -> None:
    given = {"display_name": "Ada", "language": "", "time_zone": "", "theme": "auto", **wrong}
    assert mine.post("/profile/", given).status_code == 400
    ada.refresh_from_db()
    assert ada.display_name == "Ada L."


def test_the_form_changes_nothing_else(mine, ada) -> None:
    mine.post(
        "/profile/", {"display_name": "A", "theme": "auto", "is_staff": "on", "username": "root", "email": "x@y.org"}
    )
    ada.refresh_from_db()
    assert (ada.is_staff, ada.username, ada.email) == (False, "ada", "ada@example.org")


def test_a_token_is_shown_once(mine, ada) -> None:
    page = mine.post("/profile/tokens/", {"name": "phone <b>"}).content.decode()
    token = ApiToken.objects.get(owner=ada)
    assert f"swb_{token.prefix}." in page
    assert "phone &lt;b&gt;" in page
    later = mine.get("/profile/").content.decode()
    assert f"swb_{token.prefix}…" in later
    assert f"swb_{token.prefix}." not in later
    assert mine.post("/profile/tokens/", {"name": " "}).status_code == 302
    assert ApiToken.objects.count() == 1


class TestLeaving:
    def leave(self, client: Client, **given: str) -> Any:
        return client.post(
            "/profile/delete", {"username": "ada", "password": PASSWORD, "conversations": "keep", **given}
        )

    @pytest.mark.parametrize(
        "wrong", [{"username": "Adam"}, {"password": "wrong"}, {"conversations": ""}, {"conversations": "all"}]
    )
    def test_a_slip_deletes_nothing(self, mine, ada, wrong: dict[str, str]) -> None:
        answer = self.leave(mine, **wrong)
        assert answer.status_code == 400
        assert 'role="alert"' in answer.content.decode()
        assert Person.objects.filter(pk=ada.pk).exists()
        assert mine.get("/profile/").status_code == 200

    def test_forged_requests_delete_nothing(self, strict, ada) -> None:
        strict.force_login(ada)
        assert self.leave(strict).status_code == 403
        assert Person.objects.filter(pk=ada.pk).exists()

    def test_the_password_is_guessed_at_ten_times(self, mine, ada, clock) -> None:
        codes = [self.leave(mine, password="wrong").status_code for _ in range(11)]
        assert codes == [400] * 10 + [429]

    @pytest.mark.parametrize("choice", ["keep", "delete"])
    def test_leaving(self, mine, ada, bob, stage, choice: str) -> None:
        agent = stage.agent("one")
        membership = portal.conversation_start(person=ada, agent=agent, actor="test")
        theirs = portal.conversation_start(person=bob, agent=agent, actor="test")
        conversation = membership.conversation
        answer = self.leave(mine, conversations=choice)
        assert answer.status_code == 200
        assert "Your account is deleted" in answer.content.decode()
        assert not Person.objects.filter(pk=ada.pk).exists()
        assert mine.get("/profile/").status_code == 302
        assert type(conversation).objects.filter(pk=conversation.pk).exists() == (choice == "keep")
        assert type(conversation).objects.filter(pk=theirs.conversation_id).exists()
        event = AuditEvent.objects.get(action="person.deleted")
        assert (event.actor, event.before) == ("person:ada", {"username": "ada", "conversations": choice})

    def test_the_only_operator_cannot_leave(self, client, root) -> None:
        client.force_login(root)
        answer = self.leave(client, username="root")
        assert answer.status_code == 400
        assert "only operator" in answer.content.decode()
