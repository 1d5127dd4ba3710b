"""Histories across a restore: what it changed and took away is in them, and no new object gets the number of an old one."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from ops.backup.hooks import Fence, Reconcile
from ops.history.restoring import note, pass_over
from ops.models import ObjectVersion, Service
from ops.services.services import service_delete, service_save
from ops.services.versions import bring_back, deleted_objects, versions_of

pytestmark = pytest.mark.django_db


def save(name: str, url: str = "http://127.0.0.1:9", token: str = "one") -> Service:
    return service_save(actor="person:ada", name=name, kind="letta", base_url=url, credentials={"token": token})


def reconcile() -> dict[str, Any]:
    now = timezone.now()
    work = Reconcile(
        cut_at=now, now=now, epoch=1, kinds=("settings",), fresh=False, actor="person:ada", say=lambda one: None
    )
    return note(work)


def test_what_a_restore_changed_and_took_away_is_in_the_history() -> None:
    kept, changed, gone = save("kept"), save("changed", token="two"), save("gone", token="three")
    # What a restore does: rows, and nothing else.
    Service.objects.filter(pk=changed.pk).update(base_url="http://127.0.0.1:7")
    Service.objects.filter(pk=gone.pk).delete()
    assert reconcile()["versions"] == 2
    assert versions_of(kept).count() == 1
    newest = versions_of(changed).first()
    assert (newest.action, newest.actor) == ("history.restored", "person:ada")
    assert newest.state["base_url"] == "http://127.0.0.1:7"
    assert reconcile()["versions"] == 0
    [away] = deleted_objects("ops.service")
    assert away.label == "gone"
    bring_back(version=away, actor="person:ada")
    assert Service.objects.get(name="gone").credentials == {"token": "three"}


def test_on_an_empty_machine_no_number_is_used_twice() -> None:
    first = save("first")
    deleted = save("deleted")
    number = deleted.pk
    service_delete(service=deleted, actor="person:ada")
    ObjectVersion.objects.filter(object_id=str(number)).update(object_id=str(number + 40))
    now = timezone.now()
    with transaction.atomic():
        pass_over(Fence("default", now, now, 1, ("settings",), True, lambda one: None))
    later = save("later")
    assert later.pk > number + 40
    assert versions_of(later).count() == 1
    assert versions_of(first).count() == 1
