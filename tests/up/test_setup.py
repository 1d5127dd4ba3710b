"""The set-up link: one operator, once; a new password for one who lost it; clear pages for the rest."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from agents.matrix.errors import HomeserverUnreachable, Taken
from agents.services.homeserver_admin import CannotAdminister
from chat.models import Person
from chat.services import matrix_account
from controlplane.models import SetupLink
from controlplane.setup import services
from controlplane.setup.links import _token, find_link, setup_token
from ops.models import AuditEvent, Job, Service
from ops.services.services import service_save

pytestmark = pytest.mark.django_db

PASSWORD = "brass-cord-and-lamp"
FORM = {"username": "maria", "display_name": "Maria", "password": PASSWORD, "again": PASSWORD}


@pytest.fixture
def path() -> str:
    return f"/setup/{setup_token(person=None, actor='system')}/"


@pytest.fixture
def homeserver() -> Service:
    return service_save(
        actor="system", name="homeserver", kind="homeserver", base_url="http://127.0.0.1:1",
        credentials={"as_token": "a", "hs_token": "h", "registration_shared_secret": "s"},
        options={"server_name": "x.localhost", "local": True, "sender_localpart": "switchboard", "user_prefix": "agent_"},
    )  # fmt: skip


@pytest.fixture
def registered(monkeypatch):
    """Accounts that were made on the homeserver: (name, password, display name)."""
    made = []

    def user_create(*, homeserver, localpart, password, display_name, actor):
        made.append((localpart, password, display_name, actor))
        return f"@{localpart}:x.localhost"

    monkeypatch.setattr(matrix_account, "user_create", user_create)
    return made


def test_first_operator(client, path):
    page = client.get(path)
    assert page.status_code == 200
    assert page["Referrer-Policy"] == "same-origin"
    assert "no-store" in page["Cache-Control"]
    answer = client.post(path, FORM)
    assert (answer.status_code, answer["Location"]) == (302, "/setup/done/")
    person = Person.objects.get()
    assert (person.username, person.display_name, person.is_staff, person.is_superuser) == (
        "maria",
        "Maria",
        True,
        True,
    )
    assert person.check_password(PASSWORD)
    assert client.session["_auth_user_id"] == str(person.pk)
    assert "Ready, Maria." in client.get("/setup/done/").content.decode()
    assert PASSWORD not in str(list(AuditEvent.objects.values()))


def test_locked_afterwards(client, path):
    client.post(path, FORM)
    for again in (client.get(path), client.post(path, {**FORM, "username": "eve"})):
        assert again.status_code == 404
        assert "does not work (any more)" in again.content.decode()
    assert Person.objects.count() == 1


def test_a_second_open_link_is_locked_too(client, path):
    other = SetupLink.objects.create(nonce="n2", expires_at=timezone.now() + timedelta(hours=1))
    client.post(path, FORM)
    assert other.is_open
    assert client.get(f"/setup/{_token('n2')}/").status_code == 404


def test_two_at_once_make_one_operator(client, path):
    """The link is used up between the look at it and the write."""
    link = SetupLink.objects.get()
    SetupLink.objects.update(used_at=timezone.now())
    with pytest.raises(services.LinkUsed):
        services.create_first_operator(link=link, username="eve", display_name="", password=PASSWORD)
    assert not Person.objects.exists()


@pytest.mark.parametrize("token", ["nonsense", "a" * 43, "%00", "ä"])
def test_unknown_links(client, path, token):
    assert client.get(f"/setup/{token}/").status_code == 404


def test_expired_link(client, path):
    SetupLink.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    page = client.get(path)
    assert page.status_code == 404
    assert "manage.py setup_link" in page.content.decode()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"again": "something else"}, "not the same"),
        ({"password": "12345678", "again": "12345678"}, "too common"),
        ({"password": "maria1234", "again": "maria1234"}, "too similar"),
        ({"password": "", "again": ""}, "required"),
        ({"username": "Maria Müller"}, "lower-case letters"),
        ({"username": ""}, "required"),
    ],
)
def test_what_the_form_refuses(client, path, change, sentence):
    page = client.post(path, {**FORM, **change})
    assert page.status_code == 400
    text = page.content.decode()
    assert sentence in text
    assert PASSWORD not in text
    assert not Person.objects.exists()
    assert client.get(path).status_code == 200, "the link is not used up"


def test_names_of_the_homeserver_are_refused(client, path, homeserver, registered):
    for name in ("switchboard", "agent_x"):
        assert client.post(path, {**FORM, "username": name}).status_code == 400
    assert registered == []


def test_matrix_account(client, path, homeserver, registered):
    client.post(path, FORM)
    assert registered == [("maria", PASSWORD, "Maria", "setup_link")]
    assert Person.objects.get().matrix_user_id == "@maria:x.localhost"
    job = Job.objects.get()
    assert (job.kind, job.actor) == ("agents.sync", "person:maria")
    page = client.get("/setup/done/").content.decode()
    assert "@maria:x.localhost" in page
    assert "http://127.0.0.1:1" in page


def test_homeserver_that_is_down_does_not_cost_the_operator(client, path, homeserver, monkeypatch):
    def down(*arguments, **options):
        raise HomeserverUnreachable("no answer", where="http://127.0.0.1:1", action="register maria")

    monkeypatch.setattr(matrix_account, "user_create", down)
    client.post(path, FORM)
    person = Person.objects.get()
    assert (person.is_superuser, person.matrix_user_id) == (True, "")
    page = client.get("/setup/done/").content.decode()
    assert "Your Matrix account could not be made" in page
    assert "setup_link --for maria" in page


def test_a_homeserver_that_has_no_way_for_it_does_not_either(client, path, homeserver, monkeypatch):
    def cannot(*arguments, **options):
        raise CannotAdminister("An administrator is needed: give the service a token (admin_token).")

    monkeypatch.setattr(matrix_account, "user_create", cannot)
    client.post(path, FORM)
    assert Person.objects.get().matrix_user_id == ""
    assert "(admin_token)" in client.get("/setup/done/").content.decode()


def taken(*arguments, **options):
    raise Taken("taken", errcode="M_USER_IN_USE", status=400, where="http://127.0.0.1:1", action="register maria")


def test_account_that_exists_on_the_local_homeserver_is_taken_over(client, path, homeserver, monkeypatch):
    monkeypatch.setattr(matrix_account, "user_create", taken)
    client.post(path, FORM)
    assert Person.objects.get().matrix_user_id == "@maria:x.localhost"
    assert "keeps the password that it had" in client.get("/setup/done/").content.decode()


def test_account_that_exists_elsewhere_may_be_anybodys(client, path, homeserver, monkeypatch):
    Service.objects.update(options={"server_name": "example.org"})
    monkeypatch.setattr(matrix_account, "user_create", taken)
    client.post(path, FORM)
    assert Person.objects.get().matrix_user_id == ""
    assert Job.objects.count() == 0


def test_lost_password(client, capsys):
    person = Person.objects.create_superuser("maria", password="old-and-forgotten")
    call_command("setup_link", "--for", "maria")
    path = "/setup/" + capsys.readouterr().out.strip().partition("/setup/")[2]
    other = type(client)()
    other.force_login(person)
    assert "A new password for maria" in client.get(path).content.decode()
    assert client.post(path, {"password": "maria1234", "again": "maria1234"}).status_code == 400
    assert client.post(path, {"password": PASSWORD, "again": PASSWORD}).status_code == 302
    person.refresh_from_db()
    assert person.check_password(PASSWORD)
    assert client.get(path).status_code == 404
    # The session from before the change is over.
    assert other.get("/setup/done/").status_code == 404


def test_link_command(capsys):
    call_command("setup_link")
    first = capsys.readouterr().out
    call_command("setup_link")
    assert capsys.readouterr().out == first
    assert SetupLink.objects.count() == 1
    call_command("setup_link", "--new")
    assert capsys.readouterr().out != first
    assert find_link(first.strip().rstrip("/").rpartition("/")[2]) is None
    Person.objects.create_superuser("maria", password=PASSWORD)
    with pytest.raises(CommandError, match="an operator already"):
        call_command("setup_link")
    with pytest.raises(CommandError, match="no person with the user name 'eve'"):
        call_command("setup_link", "--for", "eve")


def test_the_database_alone_opens_nothing(path):
    token = path.strip("/").rpartition("/")[2]
    stored = str(list(SetupLink.objects.values()))
    assert token not in stored


def test_done_page_is_for_the_one_who_is_signed_in(client):
    assert client.get("/setup/done/").status_code == 404
