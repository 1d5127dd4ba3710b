"""A hundred thousand guesses at invitations: what they find, what they cost, what they leave behind."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from chat.access import limits
from chat.access.limits import Limited, take
from chat.models import AccessAttempt, Invite, Person
from chat.portal import people_join
from chat.services.invites import invite_check, new_code
from tests.chat.people.conftest import joining

pytestmark = pytest.mark.django_db


def counters() -> int:
    """How many counters lie in the cache of this process."""
    return sum(1 for key in cache._cache if ":limit:" in key)  # type: ignore[attr-defined]


@pytest.fixture
def looked(monkeypatch) -> list[str]:
    """Codes that were looked up."""
    codes: list[str] = []
    real = people_join.join_check
    monkeypatch.setattr(people_join, "join_check", lambda code: codes.append(code) or real(code))
    return codes


def test_the_odds() -> None:
    """With the limit for all together, and a million invitations open, a century of guessing finds one in 10**20 tries of it."""
    rate = limits.RATES["invite"].all
    guesses = rate.amount / rate.seconds * 100 * 366 * 86_400
    assert guesses * 1_000_000 / 32**28 < 1e-20


def test_three_thousand_requests_from_one_address(client, looked, invited, clock) -> None:
    invited()
    answers = Counter()
    with CaptureQueriesContext(connection) as captured:
        for _ in range(3000):
            answers[client.post("/join", joining(new_code())).status_code] += 1
    assert answers == {403: 20, 429: 2980}
    assert len(looked) == 20
    assert sum("chat_invite" in query["sql"] and "SELECT" in query["sql"] for query in captured) <= 20 * 2
    assert Invite.objects.get().uses == 0
    assert not Person.objects.exists()
    assert Counter(AccessAttempt.objects.values_list("outcome", flat=True)) == {"not_found": 20, "limited": 1}
    assert counters() <= 4
    answer = client.post("/join", joining(new_code()))
    assert int(answer["Retry-After"]) >= 1
    assert "Too many attempts" in answer.content.decode()


def test_as_many_addresses_as_requests(looked, clock) -> None:
    answers = Counter()
    for number in range(600):
        address = f"2001:db8:{number:x}::1"
        answers[Client().post("/join", joining(new_code()), REMOTE_ADDR=address).status_code] += 1
    assert answers == {403: 300, 429: 300}
    assert len(looked) == 300
    assert counters() <= 301 + 1, "addresses beyond the limit of all leave no counter"


def test_a_hundred_thousand_guesses(clock) -> None:
    tried = Counter()
    for number in range(100_000):
        try:
            take("invite", address=f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        except Limited as limited:
            tried[limited.scope] += 1
            continue
        tried[invite_check(new_code())[1]] += 1
    assert tried == {"not_found": 300, "all": 99_700}
    assert counters() <= 301
    # Whoever comes when the minute is over is served.
    clock.now += 61
    take("invite", address="192.0.2.1")


def test_a_hundred_thousand_guesses_of_one_address_over_a_day(clock) -> None:
    """One address, as patient as it is allowed to be."""
    tried = Counter()
    for _ in range(100_000):
        try:
            take("invite", address="192.0.2.1")
            tried["looked"] += 1
        except Limited as limited:
            tried[limited.scope] += 1
        clock.now += 0.864
    assert tried["looked"] <= 20 * (86_400 // 600 + 1)
    assert counters() < 10_000


def test_neighbours_in_one_network_count_as_one(clock) -> None:
    for number in range(20):
        take("invite", address=f"2001:db8::{number:x}")
    with pytest.raises(Limited) as limited:
        take("invite", address="2001:db8::ffff")
    assert limited.value.scope == "address"
    take("invite", address="2001:db8:0:1::1")
    take("invite", address="::ffff:192.0.2.1")


def test_what_was_given_back_counts_no_longer(clock) -> None:
    for _ in range(100):
        take("sign_in", address="192.0.2.1", account="ada").give_back()
    taken = [take("sign_in", address="192.0.2.1", account="ada") for _ in range(10)]
    with pytest.raises(Limited):
        take("sign_in", address="192.0.2.1", account="ADA")
    taken[0].give_back()
    taken[0].give_back()
    take("sign_in", address="192.0.2.1", account="ada")
    with pytest.raises(Limited):
        take("sign_in", address="192.0.2.1", account="ada")


def test_counting_survives_an_emptied_cache(clock, monkeypatch) -> None:
    real: Any = cache.incr
    emptied = []

    def once(key: str, *more: Any) -> int:
        if not emptied:
            emptied.append(key)
            cache.clear()
        return int(real(key, *more))

    monkeypatch.setattr(cache, "incr", once)
    take("invite", address="192.0.2.1")
    assert emptied
