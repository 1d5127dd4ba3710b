from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from ops.choices import CheckStatus, JobState, Lamp, ServiceStatus, lamp_for
from ops.findings import Finding, worst
from ops.models import CheckResult, Heartbeat, IdempotencyRecord, Job, NamedLock
from ops.services.pruning import prune


def test_lamps_differ_by_shape():
    assert [lamp.shape for lamp in Lamp] == ["●", "◐", "▲", "■", "○"]
    assert str(Lamp.TROUBLE) == "■ Trouble"


@pytest.mark.parametrize(
    ("state", "lamp"),
    [
        (JobState.RUNNING, Lamp.WORKING),
        (ServiceStatus.DOWN, Lamp.TROUBLE),
        ("down", Lamp.TROUBLE),
        ("pass", Lamp.GOOD),
        (Lamp.OFF, Lamp.OFF),
        (None, Lamp.OFF),
        ("never heard of", Lamp.ATTENTION),
    ],
)
def test_every_state_has_a_lamp(state, lamp):
    assert lamp_for(state) is lamp


@pytest.mark.parametrize("choices", [JobState, ServiceStatus, CheckStatus])
def test_a_stored_word_has_the_lamp_of_its_state(choices):
    assert {value: lamp_for(str(value)) for value in choices.values} == {state.value: state.lamp for state in choices}


def test_findings():
    low, high = Finding("info", "a.b", "Fine."), Finding("error", "a.c", "Bad.", "agent:1", {"n": 1})
    assert worst([low, high, low]) == "error"
    assert worst([]) is None
    assert high.to_dict() == {
        "severity": "error",
        "code": "a.c",
        "sentence": "Bad.",
        "target": "agent:1",
        "evidence": {"n": 1},
    }
    with pytest.raises(ValueError, match="severity"):
        Finding("fatal", "x", "x")


@pytest.mark.django_db
def test_pruning_takes_the_old_and_leaves_the_new():
    now = timezone.now()
    old = now - timedelta(days=31)
    for when in (old, now):
        Job.objects.create(kind="x", title="x", actor="a", state="succeeded", finished_at=when)
        CheckResult.objects.create(check_id="x", status="pass", at=when)
        IdempotencyRecord.objects.create(
            key=str(when), principal="p", method="POST", path="/", body_hash="", created_at=when
        )
        Heartbeat.objects.create(name=str(when), started_at=when, seen_at=when)
        NamedLock.objects.create(name=str(when), holder="h", expires_at=when)
    Job.objects.create(kind="x", title="x", actor="a", state="running", started_at=old)
    gone = {name: count for name, count in prune().items() if count}
    assert gone == {"jobs": 1, "check_results": 1, "idempotency_records": 1, "heartbeats": 1, "locks": 1}
    assert set(prune().values()) == {0}
    assert Job.objects.count() == 2
