"""Beginning anew, when two do it, when somebody thinks better of it, and when it is taken back on the page."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from chat.models import Person
from ops.locks import named_lock
from ops.models import Job, LiveSetting, Restore
from ops.services.resets import OPEN, ResetRefused, last_reset, reset_now
from tests.admin.restores import cancelled_after, page, run_all, signed_in_again


def test_a_second_reset_is_refused_while_one_is_under_way(house: Client) -> None:
    Person.objects.create_user("bea", password="a long passphrase")
    address = reverse("admin:reset")
    house.post(address, {"scope": "people", "typed": "reset people"})
    text = page(house, f"{address}?look=yes&scope=people")
    assert "Reset of people is under way, as person:ada asked for" in text
    assert "Back up, then" not in text
    second = house.post(address, {"scope": "people", "typed": "reset people"})
    assert second.status_code == 422
    assert "under way, as person:ada asked for" in second.content.decode()
    assert Job.objects.filter(kind="reset.apply").count() == 1
    with named_lock("reset"), pytest.raises(ResetRefused, match="Another reset is under way"):
        reset_now(scopes=["people"], typed="reset people", actor="person:ada")


def test_a_page_that_is_older_than_the_last_reset_removes_nothing(house: Client) -> None:
    Person.objects.create_user("bea", password="a long passphrase")
    address = reverse("admin:reset")
    seen = seen_on(page(house, f"{address}?look=yes&scope=people"))
    house.post(address, {"scope": "people", "typed": "reset people", "seen": seen})
    run_all()
    signed_in_again(house)
    Person.objects.create_user("dan", password="a long passphrase")
    late = house.post(address, {"scope": "people", "typed": "reset people", "seen": seen})
    assert late.status_code == 422
    assert "person:ada has reset people since this page was opened" in late.content.decode()
    assert Job.objects.filter(kind="reset.apply").count() == 1
    anew = house.post(address, {"scope": "people", "typed": "reset people", "seen": seen_on(late.content.decode())})
    assert anew.status_code == 302


def seen_on(text: str) -> str:
    found = re.search(r'name="seen" value="([^"]*)"', text)
    assert found is not None
    return found[1]


def test_a_reset_that_is_taken_back_on_its_page_is_over(house: Client) -> None:
    Person.objects.create_user("bea", password="a long passphrase")
    address = reverse("admin:reset")
    house.post(address, {"scope": "people", "typed": "reset people"})
    run_all()
    signed_in_again(house)
    job = Job.objects.get(kind="reset.apply")
    assert "removed. The backup from before is switchboard-" in page(
        house, reverse("admin:ops_job_change", args=[job.pk])
    )
    LiveSetting.objects.create(key=OPEN, value={**last_reset(), "left": ["One room"]}, changed_by="person:ada")
    assert "A reset waits for its end" in page(house, address)
    with named_lock("reset"):
        assert "A reset waits for its end" not in page(house, address)
    house.post(reverse("admin:reset_undo"))
    run_all()
    row = Restore.objects.latest("created_at")
    house.post(reverse("admin:ops_restore_deed", args=[row.pk, "apply"]), {"typed": "restore"})
    run_all()
    signed_in_again(house)
    assert Person.objects.filter(username="bea").exists()
    text = page(house, address)
    assert "A reset waits for its end" not in text
    assert "Taken back" in text
    assert "Take it back…" not in text


def test_cancelling_stops_a_reset_while_nothing_was_removed(house: Client, monkeypatch: Any) -> None:
    Person.objects.create_user("bea", password="a long passphrase")
    cancelled_after(monkeypatch, "ops.services.resets._safety")
    house.post(reverse("admin:reset"), {"scope": "people", "typed": "reset people"})
    run_all()
    assert Job.objects.get(kind="reset.apply").state == "cancelled"
    assert Person.objects.filter(username="bea").exists()
