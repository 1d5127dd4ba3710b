"""What a reset removes and what stays, row by row, on SQLite and (through ``test_on_postgresql``) on PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from agents.models import Account, AccountWay, Agent, AgentState, Invitation, Mapping, Room, RoomKind
from chat.models import (
    Attachment,
    Conversation,
    Delivery,
    Invite,
    Link,
    LinkKind,
    Membership,
    Message,
    Participant,
    Person,
    ShareLink,
    Turn,
)
from chat.services.conversations import next_seq, participant
from ops.live import forget, live_set
from ops.models import AuditEvent, Backup, LiveSetting, RestoreEpoch, Service
from ops.resets import ResetWork, chosen, reset_names
from ops.services.resets import ResetRefused, open_reset, reset_now, reset_plan, word_for

pytestmark = pytest.mark.django_db(transaction=True)
SAID = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def data_dir(settings, tmp_path):
    settings.DATA_DIR = tmp_path
    settings.ATTACHMENTS_DIR = tmp_path / "attachments"
    forget()
    yield tmp_path
    forget()


class World:
    """Two agents with rooms (one archived), a chat, a conversation of the portal, one under a hold; an operator and a person."""

    def __init__(self) -> None:
        self.operator = Person.objects.create_user("ada", password="a long passphrase", is_staff=True)
        self.bea = Person.objects.create_user("bea", password="a long passphrase", matrix_user_id="@bea:sb.test")
        Invite.objects.create(digest="x" * 64, hint="x", created_by=self.operator)
        hs = Service.objects.create(name="matrix", kind="homeserver", enabled=False)
        service = Service.objects.create(name="demo", kind="demo", enabled=False)
        self.agents, self.rooms = [], []
        for name, state in (("echo", AgentState.ACTIVE), ("old", AgentState.ARCHIVED)):
            agent = Agent.objects.create(service=service, external_id=name, name=name, state=state)
            account = Account.objects.create(homeserver=hs, user_id=f"@agent_{name}:sb.test", localpart=f"agent_{name}")
            room = Room.objects.create(homeserver=hs, room_id=f"!{name}", alias=f"#agent_{name}:sb.test", name=name)
            Mapping.objects.create(agent=agent, account=account, room=room)
            Invitation.objects.create(room=room, user_id="@bea:sb.test")
            self.agents.append(agent)
            self.rooms.append(room)
        self.direct = Room.objects.create(homeserver=hs, kind=RoomKind.DIRECT, room_id="!direct", name="echo")
        self.talk = self.conversation(self.rooms[0])
        self.chat = self.conversation(self.direct)
        self.portal = self.conversation(None)
        self.held = self.conversation(None)
        Conversation.objects.filter(pk=self.held.pk).update(hold="a lawsuit")

    def conversation(self, room: Room | None) -> Conversation:
        made = Conversation.objects.create(title="Talk", portal=room is None)
        if room is not None:
            Link.objects.create(conversation=made, kind=LinkKind.ROOM, room=room)
        else:
            Membership.objects.create(conversation=made, person=self.bea)
        now, parent = timezone.now(), None
        for number, (role, kind, key) in enumerate(
            (("user", "person", "bea"), ("assistant", "agent", str(self.agents[0].pk)))
        ):
            sender = participant(made.pk, kind=kind, external_id=key, name=key)
            if kind == "agent":
                Participant.objects.filter(pk=sender.pk).update(agent=self.agents[0], backend_ref="there")
            parent = Message.objects.create(
                conversation=made, seq=next_seq(made.pk), role=role, text="said", parent=parent, in_reply_to=parent, sender=sender,
                transport="matrix" if room else "portal", external_id=f"${made.pk}-{number}", received_at=now, stored_at=now,
                said_at=SAID + timedelta(minutes=number),
            )  # fmt: skip
        first = Message.objects.get(conversation=made, seq=1)
        turn = Turn.objects.create(
            conversation=made, agent=self.agents[0], message=first, reply=parent, seq=1, lane=f"t{made.pk}", state="done",
            created_at=now, not_before=now,
        )  # fmt: skip
        Delivery.objects.create(
            message=parent,
            turn=turn,
            target="matrix",
            room=room,
            lane=f"d{made.pk}",
            state="sent",
            created_at=now,
            not_before=now,
        )
        Attachment.objects.create(
            owner=self.bea,
            conversation=made,
            message=first,
            name="a",
            media_type="text/plain",
            size=1,
            sha256="ab",
            path="ab/ab",
        )
        Conversation.objects.filter(pk=made.pk).update(head=parent)
        return made


@pytest.fixture
def world(transactional_db) -> World:
    return World()


def remove(*names: str) -> dict[str, int]:
    parts = chosen(names)
    work = ResetWork("test", tuple(scope.name for scope in parts), lambda finding: None)
    gone: dict[str, int] = {}
    with transaction.atomic():
        for scope in parts:
            gone |= scope.remove(work)
    connection.check_constraints()
    return gone


def test_conversations_go_and_rooms_begin_behind_the_newest_word(world):
    ShareLink.objects.create(conversation=world.talk, digest="d" * 64, hint="x", through_seq=1)
    counted = {line["model"]: line["count"] for line in reset_plan(scopes=["conversations"]).lines}
    gone = remove("conversations")
    assert counted["chat.Message"] == gone["chat.Message"] == 6
    assert set(Message.objects.values_list("conversation", flat=True)) == {world.held.pk}, "a legal hold keeps its own"
    assert Turn.objects.get().conversation_id == Delivery.objects.get().turn.conversation_id == world.held.pk
    assert Attachment.objects.get().conversation_id == world.held.pk
    assert set(Conversation.objects.values_list("pk", flat=True)) == {world.talk.pk, world.chat.pk, world.held.pk}
    assert not ShareLink.objects.exists(), "of a room's conversation, which stays, as well"
    world.talk.refresh_from_db()
    assert (world.talk.head_id, world.talk.next_seq) == (None, 3), "no number is given twice"
    assert list(Participant.objects.filter(conversation=world.chat).values_list("kind", "backend_ref")) == [
        ("agent", "")
    ]
    for room in (world.rooms[0], world.direct):
        room.refresh_from_db()
        assert room.taken_over_at == SAID + timedelta(minutes=1)
    assert Person.objects.count() == 2
    assert Mapping.objects.count() == 2


def test_people_go_but_operators(world):
    assert any("1 Matrix account" in one.sentence for one in reset_plan(scopes=["people"]).outside)
    assert remove("people")["chat.Person"] == 1
    assert list(Person.objects.values_list("username", flat=True)) == ["ada"]
    assert Invite.objects.count() == 0
    assert Message.objects.count() == 8


def test_mappings_forget_which_room_it_is_and_keep_what_was_said(world):
    assert any("1 room of agents" in one.sentence for one in reset_plan(scopes=["mappings"]).outside)
    gone = remove("mappings")
    assert gone["agents.Mapping"] == 1
    assert list(Mapping.objects.values_list("agent__name", flat=True)) == ["old"], "nobody could find that one again"
    world.rooms[0].refresh_from_db()
    assert world.rooms[0].room_id is None
    assert Link.objects.get(room=world.rooms[0]).conversation_id == world.talk.pk
    world.direct.refresh_from_db()
    assert world.direct.room_id == "!direct"
    assert Agent.objects.count() == 2


def test_all_is_done_whole_with_its_backup(world):
    live_set(key="disk.reserve_mb", value=400, actor="test")
    with pytest.raises(ResetRefused, match="reset all"):
        reset_now(scopes=["all"], typed="all", actor="test")
    assert Backup.objects.count() == 0, "refused before anything"
    hs = Service.objects.get(kind="homeserver")
    Account.objects.create(homeserver=hs, user_id="@agent_s:sb.test", localpart="agent_s", way=AccountWay.SESSION)
    before = AuditEvent.objects.count()
    done = reset_now(scopes=["all"], typed=word_for(["all"]), actor="test")
    assert (done["left"], open_reset()) == ([], None), "there is no homeserver to find anything on"
    backup = Backup.objects.get(name=done["backup"])
    assert backup.reason == "safety"
    assert backup.verified_at is not None
    held = Turn.objects.get()
    assert held.conversation_id == world.held.pk
    assert list(Agent.objects.all()) == [held.agent], "whoever answered in what is held stays with it"
    for model in (Mapping, Invitation):
        assert not model.objects.exists(), model
    assert list(Room.objects.values_list("room_id", flat=True)) == [None]
    # A session and the keys of encrypted rooms could be had from nobody again.
    assert sorted(Account.objects.values_list("localpart", flat=True)) == ["agent_echo", "agent_s"]
    assert set(Conversation.objects.values_list("pk", flat=True)) == {world.held.pk}
    assert not LiveSetting.objects.filter(key="disk.reserve_mb").exists()
    assert list(Person.objects.values_list("username", flat=True)) == ["ada"]
    assert Service.objects.count() == 2
    assert AuditEvent.objects.count() > before
    assert RestoreEpoch.objects.get().number == 1


def test_everybody_is_held_still_while_it_removes_and_one_at_a_time(world, monkeypatch):
    from ops import quiet
    from ops.locks import named_lock
    from ops.services import resets

    seen, remove_rows = [], resets._remove
    monkeypatch.setattr(resets, "_remove", lambda *given: seen.append(quiet.held_here()) or remove_rows(*given))
    with named_lock("reset"), pytest.raises(ResetRefused, match="Another reset is under way"):
        reset_now(scopes=["people"], typed="reset people", actor="test")
    assert Person.objects.count() == 2
    assert not Backup.objects.exists()
    reset_now(scopes=["people"], typed="reset people", actor="test")
    assert seen == [True]


def test_it_removes_all_or_nothing(world, monkeypatch):
    from ops.services import resets

    def fails(**named):
        raise RuntimeError("The log of what was done cannot be written.")

    monkeypatch.setattr(resets, "record", fails)
    with pytest.raises(RuntimeError):
        reset_now(scopes=["people", "conversations"], typed="reset conversations people", actor="test")
    assert (Person.objects.count(), Message.objects.count(), Invite.objects.count()) == (2, 8, 1)
    assert open_reset() is None


def test_what_was_not_found_again_is_remembered_until_it_is(world, monkeypatch):
    from ops.services import resets

    monkeypatch.setattr(resets, "_find_again", lambda parts, work: ["The homeserver could not be asked."])
    done = reset_now(scopes=["mappings"], typed="reset mappings", actor="person:ada")
    note = open_reset()
    assert done["left"] == note["left"] == ["The homeserver could not be asked."]
    assert (note["scopes"], note["backup"], note["actor"]) == (["mappings"], done["backup"], "person:ada")
    monkeypatch.setattr(resets, "_find_again", lambda parts, work: [])
    assert resets.reset_finish(actor="person:ada")["left"] == []
    assert open_reset() is None
    with pytest.raises(ResetRefused, match="No reset waits"):
        resets.reset_finish(actor="person:ada")


def test_taken_back_only_what_was_reset_is_as_it_was(world, monkeypatch):
    from ops.services.resets import kinds_of, reset_undo

    assert kinds_of(["people", "mappings", "conversations"]) == ("conversations", "mappings", "people")
    assert kinds_of(["all"]) == ()
    monkeypatch.setattr("ops.backup.hooks._reconciles", {})
    reset_now(scopes=["people"], typed="reset people", actor="test")
    Conversation.objects.filter(pk=world.portal.pk).update(title="Since")
    reset_undo(actor="test")
    assert Person.objects.filter(username="bea").exists()
    assert Conversation.objects.get(pk=world.portal.pk).title == "Since"


def test_settings_go_and_so_do_those_that_this_process_remembers(world):
    from ops.live import live
    from ops.models import AlertChannel, ErrorSignature, MaintenanceWindow, RepairPolicy

    usual = live("disk.reserve_mb")
    live_set(key="disk.reserve_mb", value=usual + 7, actor="test")
    now = timezone.now()
    AlertChannel.objects.create(name="Night", url="json://127.0.0.1:9/")
    MaintenanceWindow.objects.create(starts_at=now, ends_at=now, reason="x", created_by="test")
    assert live("disk.reserve_mb") == usual + 7
    gone = remove("settings")
    assert (gone["ops.AlertChannel"], gone["ops.MaintenanceWindow"]) == (1, 1)
    for model in (AlertChannel, MaintenanceWindow, ErrorSignature, RepairPolicy):
        assert not model.objects.exists(), model
    assert live("disk.reserve_mb") == usual
    assert Service.objects.count() == 2


def test_legal_hold_stops_it(world):
    live_set(key="retention.hold", value=True, actor="test")
    assert "Legal hold" in reset_plan(scopes=["people"]).refused
    with pytest.raises(ResetRefused, match="Legal hold"):
        reset_now(scopes=["people"], typed="reset people", actor="test")
    assert Person.objects.count() == 2


def test_what_is_no_scope_is_said(transactional_db):
    with pytest.raises(
        ValueError, match="There is no scope voice; choose of conversations, people, mappings, settings, all"
    ):
        reset_plan(scopes=["voice"])
    assert reset_names() == ["conversations", "people", "mappings", "settings", "all"]


def test_without_a_backup_nothing_is_removed(world, monkeypatch):
    from ops.backup.errors import NoRoom
    from ops.services import backups

    def full(**named):
        raise NoRoom("The disk is full.")

    monkeypatch.setattr(backups, "backup_now", full)
    with pytest.raises(NoRoom):
        reset_now(scopes=["conversations"], typed="reset conversations", actor="test")
    assert Message.objects.count() == 8
