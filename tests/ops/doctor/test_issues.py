from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from ops.doctor.queries import asking_issues, dependants_of, issues_about, offer_of
from ops.models import AuditEvent, CheckState, Issue, IssueState, IssueTarget
from ops.registry import CheckOutcome, register_check
from ops.runner import run_checks
from ops.services.issues import issue_acknowledge, issue_ignore, issue_reopen, issue_snooze

pytestmark = pytest.mark.django_db(transaction=True)


def only() -> Issue:
    return Issue.objects.exclude(state=IssueState.RESOLVED).get()


class TestLife:
    def test_a_failure_opens_an_issue_with_its_objects_and_a_pass_closes_it(self, lamp):
        lamp.broken = {"agent:1", "agent:2"}
        run_checks()
        issue = only()
        assert (issue.severity, issue.sentence, issue.affected_count) == ("critical", "2 lamps are off.", 2)
        assert list(issue.affected.values_list("target", flat=True)) == ["agent:1", "agent:2"]
        since = {row.target: row.since for row in issue.affected.all()}
        lamp.broken = {"agent:2", "agent:3"}
        run_checks()
        assert only().pk == issue.pk
        assert set(issue.affected.values_list("target", flat=True)) == {"agent:2", "agent:3"}
        assert issue.affected.get(target="agent:2").since == since["agent:2"]
        assert [one.pk for one in issues_about("agent:3")] == [issue.pk]
        assert issues_about("agent:1") == []
        lamp.broken = set()
        run_checks()
        issue.refresh_from_db()
        assert issue.state == IssueState.RESOLVED
        assert issue.resolved_at is not None
        assert lamp.told == [("opened", "lamp.on"), ("recovered", "lamp.on")]

    def test_it_opens_after_so_many_failures_and_closes_after_so_many_passes(self, lamp, clean_registry):
        box = {"status": "fail"}

        @register_check("probe", title="Probe", opens_after=3, closes_after=2)
        def probe():
            return CheckOutcome(box["status"], "It says so.")

        for _ in range(2):
            run_checks(["probe"])
        assert not Issue.objects.exists()
        run_checks(["probe"])
        assert only().failures == 3
        box["status"] = "pass"
        run_checks(["probe"])
        assert only().passing_since is not None
        run_checks(["probe"])
        assert Issue.objects.get().state == IssueState.RESOLVED

    def test_a_warning_is_an_issue_of_a_warning_and_grows_worse(self, lamp):
        lamp.broken, lamp.status = {"agent:1"}, "warn"
        run_checks()
        assert only().severity == "warning"
        lamp.status = "fail"
        run_checks()
        assert only().severity == "critical"
        assert [event for event, _ in lamp.told] == ["opened", "worse"]

    def test_one_that_comes_and_goes_stays_open_until_it_was_calm(self, lamp):
        for turn in range(4):
            lamp.broken = {"agent:1"}
            run_checks()
            assert only().flaps == turn
            lamp.broken = set()
            run_checks()
        issue = only()
        assert issue.passing_since is not None
        Issue.objects.update(passing_since=timezone.now() - timedelta(minutes=11))
        run_checks()
        issue.refresh_from_db()
        assert issue.state == IssueState.RESOLVED
        assert [event for event, _ in lamp.told].count("opened") == 4

    def test_an_issue_of_a_target_that_is_gone_closes(self, lamp):
        names = ["one", "two"]

        @register_check("each", title="Each", scope="thing", targets=lambda: names)
        def each(name):
            return CheckOutcome("fail", f"{name} is broken.")

        run_checks(["each"])
        assert Issue.objects.exclude(state=IssueState.RESOLVED).count() == 2
        names.remove("two")
        run_checks(["each"])
        assert only().target == "one"

    def test_what_follows_from_another_failure_asks_for_nothing(self, lamp):
        @register_check("room.bright", title="The room is bright", depends_on=("lamp.on",))
        def bright():
            return CheckOutcome("fail", "It is dark.")

        run_checks()
        lamp.broken = {"agent:1"}
        run_checks()
        root = Issue.objects.get(check_id="lamp.on")
        follows = Issue.objects.get(check_id="room.bright")
        assert follows.root_id == root.pk
        assert [issue.pk for issue in asking_issues()] == [root.pk]
        issues, blocked = dependants_of(root)
        assert [issue.pk for issue in issues] == [follows.pk]
        assert [state.check_id for state in blocked] == ["room.bright"]
        lamp.broken = set()
        run_checks()
        assert [issue.pk for issue in asking_issues()] == [follows.pk]

    def test_secrets_stay_out_of_it(self, lamp):
        @register_check("leaky", title="Leaky")
        def leaky():
            return CheckOutcome("fail", "Refused: token=abc12345678", {"password": "abc12345678"})

        run_checks(["leaky"])
        assert "abc12345678" not in f"{only().sentence} {only().evidence}"

    def test_many_objects_are_counted_and_a_bounded_number_kept(self, lamp):
        lamp.broken = {f"agent:{n}" for n in range(700)}
        run_checks()
        assert only().affected_count == 700
        assert IssueTarget.objects.count() == 500


class TestWord:
    @pytest.fixture
    def issue(self, lamp):
        lamp.broken = {"agent:1"}
        run_checks()
        return only()

    def test_acknowledged_stays_open_and_is_closed_by_its_check_alone(self, lamp, issue):
        issue_acknowledge(issue=issue, actor="person:ada", note="Looking.")
        run_checks()
        assert (only().state, only().handled_by, only().note) == ("acknowledged", "person:ada", "Looking.")
        assert AuditEvent.objects.filter(action="issue.acknowledged", target_id=str(issue.pk)).count() == 1
        lamp.broken = set()
        run_checks()
        issue.refresh_from_db()
        assert issue.state == IssueState.RESOLVED
        with pytest.raises(ValidationError, match="resolved already"):
            issue_acknowledge(issue=issue, actor="person:ada")

    def test_snoozed_comes_back_by_itself(self, lamp, issue):
        issue_snooze(issue=issue, actor="person:ada", until=timezone.now() + timedelta(hours=1))
        run_checks()
        assert only().state == IssueState.SNOOZED
        assert not asking_issues().exists()
        Issue.objects.update(snoozed_until=timezone.now() - timedelta(seconds=1))
        run_checks()
        assert only().state == IssueState.OPEN
        assert lamp.told[-1] == ("reopened", "lamp.on")
        with pytest.raises(ValidationError, match="still to come"):
            issue_snooze(issue=issue, actor="person:ada", until=timezone.now())

    def test_ignored_until_another_version_runs(self, lamp, issue, settings):
        issue_ignore(issue=issue, actor="person:ada")
        run_checks()
        assert only().state == IssueState.IGNORED
        settings.VERSION = "99.0.0"
        run_checks()
        assert only().state == IssueState.OPEN

    def test_taken_back(self, lamp, issue):
        issue_ignore(issue=issue, actor="person:ada")
        issue_reopen(issue=issue, actor="person:ada")
        assert only().state == IssueState.OPEN

    def test_the_offer_is_the_check_s_repair_on_one_object_or_all(self, lamp, issue):
        assert (offer_of(issue).repair.id, offer_of(issue).target) == ("lamp.switch", "")
        assert offer_of(issue, "agent:1").target == "agent:1"


def test_a_target_limits_what_is_asked_and_answered(lamp):
    asked = []

    @register_check("each", title="Each", scope="service", targets=lambda: ["letta", "other"])
    def each(name):
        asked.append(name)
        return CheckOutcome("pass", "Fine.")

    lamp.broken = {"agent:1"}
    assert [run.check.id for run in run_checks(target="agent:1")] == ["lamp.on"]
    assert asked == []
    assert [(run.check.id, run.target) for run in run_checks(target="service:letta")] == [("each", "letta")]
    assert asked == ["letta"]
    assert CheckState.objects.filter(check_id="each").count() == 1


def test_what_acts_on_the_world_runs_only_when_it_is_named(lamp):
    @register_check("canary", title="Canary", live=True)
    def canary():
        return CheckOutcome("pass", "It sang.")

    assert "canary" not in [run.check.id for run in run_checks()]
    assert [run.check.id for run in run_checks(["canary"])] == ["canary"]
    assert "canary" in [run.check.id for run in run_checks(live=True)]
