"""What a comparison shows and says: how many, some of each sort, nothing secret; and what it refuses to guess."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.db import connection

from chat.models import Conversation, Invite, Person
from ops import audit_guard
from ops.backup import hooks
from ops.backup.errors import BackupDamaged
from ops.backup.outside import sweep
from ops.backup.sealed import SealedRows
from ops.backup.shapes import TableShape, table_shapes
from ops.backup.source import rows_in_present_shape, tables_of
from ops.models import AuditEvent, Service
from ops.models.restore import RestoreState
from ops.secrets import MARK
from ops.services import restores
from ops.services.restore_planning import to_state


def planned(path: Any, *kinds: str, **more: Any) -> Any:
    return restores.restore_plan(path=path, kinds=kinds, actor="command", **more)


def table(restore: Any, model: str) -> dict[str, Any]:
    return next(one for one in restore.plan["models"] if one["model"] == model)


def test_some_of_each_sort_are_shown_and_all_are_counted(house, backup_of):
    titles = [Conversation.objects.create(title=f"t{number}") for number in range(20)]
    path = backup_of()
    for one in titles[:7]:
        one.delete()
    for one in titles[7:14]:
        Conversation.objects.filter(pk=one.pk).update(title="changed", portal=True)
    for number in range(8):
        Conversation.objects.create(title=f"since{number}")
    Person.objects.create_user("since", password="a long passphrase")
    plan = planned(path)
    said = table(plan, "chat.Conversation")
    assert {what: said[what] for what in ("added", "changed", "removed", "same", "kept")} == {
        "added": 7, "changed": 7, "removed": 8, "same": 6, "kept": 0,
    }  # fmt: skip
    shown = [one["what"] for one in said["examples"]]
    assert {what: shown.count(what) for what in set(shown)} == {"added": 5, "changed": 5, "removed": 5}
    changed = next(one for one in said["examples"] if one["what"] == "changed")
    assert changed["before"] == {"title": "changed", "portal": True}, "what differs and nothing else"
    assert changed["after"] == {"title": "t7", "portal": False}
    assert changed["label"] == "t7"
    talk, people = plan.plan["kinds"]["conversations"], plan.plan["kinds"]["people"]
    assert (talk["added"], talk["changed"], talk["removed"]) == (7, 7, 8)
    assert people["removed"] == 1
    assert (plan.plan["added"], plan.plan["removed"]) == (7, 9)
    removed = next(one for one in table(plan, "chat.Person")["examples"] if one["what"] == "removed")
    assert removed["before"]["password"] == "[hidden]"
    assert (removed["label"], removed["after"]) == ("since", None)


def test_what_is_secret_or_long_is_not_shown(house, backup_of):
    path = backup_of()
    Service.objects.create(
        name="s", kind="demo", credentials={"token": "never-shown-1"}, options={"api_key": "never-shown-2"}
    )
    Invite.objects.create(digest="never-shown-3", hint="x")
    plan = planned(path)
    assert "never-shown" not in str(plan.plan)
    example = table(plan, "ops.Service")["examples"][0]["before"]
    assert example["credentials"] == "[hidden]"
    assert table(plan, "chat.Invite")["examples"][0]["label"].startswith("number "), "a digest names nothing to people"


def test_what_no_key_opens_is_named_and_nothing_else_is(house, backup_of):
    Service.objects.create(name="good", kind="demo", credentials={"token": "readable"})
    for name in ("lost1", "lost2"):
        made = Service.objects.create(name=name, kind="demo", credentials={"token": "x"})
        with connection.cursor() as cursor:
            sealed = MARK + Fernet(Fernet.generate_key()).encrypt(b"{}").decode()
            cursor.execute("UPDATE ops_service SET credentials = %s WHERE id = %s", [sealed, made.pk])
    path = backup_of()
    Service.objects.all().delete()
    plan = planned(path, "settings")
    (found,) = [one for one in plan.findings if one["code"] == "restore.secret_unreadable"]
    assert found["sentence"].startswith("2 secrets of ops.Service.credentials cannot be opened")
    done = restores.restore_apply(restore=plan, actor="command")
    assert done.state == RestoreState.DONE
    assert Service.objects.count() == 3, "the row comes back although its secret stays closed"
    assert Service.objects.get(name="good").credentials == {"token": "readable"}


def test_the_same_secret_under_two_keys_is_the_same(settings):
    ours, theirs, lost = (Fernet.generate_key().decode() for _ in range(3))
    settings.FIELD_ENCRYPTION_KEYS = [ours]

    def seal(key: str, text: bytes = b"word") -> str:
        return MARK + Fernet(key).encrypt(text).decode()

    sealed = SealedRows([theirs, ours])
    assert sealed.same(seal(ours), seal(theirs))
    assert sealed.same(seal(ours), seal(ours))
    assert not sealed.same(seal(ours), seal(theirs, b"another"))
    assert not sealed.same(seal(lost), seal(ours)), "what cannot be opened is the same as nothing"
    assert not sealed.same(seal(lost), seal(lost)), "not even as something else that cannot"
    assert not sealed.same("", seal(ours))
    assert sealed.same("", "")
    assert sealed.reads(seal(ours))
    assert not sealed.reads(seal(theirs))
    assert not sealed.reads("")
    assert sealed.ours(seal(ours), "x") is not None
    kept = seal(lost)
    assert sealed.ours(kept, "a.B.c") == kept
    assert sealed.unreadable == {"a.B.c": 1}
    again = sealed.ours(seal(theirs), "x")
    assert SealedRows().reads(again)
    assert sealed.unreadable == {"a.B.c": 1}


def test_whoever_comes_second_does_not_go_on_with_a_restore(house, backup_of):
    path = backup_of()
    first = planned(path)
    second = type(first).objects.get(pk=first.pk)
    to_state(first, RestoreState.PLANNED, RestoreState.APPLYING)
    assert first.state == RestoreState.APPLYING
    second.findings = [{"code": "of the second"}]
    with pytest.raises(restores.RestoreRefused, match="Somebody else has gone on"):
        to_state(second, RestoreState.PLANNED, RestoreState.APPLYING, "findings")
    second.refresh_from_db()
    assert (second.state, second.findings) == (RestoreState.APPLYING, first.findings)


def test_a_restore_leaves_the_guard_of_the_audit_log_in_force(house, backup_of, monkeypatch):
    AuditEvent.objects.create(actor="a", action="kept.event")
    path = backup_of()
    seen: list[bool] = []
    before = set(AuditEvent.objects.values_list("pk", flat=True))
    monkeypatch.setitem(hooks._fences, "look", lambda fence: seen.append(audit_guard.is_installed(connection)))

    def look(*given: Any) -> Any:
        seen.append(audit_guard.is_installed(connection))
        return sweep(*given)

    monkeypatch.setattr("ops.backup.apply.sweep", look)
    restores.restore_apply(restore=planned(path), actor="command")
    assert seen == [True, True]
    assert audit_guard.is_installed(connection)
    assert before <= set(AuditEvent.objects.values_list("pk", flat=True))


class Reader:
    """A backup with these tables and rows, and the present migrations."""

    def __init__(self, *tables: tuple[TableShape, list[list[Any]]]) -> None:
        self.begin = SimpleNamespace(tables=[shape for shape, _ in tables], migrations={})
        self.read: list[str] = []
        self._tables = tables

    def members(self) -> Any:
        for shape, rows in self._tables:
            if rows:
                yield SimpleNamespace(
                    kind="rows", label=shape.label, rows=lambda label=shape.label, rows=rows: self._rows(label, rows)
                )

    row_members = members

    def _rows(self, label: str, rows: list[list[Any]]) -> Any:
        for row in rows:
            self.read.append(label)
            yield row


def shape_of(label: str, *without: str, more: tuple[Any, ...] = (), name: str = "") -> TableShape:
    found = next(one for one in table_shapes() if one.label == label)
    columns = (*more, *(column for column in found.columns if column.name not in without))
    return TableShape(name or found.label, found.table, found.pk, columns, found.policy, found.kind)


def rows_of(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[list[Any]]]:
    monkeypatch.setattr("ops.backup.source.needs_upgrade", lambda migrations: False)
    with rows_in_present_shape(reader, progress=lambda *said: None) as tables:
        return {shape.label: list(rows) for shape, rows in tables}


def test_columns_stand_in_any_order_and_what_we_do_not_have_any_more_is_passed_over(monkeypatch):
    ours = shape_of("auth.Group")
    there = TableShape(ours.label, ours.table, ours.pk, tuple(reversed(ours.columns)), ours.policy, ours.kind)
    gone = shape_of("auth.Group", name="old.Gone")
    reader = Reader((there, [["name", 1], ["other", 2]]), (gone, [["x", 1]]), (shape_of("chat.Invite"), []))
    assert rows_of(reader, monkeypatch) == {"auth.Group": [[1, "name"], [2, "other"]], "chat.Invite": []}
    assert reader.read == ["auth.Group", "auth.Group", "old.Gone"], "read to its end, which verifies it"


def test_a_table_that_lacks_a_column_of_ours_is_refused(monkeypatch):
    reader = Reader((shape_of("auth.Group", "name"), [[1]]))
    with pytest.raises(BackupDamaged, match=r"Its rows of auth\.Group lack name\."):
        rows_of(reader, monkeypatch)


def test_rows_of_a_table_that_is_not_named_are_refused():
    reader = Reader((shape_of("auth.Group"), [[1, "name"]]))
    reader.begin.tables = []
    with pytest.raises(BackupDamaged, match=r"holds rows of auth\.Group"):
        list(tables_of(reader))


def test_a_table_from_before_which_there_was_none_stays_as_it_is(house, backup_of, monkeypatch):
    Conversation.objects.create(title="kept")
    path = backup_of()
    Invite.objects.create(digest="x" * 64, hint="x")
    real = tables_of

    def without(reader: Any, *given: Any, **more: Any) -> Any:
        return ((shape, rows) for shape, rows in real(reader, *given, **more) if shape.label != "chat.Invite")

    monkeypatch.setattr("ops.backup.source.tables_of", without)
    plan = planned(path, "people")
    (found,) = [one for one in plan.findings if one["code"] == "restore.not_in_backup"]
    assert found["target"] == "chat.Invite"
    assert not [one for one in plan.plan["models"] if one["model"] == "chat.Invite"]
    done = restores.restore_apply(restore=plan, actor="command")
    assert done.state == RestoreState.DONE
    assert Invite.objects.count() == 1
