"""Secrets whose key is lost: all of them are found, in portions, and what is put back passes over whatever is gone or entered anew."""

from __future__ import annotations

from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from cryptography.fernet import Fernet

from chat.models import Person
from ops import losses
from ops.models import AuditEvent, Service
from ops.secret_columns import PORTION, SecretColumn, secret_columns
from ops.secret_rotation import rotate
from ops.secrets import MARK, seal_text

pytestmark = pytest.mark.django_db
LABEL = "ops.Service.credentials"


def column(label: str = LABEL) -> SecretColumn:
    return next(one for one in secret_columns() if one.label == label)


def services(number: int) -> None:
    Service.objects.bulk_create(
        Service(name=f"s{one:04}", kind="demo", credentials={"token": f"word-{one:06}"}) for one in range(number)
    )


def lose(settings: Any) -> str:
    old = str(settings.FIELD_ENCRYPTION_KEYS[0])
    settings.FIELD_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    return old


def of(label: str) -> losses.Loss:
    return next(one for one in losses.losses() if one.kind.label == label)


@pytest.mark.parametrize("number", [PORTION - 1, PORTION, PORTION + 1, 2 * PORTION + 1])
def test_every_secret_is_found_however_the_portions_fall(settings: Any, number: int):
    services(number)
    assert [key for rows in column().portions() for key, _ in rows] == sorted(
        Service.objects.values_list("pk", flat=True)
    )
    assert max(len(rows) for rows in column().portions()) <= PORTION
    lose(settings)
    found = of(LABEL)
    assert (len(found.keys), len(set(found.keys))) == (number, number)
    assert len(found.names) == min(number, losses.NAMED)
    assert found.to_dict()["count"] == number
    assert found.names[0] == "s0000", "called by what people call it"


def test_more_than_a_portion_is_taken_away_and_put_back(settings: Any):
    services(PORTION + 30)
    Service.objects.create(name="empty", kind="demo")
    old = lose(settings)
    kept = losses.clear(of(LABEL), actor="person:ada")
    assert losses.losses() == []
    assert column().empty() == PORTION + 31
    first, second, *_ = Service.objects.exclude(name="empty").order_by("pk")
    second.delete()
    Service.objects.filter(pk=first.pk).update(credentials={"token": "entered-anew"})
    settings.FIELD_ENCRYPTION_KEYS = [*settings.FIELD_ENCRYPTION_KEYS, old]
    assert losses.put_back(kept) == PORTION + 28, "neither what is gone nor what was entered meanwhile"
    assert Service.objects.get(pk=first.pk).credentials == {"token": "entered-anew"}
    assert {len(one.credentials) for one in Service.objects.exclude(name="empty")} == {1}


def test_a_look_at_the_newest_ones_counts_those_only(settings: Any):
    services(3)
    lose(settings)
    Service.objects.create(name="readable", kind="demo", credentials={"token": "of-today"})
    assert losses.some_loss() == {"credentials of services": 3}
    assert losses.some_loss(newest=2) == {"credentials of services": 1}
    assert losses.some_loss(newest=1) == {}


def test_rotation_reaches_all_portions_and_names_what_it_cannot_open(settings: Any):
    services(5)
    lost = MARK + Fernet(Fernet.generate_key()).encrypt(b"{}").decode()
    (key, before), *_ = next(iter(column().portions()))
    assert column().write([(key, "something else", lost)]) == 0, "a row that says something else by now is left"
    assert column().write([(key, before, lost)]) == 1
    settings.FIELD_ENCRYPTION_KEYS = [Fernet.generate_key().decode(), *settings.FIELD_ENCRYPTION_KEYS]
    (dry,) = [one for one in rotate(dry_run=True, batch=2) if one.label == LABEL]
    (done,) = [one for one in rotate(batch=2) if one.label == LABEL]
    assert (dry.rotated, dry.current, dry.unreadable, dry.broken) == (4, 0, 1, (str(key),))
    assert (done.rotated, done.broken) == (4, (str(key),))
    (again,) = [one for one in rotate(batch=2) if one.label == LABEL]
    assert (again.rotated, again.current, again.unreadable) == (0, 4, 1)


def test_what_takes_secrets_away_has_to_be_able_to_put_them_back(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(losses, "_kinds", {})
    with pytest.raises(ValueError, match="has to be able to put them back"):
        losses.register_loss("x.Y.z", what="things", advice="Nothing.", clear=lambda keys: [])
    with pytest.raises(ValueError, match="has to be able to put them back"):
        losses.register_loss("x.Y.z", what="things", advice="Nothing.", put_back=lambda rows: 0)
    losses.register_loss("x.Y.z", what="things", advice="Nothing.", matters=False)
    assert (losses.kind_of("x.Y.z").what, losses.kind_of("x.Y.z").matters) == ("things", False)
    unknown = losses.kind_of("a.B.c")
    assert (unknown.what, unknown.matters) == ("secrets (a.B.c)", True), "what nobody speaks of is told all the same"


def test_second_factors_come_back_but_for_whoever_has_gone_or_has_a_new_one(settings: Any):
    for name in ("ada", "bea", "carl"):
        person = Person.objects.create_user(name)
        Authenticator.objects.create(user=person, type=Authenticator.Type.TOTP, data={"secret": seal_text("ABCDEFGH")})
    old = lose(settings)
    kept = losses.clear(of("mfa.Authenticator.data"), actor="person:root")
    assert not Authenticator.objects.exists()
    assert AuditEvent.objects.filter(action="person.second_factor_removed").count() == 3
    Person.objects.get(username="bea").delete()
    anew = Authenticator.objects.create(
        user=Person.objects.get(username="carl"), type=Authenticator.Type.TOTP, data={"secret": seal_text("NEWNEWNE")}
    )
    settings.FIELD_ENCRYPTION_KEYS = [*settings.FIELD_ENCRYPTION_KEYS, old]
    assert losses.put_back(kept) == 1
    assert set(Authenticator.objects.values_list("user__username", flat=True)) == {"ada", "carl"}
    assert Authenticator.objects.get(user__username="carl") == anew
