"""Joining: the modes, one answer for every refusal with the true reason kept, hostile names."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.utils import timezone

from chat.models import AccessAttempt, Invite, Person
from chat.portal.people_join import refusal
from tests.chat.people.conftest import PASSWORD, joining

pytestmark = pytest.mark.django_db


def sentences(response) -> list[str]:
    """What the page says in its errors."""
    return re.findall(r"</span> ([^<]+)</(?:li|p)>", response.content.decode())


def test_joining_by_invitation(client, invited) -> None:
    invite, code = invited()
    page = client.get("/join").content.decode()
    assert "portal/js/join.js" in page
    assert code not in page
    response = client.post("/join", joining(code.lower(), "Eve", display_name="Eve Müller", email="Eve@Example.org"))
    assert (response.status_code, response["Location"]) == (302, "/chat/")
    eve = Person.objects.get()
    assert (eve.username, eve.display_name, eve.email) == ("eve", "Eve Müller", "eve@example.org")
    assert eve.check_password(PASSWORD)
    assert not eve.is_staff
    assert client.get("/chat/").status_code == 200
    invite.refresh_from_db()
    assert invite.uses == 1
    assert invite.used_by.get().person == eve
    address = eve.emailaddress_set.get()
    assert (address.email, address.verified) == ("eve@example.org", False)
    outcomes = list(AccessAttempt.objects.values_list("kind", "outcome", "invite", "person"))
    assert ("register", "ok", invite.pk, eve.pk) in outcomes


def test_every_refusal_is_the_same_and_the_true_reason_is_kept(client, invited, mode) -> None:
    codes = {"not_found": "0000-1111-2222-3333-4444-5555-6666", "invalid": "--", "no_code": ""}
    for name, change in (
        ("expired", {"expires_at": timezone.now() - timedelta(hours=3)}),
        ("used_up", {"uses": 1}),
        ("revoked", {"revoked_at": timezone.now()}),
    ):
        invite, codes[name] = invited()
        Invite.objects.filter(pk=invite.pk).update(**change)
    seen = set()
    for code in codes.values():
        response = client.post("/join", joining(code))
        seen.add((response.status_code, tuple(sentences(response))))
    mode("closed")
    _invite, good = invited()
    response = client.post("/join", joining(good))
    seen.add(
        (response.status_code, tuple(sentence for sentence in sentences(response) if "at present" not in sentence))
    )
    assert seen == {(403, (refusal(),))}
    kept = list(AccessAttempt.objects.order_by("pk").values_list("kind", "outcome"))
    assert kept == [("invite", reason) for reason in (*codes, "closed")]
    assert AccessAttempt.objects.get(outcome="expired").invite is not None
    assert not Person.objects.exists()


def test_the_three_modes_change_live(client, mode, settings) -> None:
    settings.REGISTRATION = "open"
    assert client.post("/join", joining("", "ann")).status_code == 302
    client.logout()
    mode("invite")
    assert client.post("/join", joining("", "ben")).status_code == 403
    mode("closed")
    assert "Nobody can join at present" in client.get("/join").content.decode()
    assert client.post("/join", joining("", "ben")).status_code == 403
    mode("open")
    assert client.post("/join", joining("", "ben")).status_code == 302
    assert set(Person.objects.values_list("username", flat=True)) == {"ann", "ben"}


def test_a_wrong_code_in_open_registration_still_says_so(client, mode) -> None:
    mode("open")
    assert client.post("/join", joining("0000-0000")).status_code == 403


def test_without_a_code_nobody_learns_which_names_exist(client, ada) -> None:
    known, unknown = client.post("/join", joining("", "ada")), client.post("/join", joining("", "nobody"))
    assert known.status_code == unknown.status_code == 403
    hide = re.compile(r'name="csrfmiddlewaretoken" value="[^"]+"|value="(ada|nobody)"')
    assert hide.sub("", known.content.decode()) == hide.sub("", unknown.content.decode())


def test_what_is_wrong_stands_at_its_field_and_the_invitation_stays(client, invited, ada) -> None:
    invite, code = invited()
    response = client.post("/join", joining(code, "Ada", password="ada", email="no"))
    assert response.status_code == 400
    text = response.content.decode()
    assert "Somebody has this name already." in text
    assert "too short" in text
    assert "not an e-mail address" in text
    assert 'value="ada"' not in text.replace('value="Ada"', ""), "the password must not come back"
    invite.refresh_from_db()
    assert invite.uses == 0


@pytest.mark.parametrize(
    "name",
    ["ab", "a" * 101, "e\x00ve", "eve\u202egpj", "<b>eve", "éve", "eve eve", "-eve", "..", "а\u0064а", "e" * 10_000],
)
def test_names_that_cannot_be(client, invited, name: str) -> None:
    _invite, code = invited()
    assert client.post("/join", joining(code, name)).status_code == 400
    assert not Person.objects.exists()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("\u202eevE\u202c\u2066", "evE"),
        ("Eve\r\n\tMüller\x07\x1b[31m", "Eve Müller[31m"),
        ("\u200b\u2060\ufeff", ""),
        ("  👩\u200d🔬  Ada ", "👩\u200d🔬 Ada"),
        ("e\u0301", "é"),
    ],
)
def test_shown_names_are_cleaned_and_escaped(client, invited, given: str, kept: str) -> None:
    _invite, code = invited()
    assert client.post("/join", joining(code, display_name=given)).status_code == 302
    assert Person.objects.get().display_name == kept
    page = client.get("/profile/").content.decode()
    assert "<script>alert" not in page


@pytest.mark.parametrize("name", ["x" * 151, "x" * 10_000, "nul\x00nul"])
def test_shown_names_that_cannot_be(client, invited, name: str) -> None:
    _invite, code = invited()
    assert client.post("/join", joining(code, display_name=name)).status_code == 400


def test_somebody_who_is_in_already(client, ada, invited) -> None:
    invite, code = invited()
    client.force_login(ada)
    assert "signed in as ada" in client.get("/join").content.decode()
    assert client.post("/join", joining(code, "second")).status_code == 200
    invite.refresh_from_db()
    assert invite.uses == 0
    assert not Person.objects.filter(username="second").exists()


def test_forged_requests_do_not_count(strict, invited) -> None:
    _invite, code = invited()
    assert strict.post("/join", joining(code)).status_code == 403
    page = strict.get("/join").content.decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert token is not None
    assert strict.post("/join", joining(code, csrfmiddlewaretoken=token[1])).status_code == 302


def test_the_root_leads_everybody_to_their_place(client, ada, root) -> None:
    assert client.get("/")["Location"] == "/account/login/"
    client.force_login(ada)
    assert client.get("/")["Location"] == "/chat/"
    client.force_login(root)
    assert client.get("/")["Location"] == "/admin/"
