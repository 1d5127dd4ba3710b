"""Alerts in the admin and over the API. An address goes in and never comes out."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from ops.models import AlertChannel, AlertMessage, MaintenanceWindow
from ops.services.alerts import channel_test
from ops.services.tokens import token_create
from tests.api.conftest import Api

SECRET = "aB3dEf6hIj9kLm2n"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def olga(django_user_model, transactional_db):
    return django_user_model.objects.create_user("olga", password="xk-29-dune-walker", is_staff=True)


@pytest.fixture
def browser(olga):
    client = Client()
    client.force_login(olga)
    return client


@pytest.fixture
def api(olga):
    return Api(token_create(owner=olga, name="ci", scope="write", actor="test")[1])


def shown(browser, name, *args):
    answer = browser.get(reverse(f"admin:{name}", args=args))
    assert answer.status_code == 200, answer
    text = answer.content.decode()
    assert SECRET not in text
    return text


class TestAdmin:
    def test_a_channel_from_form_to_test_to_deletion(self, browser, hook):
        add = reverse("admin:ops_alertchannel_add")
        form = {"name": "hook", "url": f"json://127.0.0.1:{hook.port}/{SECRET}", "min_severity": "error", "tell_recovery": "on",
                "remind_every_minutes": "60", "timezone": "Europe/Berlin", "only_checks": "db.*, disk.space"}  # fmt: skip
        answer = browser.post(add, {**form, "timezone": "Nowhere"})
        assert "Not a time zone" in answer.content.decode()
        assert SECRET not in answer.content.decode()
        answer = browser.post(add, form)
        row = AlertChannel.objects.get()
        assert answer.status_code == 302
        assert row.only_checks == ["db.*", "disk.space"]
        assert "JSON at 127.0.0.1" in shown(browser, "ops_alertchannel_changelist")
        page = shown(browser, "ops_alertchannel_change", row.pk)
        assert "Not tested yet" in page
        assert reverse("admin:ops_alertchannel_edit", args=[row.pk]) in page
        deed = [reverse("admin:ops_alertchannel_deed", args=[row.pk, name]) for name in ("test", "disable", "delete")]
        assert browser.post(deed[0]).status_code == 302
        assert hook.titles == ["Switchboard: test"]
        assert "Switchboard: test" in shown(browser, "ops_alertchannel_change", row.pk)
        shown(browser, "ops_alertchannel_edit", row.pk)
        browser.post(reverse("admin:ops_alertchannel_edit", args=[row.pk]), {**form, "url": "", "name": "renamed"})
        row.refresh_from_db()
        assert (row.name, row.url) == ("renamed", form["url"])
        browser.post(deed[1])
        row.refresh_from_db()
        assert row.enabled is False
        browser.post(deed[2])
        assert not AlertChannel.objects.exists()

    def test_a_message_that_failed_is_shown_and_tried_again(self, browser, hook, channel):
        hook.status = 500
        message = channel_test(channel=channel, actor="test")
        assert "Failed" in shown(browser, "ops_alertmessage_changelist")
        assert "error=500" in shown(browser, "ops_alertmessage_change", message.pk)
        browser.post(reverse("admin:ops_alertmessage_deed", args=[message.pk, "retry"]))
        message.refresh_from_db()
        assert message.state == "queued"

    def test_maintenance_is_announced_and_ended(self, browser):
        browser.post(
            reverse("admin:ops_maintenancewindow_add"),
            {"reason": "New disk", "starts_in": "0", "minutes": "60", "checks": "db.*"},
        )
        window = MaintenanceWindow.objects.get()
        assert "Now" in shown(browser, "ops_maintenancewindow_changelist")
        shown(browser, "ops_maintenancewindow_change", window.pk)
        shown(browser, "ops_maintenancewindow_add")
        browser.post(reverse("admin:ops_maintenancewindow_deed", args=[window.pk, "end"]))
        window.refresh_from_db()
        assert window.ends_at <= timezone.now()

    def test_strangers_see_nothing(self, client, channel):
        for name in ("alertchannel", "alertmessage", "maintenancewindow"):
            assert client.get(reverse(f"admin:ops_{name}_changelist")).status_code == 302


class TestApi:
    def test_a_channel_s_life(self, api, hook):
        body = {
            "name": "hook",
            "url": f"json://127.0.0.1:{hook.port}/{SECRET}",
            "quiet_from": "22:00",
            "quiet_to": "07:00",
        }
        made = api("post", "alerts/channels", body, status=201)
        assert (made["goes_to"], made["quiet_from"]) == ("JSON at 127.0.0.1", "22:00:00")
        where = f"alerts/channels/{made['id']}"
        assert api("get", where)["name"] == "hook"
        assert SECRET not in str(api("get", "alerts/channels"))
        assert (
            api("patch", where, {"min_severity": "critical", "quiet_from": None, "quiet_to": None})["quiet_to"] is None
        )
        assert api("patch", where, {"min_severity": "loud"}, status=422)["errors"][0]["field"] == "min_severity"
        sent = api("post", f"{where}/test")
        assert (sent["state"], hook.titles) == ("sent", ["Switchboard: test"])
        assert hook.got[0]["message"].endswith(sent["reference"])
        hook.status = 500
        failed = api("post", f"{where}/test")
        assert (failed["state"], "500" in failed["error"]) == ("failed", True)
        assert [one["state"] for one in api("get", "alerts/messages?kind=test")["items"]] == ["failed", "sent"]
        assert api("post", f"alerts/messages/{failed['id']}/retry")["state"] == "queued"
        api("delete", where, status=204)
        api("get", where, status=404)
        assert not AlertMessage.objects.exists()

    def test_refusals_name_their_field(self, api):
        assert api("post", "alerts/channels", {"name": "x", "url": "hello"}, status=422)["errors"][0]["field"] == "url"
        now = timezone.now()
        past = {"reason": "x", "ends_at": (now - timedelta(hours=1)).isoformat()}
        assert api("post", "maintenance", past, status=422)["errors"][0]["field"] == "ends_at"

    def test_maintenance(self, api):
        ends = (timezone.now() + timedelta(hours=1)).isoformat()
        made = api("post", "maintenance", {"reason": "New disk", "ends_at": ends, "checks": ["db.*"]}, status=201)
        assert api("get", "maintenance")["items"][0]["id"] == made["id"]
        api("post", f"maintenance/{made['id']}/end", status=204)
        assert MaintenanceWindow.objects.get().ends_at <= timezone.now()
