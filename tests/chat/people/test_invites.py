"""Invitations: codes, states, what they give, and the daily code of the predecessor."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from chat.access import registration
from chat.access.daily_code import is_daily_code
from chat.access.grants import agents_for
from chat.models import Invite, InviteUse, Person
from chat.services.invites import (
    InviteRefused,
    digest_of,
    invite_check,
    invite_create,
    invite_extend,
    invite_redeem,
    invite_revoke,
    invite_unrevoke,
    link_of,
    new_code,
    qr_svg,
)
from ops.live import live_set
from ops.models import AuditEvent

pytestmark = pytest.mark.django_db


def test_a_code_has_at_least_128_random_bits_and_no_look_alikes() -> None:
    codes = [new_code() for _ in range(3000)]
    letters = {letter for code in codes for letter in code.replace("-", "")}
    assert len(set(codes)) == len(codes)
    assert not letters & set("ILOU")
    assert math.log2(len(letters)) * len(codes[0].replace("-", "")) >= 128
    # Every place takes every letter: nothing of it is fixed.
    for place in range(28):
        assert len({code.replace("-", "")[place] for code in codes}) == 32


def test_a_code_is_read_as_people_write_it(invited) -> None:
    invite, code = invited()
    for written in (
        code.lower(),
        code.replace("-", ""),
        f"  {code.replace('-', ' ')}\n",
        code.replace("0", "o").replace("1", "l"),
    ):
        assert invite_check(written) == (invite, "ok")


def test_the_code_itself_is_nowhere(invited) -> None:
    invite, code = invited(note="for the workshop")
    plain = code.replace("-", "")
    row = Invite.objects.filter(pk=invite.pk).values().get()
    told = f"{row} {list(AuditEvent.objects.values())}"
    assert code not in told
    assert plain not in told
    assert row["digest"] == digest_of(code)
    assert len(row["digest"]) == 64
    assert row["hint"] == code[:9]


def test_link_and_qr(invited, settings) -> None:
    settings.PUBLIC_URL = "https://chat.example.org"
    _invite, code = invited()
    assert link_of(code) == f"https://chat.example.org/join#{code}"
    drawn = qr_svg(link_of(code))
    assert drawn.startswith("<svg")
    assert "script" not in drawn
    assert code not in drawn


def test_states(invited) -> None:
    invite, code = invited(max_uses=1, expires_at=timezone.now() + timedelta(hours=1))
    assert invite_check(code)[1] == "ok"
    invite_revoke(invite=invite, actor="test")
    assert invite_check(code) == (invite, "revoked")
    invite_unrevoke(invite=invite, actor="test")
    Invite.objects.filter(pk=invite.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert invite_check(code)[1] == "expired"
    invite.refresh_from_db()
    invite_extend(invite=invite, expires_at=None, actor="test")
    invite_redeem(code=code, person=Person.objects.create_user("eve"))
    assert invite_check(code)[1] == "used_up"
    invite_extend(invite=invite, max_uses=2, actor="test")
    assert invite_check(code)[1] == "ok"
    assert invite_check(new_code()) == (None, "not_found")
    assert invite_check("") == invite_check("-- --") == invite_check("7" * 1000) == (None, "invalid")
    said = list(AuditEvent.objects.filter(action__startswith="invite.").values_list("action", flat=True).order_by("pk"))
    assert said == ["invite.created", "invite.revoked", "invite.unrevoked", "invite.extended", "invite.extended"]


@pytest.mark.parametrize("state", ["revoked", "expired", "used_up"])
def test_what_does_not_count_cannot_be_used(invited, state: str) -> None:
    invite, code = invited(max_uses=1)
    change = {
        "revoked": {"revoked_at": timezone.now()},
        "expired": {"expires_at": timezone.now()},
        "used_up": {"uses": 1},
    }
    Invite.objects.filter(pk=invite.pk).update(**change[state])
    with pytest.raises(InviteRefused) as refused:
        invite_redeem(code=code, person=Person.objects.create_user("eve"))
    assert refused.value.reason == state
    assert refused.value.invite == invite
    assert not InviteUse.objects.exists()
    assert Invite.objects.get().uses == (1 if state == "used_up" else 0)


def test_what_an_invitation_gives(stage) -> None:
    first, second = stage.agent("one"), stage.agent("two")
    _invite, code = invite_create(all_agents=False, agents=[first], max_uses=None, actor="test")
    eve = Person.objects.create_user("eve")
    used = invite_redeem(code=code, person=eve)
    assert used is not None
    eve.refresh_from_db()
    assert not eve.is_staff
    assert list(agents_for(eve)) == [first]
    assert second not in agents_for(eve)
    assert [use.name for use in used.used_by.all()] == ["eve"]
    _invite, code = invite_create(role="operator", actor="test")
    invite_redeem(code=code, person=eve)
    eve.refresh_from_db()
    assert eve.is_staff
    assert eve.is_superuser


def test_invitations_that_make_no_sense() -> None:
    for wrong in (
        {"role": "emperor"},
        {"max_uses": 0},
        {"expires_at": timezone.now() - timedelta(seconds=1)},
        {"all_agents": False},
    ):
        with pytest.raises(ValidationError):
            invite_create(actor="test", **wrong)
    assert not Invite.objects.exists()


class TestDailyCode:
    """``floor(epoch seconds)`` of 00:00:01, as Portagent's guide told people to work it out."""

    NOW = datetime(2026, 11, 28, 15, 30, tzinfo=UTC)

    @pytest.mark.parametrize(
        "zone", ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns", "Pacific/Kiritimati", "Pacific/Pago_Pago"]
    )
    @pytest.mark.parametrize("days", [-1, 0, 1])
    def test_the_day_in_any_zone_and_its_neighbours(self, zone: str, days: int) -> None:
        here = self.NOW.astimezone(ZoneInfo(zone)).replace(hour=0, minute=0, second=1, microsecond=0)
        code = str(int((here + timedelta(days=days)).timestamp()))
        assert is_daily_code(code, self.NOW)

    def test_other_numbers_do_not_count(self) -> None:
        midnight = int(self.NOW.replace(hour=0, minute=0, second=1).timestamp())
        for wrong in (
            midnight - 1,
            midnight + 1,
            midnight + 600,
            midnight - 3 * 86_400,
            midnight + 3 * 86_400,
            1,
            -midnight,
        ):
            assert not is_daily_code(str(wrong), self.NOW)
        assert not is_daily_code("", self.NOW)
        assert not is_daily_code("٣٤", self.NOW)

    def test_only_while_it_is_allowed(self) -> None:
        code = str(int(timezone.now().replace(hour=0, minute=0, second=1).timestamp()))
        assert invite_check(code) == (None, "not_found")
        live_set(key=registration.DAILY_KEY, value=True, actor="test")
        assert invite_check(code) == (None, "ok")
        assert invite_redeem(code=code, person=Person.objects.create_user("eve")) is None
        live_set(key=registration.DAILY_KEY, value=False, actor="test")
        with pytest.raises(InviteRefused):
            invite_redeem(code=code, person=Person.objects.create_user("mallory"))


def test_the_audit_says_who_and_what(invited) -> None:
    invited(note="x" * 400)
    event = AuditEvent.objects.get(action="invite.created")
    assert event.actor == "test"
    assert event.after["max_uses"] == 1
    assert re.fullmatch(r"[0-9A-Z]{4}-[0-9A-Z]{4}… \(x+\)", event.target_label) or event.target_label.startswith(
        Invite.objects.get().hint
    )
