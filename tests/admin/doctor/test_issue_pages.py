"""The Repairs page and the page of an issue: what is broken, since when, and what an operator can say about it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from ops.admin.issue_list import snooze_until
from ops.models import AuditEvent, Issue, IssueState, IssueTarget, Job, RepairRun, Service
from ops.runner import run_checks
from ops.services.jobs import run_job
from tests.admin.conftest import SECRET, World
from tests.admin.doctor.conftest import text_of
from tests.admin.doctor.house import CHECKS

LIST = "admin:ops_issue_changelist"


def say(client: Any, do: str, *issues: Issue, **data: str) -> Any:
    return client.post(reverse("admin:ops_issue_say"), {"do": do, "issue": [one.pk for one in issues], **data}, follow=True)  # fmt: skip


def test_nothing_is_broken(house: None, client: Any) -> None:
    run_checks(CHECKS)
    text = text_of(client.get(reverse(LIST)))
    assert "Nothing is broken that a check can see." in text
    assert "Nothing needs a hand" in text


def test_the_list_says_what_is_broken_and_what_the_button_does(broken: Issue, client: Any, world: World) -> None:
    text = text_of(client.get(reverse(LIST)))
    assert "2 things need a hand." in text
    assert "1 service is switched off. Their agents do not answer." in text
    # Worst first: the critical one before the warning.
    assert text.index("Services are on") < text.index("Answers are in time")
    assert reverse("admin:ops_service_change", args=[world.demo.pk]) in text
    assert reverse("admin:ops_repair_plan", args=["test.switch_on"]) in text
    assert "Switches on every service that is off." in text
    # Evidence is a table for people: units and words.
    assert "1.5 GB" in text
    assert '<th scope="row">Free</th>' in text
    # What could not be asked stands below its cause.
    assert "1 check cannot be asked meanwhile" in text
    assert "Nothing waits for a service" in text


def test_the_badge_counts_only_causes(broken: Issue, client: Any) -> None:
    follower = Issue.objects.get(check_id="test.follows")
    Issue.objects.filter(pk=follower.pk).update(root=broken)
    text = text_of(client.get(reverse(LIST)))
    assert "1 thing needs a hand." in text
    assert re.search(r'class="[^"]*sb-badge[^"]*">\s*1\s*<', text)
    # It hangs on its cause by a cord, within the cause's own card.
    card = text.split(f'id="issue-{broken.pk}"')[1].split("</ol>")[0]
    assert "follows from the one above" in card
    assert f'id="issue-{follower.pk}"' not in text


def test_filters_and_search(broken: Issue, client: Any) -> None:
    assert "Services are on" in text_of(client.get(reverse(LIST), {"severity": "critical"}))
    only = text_of(client.get(reverse(LIST), {"area": "messages"}))
    assert "Answers are in time" in only
    assert "Their agents do not answer" not in only
    assert "Services are on" in text_of(client.get(reverse(LIST), {"q": "agents do not answer"}))
    assert "Nothing fits" in text_of(client.get(reverse(LIST), {"q": "nothing like it"}))


def test_words_about_many_and_about_one(broken: Issue, client: Any) -> None:
    other = Issue.objects.get(check_id="test.follows")
    assert "2 issues acknowledged." in text_of(say(client, "acknowledge", broken, other))
    broken.refresh_from_db()
    assert broken.state == IssueState.ACKNOWLEDGED
    assert broken.handled_by == "person:ada"
    assert AuditEvent.objects.filter(action="issue.acknowledged", actor="person:ada").count() == 2
    client.post(reverse("admin:ops_issue_say"), {"do": f"reopen:{broken.pk}"})
    broken.refresh_from_db()
    assert broken.state == IssueState.OPEN
    say(client, "snooze-hour", broken)
    broken.refresh_from_db()
    assert broken.state == IssueState.SNOOZED
    assert timedelta(minutes=59) < broken.snoozed_until - timezone.now() <= timedelta(hours=1)
    say(client, "ignore", other)
    other.refresh_from_db()
    assert other.state == IssueState.IGNORED
    assert "Nothing needs a hand" in text_of(client.get(reverse(LIST)))
    assert "Services are on" in text_of(client.get(reverse(LIST), {"state": "snoozed"}))
    assert "Tick at least one issue first." in text_of(say(client, "acknowledge"))


def test_a_snooze_ends_in_the_readers_zone(broken: Issue, client: Any) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    until = snooze_until("morning", "Europe/Berlin")
    local = until.astimezone(berlin)
    assert (local.hour, local.minute) == (8, 0)
    assert local.date() == (timezone.now().astimezone(berlin) + timedelta(days=1)).date()
    assert snooze_until("custom", "Europe/Berlin", "2030-01-02T10:00").astimezone(UTC) == datetime(2030, 1, 2, 9, tzinfo=UTC)  # fmt: skip
    assert snooze_until("custom", "no/such", "2030-01-02T10:00").astimezone(UTC).hour == 10
    with pytest.raises(ValidationError):
        snooze_until("custom", "UTC", "whenever")
    address = reverse("admin:ops_issue_deed", args=[broken.pk, "snooze"])
    page = client.post(address, {"until_choice": "custom", "until": "2001-01-01T00:00", "zone": "UTC"}, follow=True)
    assert "still to come" in text_of(page)
    broken.refresh_from_db()
    assert broken.state == IssueState.OPEN


def test_the_page_of_an_issue(broken: Issue, client: Any, world: World) -> None:
    text = text_of(client.get(reverse("admin:ops_issue_change", args=[broken.pk])))
    for words in (
        "What mends it",
        "What happened",
        "Affected: 1",
        "The log of that time",
        "Nobody can mark it as fixed",
    ):
        assert words in text, words
    assert "demo is switched off." in text
    # The button for this object alone, and those for all of them.
    assert f"target=service%3A{world.demo.pk}&amp;issue={broken.pk}" in text
    for repair in ("test.switch_on", "test.forget", "test.slow", "test.fails"):
        assert reverse("admin:ops_repair_plan", args=[repair]) in text
    assert SECRET not in text


def test_many_affected_objects_are_counted_and_filtered(broken: Issue, client: Any) -> None:
    now = timezone.now()
    IssueTarget.objects.bulk_create(
        IssueTarget(issue=broken, target=f"thing:{number}", sentence=f"Number {number:03} is off.", since=now)
        for number in range(120)
    )
    Issue.objects.filter(pk=broken.pk).update(affected_count=121)
    address = reverse("admin:ops_issue_change", args=[broken.pk])
    text = text_of(client.get(address))
    assert "the first 50 are shown" in text
    assert "Number 010" in text
    assert "Number 110" not in text
    found = text_of(client.get(address, {"about": "Number 110"}))
    assert "Number 110" in found
    assert "Number 010" not in found
    assert "and 118 more" in text_of(client.get(reverse(LIST)))


def test_queries_do_not_grow_with_issues(broken: Issue, client: Any) -> None:
    def asked() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert client.get(reverse(LIST)).status_code == 200
        return len(queries)

    few = asked()
    now = timezone.now()
    for number in range(60):
        one = Issue.objects.create(check_id="test.paper", target=f"t{number}", opened_at=now, last_failed_at=now)
        IssueTarget.objects.create(issue=one, target=f"service:{number}", since=now)
    assert asked() <= few
    assert few < 40


def test_check_again_closes_what_is_mended(broken: Issue, client: Any, world: World) -> None:
    address = reverse("admin:ops_issue_deed", args=[broken.pk, "check"])
    assert "still red" in text_of(client.post(address, follow=True))
    Service.objects.filter(pk=world.demo.pk).update(enabled=True)
    text = text_of(client.post(address, follow=True))
    assert "it passes now. The issue is resolved." in text
    broken.refresh_from_db()
    assert broken.state == IssueState.RESOLVED
    history = text_of(client.get(reverse(LIST), {"state": "resolved"}))
    assert "Resolved issues" in history
    assert "Services are on" in history


def test_a_guide_is_steps_with_snippets(house: None, client: Any, world: World) -> None:
    Service.objects.create(name="proxy", kind="demo")
    run_checks(CHECKS)
    issue = Issue.objects.get(check_id="test.paper")
    text = text_of(client.get(reverse("admin:ops_issue_change", args=[issue.pk])))
    assert "Raise the proxy&#x27;s time-out" in text
    assert "proxy_read_timeout 3600s;" in text
    assert 'aria-label="Copy the snippet of step 1"' in text
    assert "Done, check again" in text
    Service.objects.filter(name="proxy").delete()
    page = client.post(reverse("admin:ops_issue_deed", args=[issue.pk, "check"]), follow=True)
    assert "The issue is resolved" in text_of(page)


def test_several_are_repaired_after_one_preview(broken: Issue, client: Any, world: World) -> None:
    Service.objects.create(name="proxy", kind="demo")
    run_checks(CHECKS)
    paper = Issue.objects.get(check_id="test.paper")
    answer = say(client, "repair", broken, paper)
    text = text_of(answer)
    assert "1 repair with 1 change altogether" in text
    assert "It has steps for you to follow." in text
    assert not Service.objects.get(pk=world.demo.pk).enabled
    client.post(reverse("admin:ops_issue_batch"), {"issue": [broken.pk, paper.pk]})
    job = Job.objects.get(kind="ops.repair_many")
    assert job.params == {"issues": [broken.pk]}
    assert run_job(job.pk)
    job.refresh_from_db()
    assert job.result["sentence"] == "1 mended."
    assert Service.objects.get(pk=world.demo.pk).enabled
    run = RepairRun.objects.get()
    assert reverse("admin:ops_repairrun_change", args=[run.pk]) in text_of(
        client.get(reverse("admin:ops_job_change", args=[job.pk]))
    )


def test_what_is_wrong_stands_on_the_objects_page(broken: Issue, client: Any, world: World) -> None:
    text = text_of(client.get(reverse("admin:ops_service_change", args=[world.demo.pk])))
    assert "demo is switched off." in text
    assert f"{reverse('admin:ops_repair_plan', args=['test.switch_on'])}?target=service%3A{world.demo.pk}" in text
    other = text_of(client.get(reverse("admin:ops_service_change", args=[world.homeserver.pk])))
    assert "demo is switched off." not in other


def test_an_agents_page_shows_the_troubles_of_its_room(house: None, client: Any, world: World) -> None:
    now = timezone.now()
    issue = Issue.objects.create(
        check_id="test.paper", sentence="Two rooms.", opened_at=now, last_failed_at=now, affected_count=2
    )
    IssueTarget.objects.create(issue=issue, target=f"room:{world.mapping.room_id}", sentence="Nobody is in it.", since=now)  # fmt: skip
    for name, pk in (("agents_agent", world.agent.pk), ("agents_room", world.mapping.room_id)):
        text = text_of(client.get(reverse(f"admin:{name}_change", args=[pk])))
        assert "Nobody is in it." in text, name


def test_the_dashboard_says_each_thing_once(broken: Issue, client: Any) -> None:
    text = text_of(client.get(reverse("admin:index")))
    assert "Services are on: 1 service is switched off." in text
    assert reverse("admin:ops_repair_plan", args=["test.switch_on"]) in text
    assert text.count(">Services are on: 1 service is switched off.") == 1


def test_nobody_else_gets_in_and_nobody_speaks_by_get(broken: Issue, client: Any, world: World) -> None:
    assert client.get(reverse("admin:ops_issue_say")).status_code == 405
    places = [
        reverse(LIST), reverse("admin:ops_issue_change", args=[broken.pk]), reverse("admin:board"),
        reverse("admin:board_live"), reverse("admin:ops_repair_catalogue"), reverse("admin:ops_known_failures"),
        reverse("admin:ops_repair_plan", args=["test.switch_on"]), reverse("admin:ops_issue_batch"),
        reverse("admin:chat_silent", args=["agent", world.agent.pk]),
    ]  # fmt: skip
    client.force_login(world.person)
    for place in places:
        answer = client.get(place)
        assert (answer.status_code, "/login/" in answer["Location"]) == (302, True), place
    said = client.post(reverse("admin:ops_issue_say"), {"do": f"acknowledge:{broken.pk}"})
    assert "/login/" in said["Location"]
    broken.refresh_from_db()
    assert broken.state == IssueState.OPEN
