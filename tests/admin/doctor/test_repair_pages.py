"""A repair is shown before it is done; a receipt says what it did; undoing brings back what was."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone

from ops.models import Issue, IssueState, RepairPolicy, RepairRun, RepairRunState, Service
from ops.runner import run_checks
from ops.services.jobs import run_job
from tests.admin.conftest import World
from tests.admin.doctor.conftest import text_of
from tests.admin.doctor.house import CHECKS, SECRET


def plan_of(repair: str, **asked: Any) -> str:
    query = "&".join(f"{name}={value}" for name, value in asked.items())
    return f"{reverse('admin:ops_repair_plan', args=[repair])}?{query}"


def hidden(text: str) -> dict[str, str]:
    """The hidden fields of the form that applies."""
    form = text.split('name="do" value="apply"')[1].split("</form>")[0]
    return {"do": "apply", **dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', form))}


def test_looking_changes_nothing(broken: Issue, client: Any, world: World) -> None:
    text = text_of(client.get(plan_of("test.switch_on", issue=broken.pk)))
    assert "Nothing was done yet" in text
    assert "can be undone for 7 days" in text
    assert re.search(r"<del>.*no.*</del>", text)
    assert re.search(r"<ins>.*yes.*</ins>", text)
    assert "Switch on: 1 change" in text
    assert RepairRun.objects.count() == 0
    assert not Service.objects.get(pk=world.demo.pk).enabled


def test_repair_receipt_and_undo(broken: Issue, client: Any, world: World) -> None:
    address = plan_of("test.switch_on", issue=broken.pk)
    receipt = client.post(address, hidden(text_of(client.get(address))), follow=True)
    run = RepairRun.objects.get()
    assert receipt.redirect_chain == [(reverse("admin:ops_repairrun_change", args=[run.pk]), 302)]
    text = text_of(receipt)
    assert run.state == RepairRunState.SUCCEEDED
    assert run.actor == "person:ada"
    assert "Mended" in text
    assert "What it changed" in text
    assert text.index("Fail") < text.index("Pass")
    assert reverse("admin:ops_repairrun_deed", args=[run.pk, "undo"]) in text
    assert Service.objects.get(pk=world.demo.pk).enabled
    broken.refresh_from_db()
    assert broken.state == IssueState.RESOLVED
    # A second look: nothing left to do.
    assert "a second run changes nothing" in text_of(client.get(plan_of("test.switch_on")))
    # Undo explains first, and then does.
    undo = reverse("admin:ops_repairrun_deed", args=[run.pk, "undo"])
    assert "brought back as it was before" in text_of(client.get(undo))
    assert Service.objects.get(pk=world.demo.pk).enabled
    undone = text_of(client.post(undo, follow=True))
    assert "It is undone" in undone
    assert not Service.objects.get(pk=world.demo.pk).enabled
    assert Issue.objects.filter(check_id="test.services_on", state=IssueState.OPEN).exists()
    assert "not possible (any more)" in text_of(client.post(undo, follow=True))


def test_one_object_alone(broken: Issue, client: Any, world: World) -> None:
    Service.objects.create(name="other", kind="demo", enabled=False)
    run_checks(CHECKS)
    address = plan_of("test.switch_on", issue=broken.pk, target=f"service:{world.demo.pk}")
    receipt = text_of(client.post(address, hidden(text_of(client.get(address))), follow=True))
    assert Service.objects.get(pk=world.demo.pk).enabled
    assert not Service.objects.get(name="other").enabled
    assert "demo is well: the check no longer names it. It stays red because of others." in receipt


def test_a_destructive_one_wants_the_word(broken: Issue, client: Any, world: World) -> None:
    address = plan_of("test.forget", issue=broken.pk)
    text = text_of(client.get(address))
    assert "<code>forget</code>" in text
    fields = hidden(text)
    refused = client.post(address, {**fields, "typed": "yes"})
    assert refused.status_code == 409
    assert "to confirm" in refused.content.decode()
    assert not Service.objects.get(pk=world.demo.pk).enabled
    assert RepairRun.objects.count() == 0
    client.post(address, {**fields, "typed": "forget"})
    assert RepairRun.objects.get().state == RepairRunState.SUCCEEDED


def test_it_asks_for_what_it_needs(broken: Issue, client: Any, world: World) -> None:
    address = plan_of("test.address")
    text = text_of(client.get(address))
    assert "It needs to know something" in text
    assert "apply" not in text.split("<form")[-1]
    wrong = client.post(address, {"do": "plan", "address": "nowhere"})
    assert "starts with its scheme" in wrong.content.decode()
    assert "This field is required" in text_of(client.post(address, {"do": "plan", "address": ""}))
    shown = text_of(client.post(address, {"do": "plan", "address": "http://new.test", "password": SECRET}))
    assert "http://new.test" in shown
    # What was typed as a secret travels encrypted, and is not shown again.
    assert SECRET not in shown
    client.post(address, hidden(shown))
    run = RepairRun.objects.get()
    assert run.state == RepairRunState.SUCCEEDED
    assert run.params["password"] == SECRET
    assert Service.objects.order_by("name").first().base_url == "http://new.test"
    assert SECRET not in text_of(client.get(reverse("admin:ops_repairrun_change", args=[run.pk])))


def test_a_plan_that_has_changed_is_shown_again(broken: Issue, client: Any, world: World) -> None:
    address = plan_of("test.switch_on", issue=broken.pk)
    fields = hidden(text_of(client.get(address)))
    Service.objects.create(name="second", kind="demo", enabled=False)
    text = text_of(client.post(address, fields))
    assert "Things have changed since you looked." in text
    assert "Switch on: 2 changes" in text
    assert RepairRun.objects.count() == 0
    client.post(address, hidden(text))
    assert RepairRun.objects.get().changes_count == 2


def test_a_preview_cannot_be_forged_or_borrowed(broken: Issue, client: Any, world: World) -> None:
    address = plan_of("test.forget", issue=broken.pk)
    fields = hidden(text_of(client.get(plan_of("test.switch_on", issue=broken.pk))))
    assert "belongs to somebody else" in text_of(client.post(address, {**fields, "typed": "forget"}))
    assert "too old" in text_of(client.post(address, {**fields, "sealed": "made-up", "typed": "forget"}))
    assert RepairRun.objects.count() == 0


def test_a_long_one_shows_its_progress(broken: Issue, client: Any, world: World) -> None:
    address = plan_of("test.slow", issue=broken.pk)
    text = text_of(client.post(address, hidden(text_of(client.get(address))), follow=True))
    run = RepairRun.objects.get()
    live = reverse("admin:ops_repairrun_live", args=[run.pk])
    assert f'data-live="{live}"' in text
    assert 'role="progressbar"' in text
    assert reverse("admin:ops_job_change", args=[run.job_id]) in text
    assert run_job(run.job_id)
    over = text_of(client.get(live))
    assert "data-live" not in over
    assert "Mended" in over
    assert Service.objects.get(pk=world.demo.pk).enabled


def test_a_failure_says_so(broken: Issue, client: Any, world: World) -> None:
    address = plan_of("test.fails", issue=broken.pk)
    text = text_of(client.post(address, hidden(text_of(client.get(address))), follow=True))
    assert "M_FORBIDDEN" in text
    assert "Failed" in text
    assert "Undo…" not in text
    broken.refresh_from_db()
    assert broken.state == IssueState.OPEN


def test_all_repairs_and_their_switches(house: None, client: Any) -> None:
    address = reverse("admin:ops_repair_catalogue")
    text = text_of(client.get(address))
    for title in ("Switch services on", "Forget services that are off", "Switch on, slowly"):
        assert title in text
    policy = reverse("admin:ops_repair_policy", args=["test.switch_on"])
    assert f'action="{policy}"' in text
    assert f'action="{reverse("admin:ops_repair_policy", args=["test.slow"])}"' not in text
    on = text_of(client.post(policy, {"automatic": "on"}, follow=True))
    assert "runs by itself from now on" in on
    assert RepairPolicy.objects.get(repair_id="test.switch_on").automatic
    client.post(policy, {"automatic": "off"})
    assert not RepairPolicy.objects.get(repair_id="test.switch_on").automatic
    refused = client.post(reverse("admin:ops_repair_policy", args=["test.slow"]), {"automatic": "on"}, follow=True)
    assert "Only a repair of class A" in text_of(refused)
    assert client.get(policy).status_code == 405
    assert "Nothing fits" in text_of(client.get(address, {"q": "no such repair"}))


def test_all_known_failures_stand_on_one_page(house: None, client: Any) -> None:
    from ops.doctor.catalogue import entries

    address = reverse("admin:ops_known_failures")
    text = text_of(client.get(address))
    missing = [entry.id for entry in entries() if f'data-copy="{entry.id}"' not in text]
    assert missing == []
    assert "121 failures are known." in text
    one = text_of(client.get(address, {"q": "mapping.duplicate_rooms"}))
    assert one.count('class="sb-copy"') == 1
    built = text_of(client.get(address, {"show": "open"}))
    assert "Part not built yet" in built
    assert 'data-copy="mapping.duplicate_rooms"' not in built


def test_the_log_of_runs(house: None, client: Any) -> None:
    RepairRun.objects.create(
        repair_id="gone.repair", repair_class="C", actor="person:ada", state=RepairRunState.FAILED, error="No.",
        started_at=timezone.now(), finished_at=timezone.now(),
    )  # fmt: skip
    text = text_of(client.get(reverse("admin:ops_repairrun_changelist")))
    assert "gone.repair" in text
    # The receipt of a repair that is no longer registered can still be read.
    run = RepairRun.objects.get()
    assert "No." in text_of(client.get(reverse("admin:ops_repairrun_change", args=[run.pk])))


@pytest.mark.parametrize("method", ["put", "delete"])
def test_plans_take_no_other_method(house: None, client: Any, method: str) -> None:
    assert getattr(client, method)(reverse("admin:ops_repair_plan", args=["test.switch_on"])).status_code == 405
    assert client.get(reverse("admin:ops_repair_plan", args=["no.such"])).status_code == 404
