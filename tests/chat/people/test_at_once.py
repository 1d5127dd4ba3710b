"""Many at once: an invitation is never used more often than it may be, a name is taken once, a limit lets no more through."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.test import Client

from chat.access.limits import Limited, take
from chat.models import Invite, InviteUse, Person
from chat.services.invites import invite_revoke
from chat.services.joining import JoinRefused, person_register
from chat.services.people import person_deactivate, sign_out_everywhere
from tests.chat.people.conftest import PASSWORD, joining
from tests.support.prepared import template_of
from tests.support.stage import in_threads

ROOT = Path(__file__).resolve().parents[3]
THREADS = 16


@pytest.mark.django_db(transaction=True)
class TestHere:
    """On whatever database the tests run."""

    @pytest.mark.parametrize("max_uses", [1, 5])
    def test_an_invitation_is_used_as_often_as_it_may_be(self, invited, max_uses: int) -> None:
        invite, code = invited(max_uses=max_uses)

        def join(number: int) -> str:
            try:
                person_register(username=f"eve{number}", password=PASSWORD, invite=code)
            except JoinRefused as refused:
                return refused.reason
            return "in"

        assert Counter(in_threads(THREADS, join)) == {"in": max_uses, "used_up": THREADS - max_uses}
        invite.refresh_from_db()
        assert invite.uses == max_uses
        assert InviteUse.objects.count() == Person.objects.count() == max_uses

    def test_through_the_page_too(self, invited) -> None:
        _invite, code = invited(max_uses=3)

        def join(number: int) -> int:
            answer = Client().post("/join", joining(code, f"eve{number}"), REMOTE_ADDR=f"192.0.2.{number}")
            return answer.status_code

        assert Counter(in_threads(THREADS, join)) == {302: 3, 403: THREADS - 3}
        assert Person.objects.count() == 3

    def test_a_name_is_taken_once(self, invited) -> None:
        invite, code = invited(max_uses=None)

        def join(number: int) -> str:
            try:
                person_register(username="eve", password=PASSWORD, invite=code)
            except ValidationError as error:
                return ",".join(error.message_dict)
            return "in"

        assert Counter(in_threads(THREADS, join)) == {"in": 1, "username": THREADS - 1}
        invite.refresh_from_db()
        assert invite.uses == Person.objects.count() == 1

    def test_revoking_while_many_join_leaves_no_half_joined(self, invited) -> None:
        invite, code = invited(max_uses=None)

        def act(number: int) -> str:
            if number == THREADS // 2:
                invite_revoke(invite=Invite.objects.get(pk=invite.pk), actor="test")
                return "revoked it"
            try:
                person_register(username=f"eve{number}", password=PASSWORD, invite=code)
            except JoinRefused as refused:
                return refused.reason
            return "in"

        outcomes = Counter(in_threads(THREADS, act))
        # "used_up" stands for a change between two statements.
        assert set(outcomes) <= {"in", "revoked", "revoked it", "used_up"}
        invite.refresh_from_db()
        assert invite.uses == InviteUse.objects.count() == Person.objects.count() == outcomes["in"]

    def test_every_epoch_is_another_one(self, ada) -> None:
        in_threads(8, lambda number: sign_out_everywhere(person=Person.objects.get(pk=ada.pk), actor="test"))
        ada.refresh_from_db()
        assert ada.access_epoch == 8

    def test_closing_the_last_two_operators_leaves_one(self, root) -> None:
        Person.objects.create_user("other", password=PASSWORD, is_staff=True)
        operators = list(Person.objects.filter(is_staff=True))
        outcomes = in_threads(2, lambda number: person_deactivate(person=operators[number], reason="", actor="test"))
        assert sum(isinstance(outcome, ValidationError) for outcome in outcomes) == 1
        assert Person.objects.filter(is_staff=True, is_active=True).count() == 1

    def test_a_limit_lets_no_more_through(self, clock) -> None:
        def guess(number: int) -> str:
            passed = 0
            for _ in range(10):
                try:
                    take("invite", address="192.0.2.1")
                    passed += 1
                except Limited:
                    continue
            return str(passed)

        assert sum(int(passed) for passed in in_threads(THREADS, guess)) == 20


def test_on_postgresql_as_well(postgres, tmp_path) -> None:
    """The tests above once more, in a process of its own whose database is PostgreSQL."""
    if connection.vendor == "postgresql":
        return
    url = postgres.create_database("people_at_once")
    environment = {
        **os.environ,
        "DATABASE_URL": url,
        "TEST_DATABASE_TEMPLATE": template_of(postgres),
        "DATA_DIR": str(tmp_path),
    }
    environment.pop("PYTEST_XDIST_WORKER", None)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"{Path(__file__)}::TestHere"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "8 passed" in done.stdout
