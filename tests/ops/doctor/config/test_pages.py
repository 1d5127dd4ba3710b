"""The page and the API of settings."""

from __future__ import annotations

import json

import pytest
from django.urls import reverse

from ops.configuration import envfile, listing
from ops.live import live_clear, live_set
from ops.models import RepairRun
from ops.network.places import PUBLIC_PROBE
from ops.services.services import service_save
from ops.services.tokens import token_create

SECRET = "sk-abcd-1234567890-wxyz"


@pytest.fixture
def operator(django_user_model, client, db):
    person = django_user_model.objects.create_user("ada", password="a long passphrase", is_staff=True)
    client.force_login(person)
    return person


@pytest.mark.django_db(transaction=True)
class TestListing:
    def test_every_setting_has_its_source_and_secrets_are_masked(self, env_path):
        service_save(
            actor="t", name="own", kind="openai", base_url="http://127.0.0.1:9/v1", credentials={"api_key": SECRET}
        )
        rows = {row.name: row for row in listing.rows()}
        assert rows["own.credentials.api_key"].value == "sk-a****wxyz"
        assert rows["own.base_url"].edit == "service"
        assert rows["own.base_url"].can_test
        assert rows["SECRET_KEY"].source == "generated"
        assert "is not changed from here" in rows["SECRET_KEY"].why_not
        assert rows["TURN_ATTEMPTS"].source == "default"
        assert rows["TURN_ATTEMPTS"].edit == "file"
        assert SECRET not in json.dumps([row.to_dict() for row in rows.values()])

    def test_a_live_value_counts_first_and_an_unknown_name_is_listed(self, env_path):
        envfile.write(env_path, "MATRIX_HOMESERVER_ULR", "http://x:1")
        live_set(key=PUBLIC_PROBE, value="http://127.0.0.1:1", actor="person:ada")
        try:
            rows = {row.name: row for row in listing.rows()}
            assert (rows[PUBLIC_PROBE].source, rows[PUBLIC_PROBE].value) == ("live", "http://127.0.0.1:1")
        finally:
            live_clear(key=PUBLIC_PROBE, actor="t")
        assert not rows["MATRIX_HOMESERVER_ULR"].valid
        assert "MATRIX_HOMESERVER_URL" in rows["MATRIX_HOMESERVER_ULR"].problem

    def test_what_waits_for_the_next_start_is_told(self, env_path):
        envfile.write(env_path, "HISTORY_MESSAGES", "77")
        row = listing.row("HISTORY_MESSAGES")
        assert row.value == "40"
        assert row.pending == "77 from the next start"

    def test_an_operators_row_of_a_service_wins_over_the_environment(self, env_path):
        service_save(actor="t", name="letta", kind="letta", base_url="http://127.0.0.1:9", managed_by="operator")
        row = listing.row("LETTA_BASE_URL")
        assert (row.source, row.value, row.target) == ("service", "http://127.0.0.1:9", "service:letta")


@pytest.mark.django_db(transaction=True)
class TestPages:
    def test_the_page_lists_tests_and_leads_to_the_preview(self, client, operator, env_path):
        service_save(
            actor="t", name="own", kind="openai", base_url="http://127.0.0.1:9/v1", credentials={"api_key": SECRET}
        )
        page = client.get(reverse("admin:ops_livesetting_changelist")).content.decode()
        assert "own.credentials.api_key" in page
        assert "sk-a****wxyz" in page
        assert SECRET not in page
        found = client.post(reverse("admin:ops_setting_test"), {"name": "own.base_url"}, follow=True)
        assert "own.base_url" in found.content.decode()
        answer = client.post(
            reverse("admin:ops_repair_plan", args=["config.edit"]),
            {"do": "plan", "target": "setting:TURN_ATTEMPTS", "field": "base_url", "value": "6"},
        )
        assert "TURN_ATTEMPTS is set" in answer.content.decode()
        assert not RepairRun.objects.exists()

    def test_only_what_is_wrong_and_the_grid(self, client, operator, env_path):
        envfile.write(env_path, "TURN_ATTEMPTS", "many")
        page = client.get(reverse("admin:ops_livesetting_changelist"), {"invalid": "1"}).content.decode()
        assert "TURN_ATTEMPTS" in page
        assert "DELIVERY_ATTEMPTS" not in page
        assert client.get(reverse("admin:ops_reach")).status_code == 200

    def test_strangers_see_nothing(self, client, db):
        assert client.get(reverse("admin:ops_livesetting_changelist")).status_code == 302


@pytest.mark.django_db(transaction=True)
def test_the_api_lists_and_tests(client, django_user_model, env_path):
    person = django_user_model.objects.create_user("bob", is_staff=True)
    _, plain = token_create(owner=person, name="ci", actor="t", scope="write")
    headers = {"Authorization": f"Bearer {plain}"}
    service_save(
        actor="t", name="own", kind="openai", base_url="http://127.0.0.1:9/v1", credentials={"api_key": SECRET}
    )
    listed = client.get("/api/v1/settings", headers=headers).json()
    names = {row["name"] for row in listed["items"]}
    assert {"PORT", "own.base_url", "LETTA_TOKEN"} <= names
    assert SECRET not in json.dumps(listed)
    tested = client.post("/api/v1/settings/own.base_url/test", headers=headers).json()
    assert tested["ok"] is False
    assert client.post("/api/v1/settings/NOPE/test", headers=headers).status_code == 404
    assert client.get("/api/v1/settings").status_code == 401
