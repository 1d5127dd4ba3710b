"""A restore on a living installation: compared, applied, taken back."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from django.db import connection

from chat.models import Conversation, Message
from ops import quiet
from ops.backup import hooks
from ops.locks import named_lock
from ops.models import AuditEvent, Service
from ops.models.restore import RestoreEpoch, RestoreState
from ops.services import restores
from tests.support.every_model import contents, fill

Person = get_user_model()


def test_one_at_a_time(house, backup_of):
    Service.objects.create(name="kept", kind="demo")
    path = backup_of()
    Service.objects.update(name="changed")
    planned = restores.restore_plan(path=path, actor="command")
    with named_lock("restore.applying"), pytest.raises(restores.RestoreRefused, match="Another restore"):
        restores.restore_apply(restore=planned, actor="command")
    assert Service.objects.get().name == "changed"
    with pytest.raises(restores.RestoreRefused, match="no part 'gold'"):
        restores.restore_plan(path=path, kinds=["gold"], actor="command")
    restores.restore_apply(restore=planned, actor="command")
    assert Service.objects.get().name == "kept"


class CacheAway:
    def get(self, key):
        raise ConnectionError("Connection refused")


def test_what_was_changed_added_and_removed_since_is_as_it_was(house, backup_of, monkeypatch):
    fill()
    before = contents()
    path = backup_of()
    person = Person.objects.order_by("pk").first()
    *_, changed, gone = Message.objects.order_by("pk")
    Person.objects.filter(pk=person.pk).update(first_name="Somebody else")
    Message.objects.filter(pk=changed.pk).update(text="Changed", in_reply_to=None)
    gone_pk = gone.pk
    gone.delete()
    Conversation.objects.create(title="New since")
    Service.objects.create(name="new", kind="demo")

    fenced = []

    def fence(one):
        fenced.append((one.fresh, "people" in one.kinds, connection.in_atomic_block, quiet.held_here()))

    monkeypatch.setitem(hooks._fences, "test", fence)
    # The cache holds keys that somebody typed; nobody did, and Redis is away.
    monkeypatch.setattr("ops.services.restore_planning.cache", CacheAway())
    planned = restores.restore_plan(path=path, actor="command")
    assert fenced == []
    assert planned.state == RestoreState.PLANNED
    counts = {one["model"]: (one["added"], one["changed"], one["removed"]) for one in planned.plan["models"]}
    assert counts["chat.Person"] == (0, 1, 0)
    assert counts["chat.Conversation"] == (0, 0, 1)
    assert counts["ops.Service"] == (0, 0, 1)
    assert counts["chat.Message"][0] == 1
    people = next(one for one in planned.plan["models"] if one["model"] == "chat.Person")
    assert people["examples"][0]["before"] == {"first_name": "Somebody else"}
    assert contents() != before, "comparing changes nothing"

    done = restores.restore_apply(restore=planned, actor="command")
    assert done.state == RestoreState.DONE, done.error
    assert contents() == before
    epoch = RestoreEpoch.objects.get()
    assert (epoch.restore_id, epoch.number) == (done.pk, 1)
    assert fenced == [(False, True, True, True)], "in its transaction, while everybody else is held still"
    assert done.safety.reason == "safety"
    with pytest.raises(restores.RestoreRefused, match="It was applied already"):
        restores.restore_apply(restore=done, actor="command")
    assert AuditEvent.objects.filter(action="restore.applied").exists()

    undo = restores.restore_undo(restore=done, actor="command")
    assert undo.state == RestoreState.DONE
    assert RestoreEpoch.objects.get().number == 2
    assert Person.objects.get(pk=person.pk).first_name == "Somebody else"
    assert Service.objects.filter(name="new").exists()
    assert not Message.objects.filter(pk=gone_pk).exists()
    done.refresh_from_db()
    assert done.state == RestoreState.UNDONE
