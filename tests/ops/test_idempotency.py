from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from ops.models import IdempotencyRecord
from ops.services import idempotency
from ops.services.idempotency import KeyInFlight, KeyInvalid, KeyReused, Replay, abandon, begin, finish

pytestmark = pytest.mark.django_db


def ask(**more):
    return begin(
        **{"key": "k1", "principal": "token:ci", "method": "POST", "path": "/api/v1/jobs", "body": b"{}", **more}
    )


def test_the_second_time_gets_the_first_answer():
    record = ask()
    with pytest.raises(KeyInFlight) as caught:
        ask()
    assert caught.value.status == 409
    finish(record, status=202, response={"job": 1})
    assert ask() == Replay(202, {"job": 1})


def test_another_body_is_refused():
    finish(ask(), status=200, response={})
    with pytest.raises(KeyReused) as caught:
        ask(body=b"{other}")
    assert caught.value.status == 422


@pytest.mark.parametrize("other", [{"key": "k2"}, {"principal": "token:x"}, {"method": "PUT"}, {"path": "/y"}])
def test_other_requests_are_new(other):
    ask()
    assert isinstance(ask(**other), IdempotencyRecord)


@pytest.mark.parametrize("key", ["", "x" * 201])
def test_keys_have_a_length(key):
    with pytest.raises(KeyInvalid):
        ask(key=key)


def test_failures_of_ours_may_be_tried_again():
    finish(ask(), status=503, response={})
    record = ask()
    abandon(record)
    assert isinstance(ask(), IdempotencyRecord)


def test_a_request_that_died_is_taken_over_and_cannot_answer_any_more():
    dead = ask()
    old = timezone.now() - timedelta(minutes=6)
    IdempotencyRecord.objects.update(created_at=old)
    dead.created_at = old
    alive = ask()
    finish(dead, status=200, response={"from": "dead"})
    with pytest.raises(KeyInFlight):
        ask()
    finish(alive, status=200, response={"from": "alive"})
    assert ask() == Replay(200, {"from": "alive"})


def test_records_end_after_a_day():
    finish(ask(), status=200, response={})
    IdempotencyRecord.objects.update(created_at=timezone.now() - timedelta(hours=25))
    assert isinstance(ask(), IdempotencyRecord)
    IdempotencyRecord.objects.update(created_at=timezone.now() - timedelta(hours=25))
    assert idempotency.prune() == 1
