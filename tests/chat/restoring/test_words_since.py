"""What was said since the backup was made stays, wherever it was said; and what was removed on purpose is not brought back unsaid."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from agents.models import Agent, Room
from chat.models import (
    Attachment,
    Conversation,
    Delivery,
    Membership,
    Message,
    Participant,
    Turn,
    TurnState,
)
from chat.services import portal
from chat.services.attachments import attachment_store
from chat.services.messages import message_redact, message_send
from ops.backup import age
from ops.backup.write import write_backup
from ops.models import AuditEvent
from ops.models.restore import Restore, RestoreState
from ops.services import restores
from tests.chat.portal_helpers import again, begin, message, person, say, shown
from tests.support.stage import ALICE, Stage

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def house(stage: Stage, tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Stage:
    settings.DATA_DIR = tmp_path / "data"
    settings.DATA_DIR.mkdir()
    monkeypatch.setattr("ops.quiet.CACHE_SECONDS", 0.0)
    return stage


@pytest.fixture
def backup(house: Stage, tmp_path: Path) -> Any:
    def make(name: str = "backup") -> Path:
        target = io.BytesIO()
        write_backup(
            target=target,
            made_by={"id": name, "installation": "test", "version": "0"},
            recipients=age.recipients_of([age.machine_identity()]),
        )
        path = tmp_path / f"{name}.sbk"
        path.write_bytes(target.getvalue())
        return path

    return make


def compared(path: Path, *kinds: str, **more: Any) -> Restore:
    return restores.restore_plan(path=path, kinds=kinds, actor="command", **more)


def restored(path: Path, *kinds: str, **more: Any) -> Restore:
    done = restores.restore_apply(restore=compared(path, *kinds, **more), actor="command")
    assert done.state == RestoreState.DONE, done.error
    return done


def words(restore: Restore) -> dict[str, Any]:
    return restore.plan["since"]["words"]


def sentences(restore: Restore, code: str) -> list[str]:
    return [one["sentence"] for one in restore.findings if one["code"] == code]


def nothing_old_happens(house: Stage, asked: int) -> None:
    for _ in range(2):
        house.drain()
        house.hurry()
    assert len(house.world.requests) == asked, "nothing old is asked"


def talk_of(house: Stage, *texts: str, **more: Any) -> Conversation:
    talk = begin(house, **more)
    for text in texts:
        say(talk, text, who=more.get("who", "grace"))
        house.run_turns()
    return talk


def rows(talk: Conversation) -> list[tuple[Any, ...]]:
    return list(
        Message.objects.filter(conversation=talk)
        .order_by("seq")
        .values_list("pk", "seq", "role", "text", "parent_id", "in_reply_to_id", "sender__name", "said_at", "stored_at")
    )


def test_words_of_the_portal_stay_with_answers_files_and_draft(house: Stage, backup: Any) -> None:
    talk = talk_of(house, "Before")
    path = backup()
    file = attachment_store(person=person(), file=io.BytesIO(b"A note"), name="note.txt", actor="person:grace")
    sent = say(talk, "Since", attachments=[file.pk])
    house.run_turns()
    membership = Membership.objects.get(conversation=talk)
    portal.draft_save(membership=membership, text="Not said yet", attachments=[], actor="person:grace")
    title = Conversation.objects.get(pk=talk.pk).title
    Conversation.objects.filter(pk=talk.pk).update(title="Renamed since", titled=True)
    before, asked = rows(talk), len(house.world.requests)

    planned = compared(path)
    assert words(planned) | {"examples": []} == {
        "kept": True,
        "messages": 2,
        "conversations": 1,
        "made": 0,
        "without_room": 2,
        "drafts": 1,
        "examples": [],
    } | {name: words(planned)[name] for name in ("in_other_rooms", "lost", "returning")}
    assert words(planned)["examples"][0]["first"] == "Since"
    assert (
        "2 messages in 1 conversation and 1 draft from after the backup are kept"
        in sentences(planned, "restore.words_kept")[0]
    )
    assert next(one for one in planned.plan["models"] if one["model"] == "chat.Message")["kept"] == 2
    done = restores.restore_apply(restore=planned, actor="command")

    assert done.state == RestoreState.DONE
    assert rows(talk) == before
    assert shown(talk) == ["Before", "You said: Before", "Since", "You said: Since"]
    talk.refresh_from_db()
    assert (talk.title, talk.next_seq) == (title, 5), "everything but words is as it was"
    assert Attachment.objects.get().message_id == sent.message.pk
    assert Turn.objects.filter(state=TurnState.DONE, reply__isnull=False).count() == 2
    membership.refresh_from_db()
    assert membership.draft["text"] == "Not said yet"
    nothing_old_happens(house, asked)
    assert AuditEvent.objects.get(action="restore.applied").after["words"] == {
        "kept": True,
        "messages": 2,
        "conversations": 1,
    }
    # And talk goes on behind it.
    say(talk, "Now")
    house.run_turns()
    assert shown(talk)[-2:] == ["Now", "You said: Now"]
    history = [one.text.split("\n")[0] for one in house.world.requests[-1].history]
    assert history == ["Before", "You said: Before", "Since", "You said: Since"]


def test_conversations_begun_since_stay_when_their_agent_and_people_do(house: Stage, backup: Any) -> None:
    talk_of(house, "Before")
    path = backup()
    with_ada = talk_of(house, "To Ada")
    with_bob = talk_of(house, "To Bob", name="Bob")
    of_mary = talk_of(house, "Of Mary", who="mary")
    before = rows(with_ada)

    done = restored(path)

    assert rows(with_ada) == before
    assert Membership.objects.get(conversation=with_ada).person.username == "grace"
    assert Participant.objects.filter(conversation=with_ada).count() == 2
    assert shown(with_ada) == ["To Ada", "You said: To Ada"]
    assert not Conversation.objects.filter(pk__in=[with_bob.pk, of_mary.pk]).exists()
    assert (words(done)["messages"], words(done)["made"], words(done)["lost"]["messages"]) == (2, 1, 4)
    assert "To Bob (2)" in sentences(done, "restore.words_lost")[0]
    assert "Of Mary (2)" in sentences(done, "restore.words_lost")[0]


def test_with_only_conversations_people_and_agents_of_since_keep_theirs(house: Stage, backup: Any) -> None:
    talk_of(house, "Before")
    path = backup()
    with_bob = talk_of(house, "To Bob", name="Bob", who="mary")
    before = rows(with_bob)

    restored(path, "conversations")

    assert rows(with_bob) == before
    assert Membership.objects.get(conversation=with_bob).person.username == "mary"


def test_words_go_when_that_is_asked_for_and_an_undo_brings_them_back(house: Stage, backup: Any) -> None:
    talk = talk_of(house, "Before")
    path = backup()
    say(talk, "To be purged")
    house.run_turns()
    before = rows(talk)

    told = io.StringIO()
    call_command("restore", str(path), "--dry-run", "--without-words-since", stdout=told)
    assert "warning: 2 messages in 1 conversation from after the backup are removed" in " ".join(
        told.getvalue().split()
    )
    planned = compared(path, words_since=False)
    assert (
        "2 messages in 1 conversation from after the backup are removed"
        in sentences(planned, "restore.words_removed")[0]
    )
    done = restores.restore_apply(restore=planned, actor="command")

    assert [text for *_, text, _, _, _, _, _ in rows(talk)] == ["Before", "You said: Before"]
    # Said in between: numbers that were given twice are no trouble, and neither is lost.
    say(talk, "In between")
    house.run_turns()
    restores.restore_undo(restore=done, actor="command")
    assert rows(talk)[:4] == before
    assert [(seq, text) for _, seq, _, text, *_ in rows(talk)[4:]] == [(5, "In between"), (6, "You said: In between")]
    assert Turn.objects.get(message__text="In between").seq == 5
    say(talk, "Now")
    house.run_turns()
    assert shown(talk)[-2:] == ["Now", "You said: Now"]


def test_what_was_open_at_the_cut_is_what_became_of_it_and_what_is_open_now_ends(house: Stage, backup: Any) -> None:
    talk = begin(house)
    say(talk, "Asked before")
    path = backup()
    house.run_turns()
    waiting = say(talk, "Asked since")
    answering = say(begin(house), "Under way").turn
    assert waiting.turn is not None
    assert answering is not None
    Turn.objects.filter(pk=answering.pk).update(
        state=TurnState.RUNNING, partial="Half an ans", worker="dead", started_at=timezone.now()
    )
    asked = len(house.world.requests)

    restored(path)

    assert [text for _, _, _, text, *_ in rows(talk)] == ["Asked before", "You said: Asked before", "Asked since"]
    first = Turn.objects.get(message__text="Asked before")
    assert (first.state, first.reply.text) == (TurnState.DONE, "You said: Asked before")
    for turn in (waiting.turn, answering):
        turn.refresh_from_db()
        assert (turn.state, turn.error_code) == (TurnState.CANCELLED, "restored")
    assert answering.partial == "Half an ans"
    nothing_old_happens(house, asked)


def test_an_answer_given_again_since_stays(house: Stage, backup: Any) -> None:
    talk = talk_of(house, "One")
    path = backup()
    house.world.script("Another answer")
    again(message("You said: One"))
    house.run_turns()

    restored(path)

    assert shown(talk) == ["One", "Another answer"]
    assert Turn.objects.get(variant=1).reply.text == "Another answer"


def test_what_comes_between_comparing_and_restoring_stays(house: Stage, backup: Any) -> None:
    talk = talk_of(house, "Before")
    planned = compared(backup())
    say(talk, "Meanwhile")
    house.run_turns()

    done = restores.restore_apply(restore=planned, actor="command")

    assert shown(talk)[-2:] == ["Meanwhile", "You said: Meanwhile"]
    assert words(done)["messages"] == 2


def test_in_a_room_nothing_is_doubled_and_the_order_is_kept(house: Stage, backup: Any) -> None:
    house.enters(house.agent())
    house.says(house.fresh(), "Before")
    house.drain()
    path = backup()
    house.says(house.fresh(), "In the room")
    house.drain()
    message_send(agent=house.fresh(), text="From elsewhere", person=person(), transport="api", external_id="e1")
    house.drain()
    message_send(agent=house.fresh(), text="Never shown there", person=person(), transport="api", external_id="e2")
    house.run_turns()
    Delivery.objects.filter(state="queued").update(state="dead")
    house.says(house.fresh(), "In the room again")
    house.drain()
    talk = Conversation.objects.get()
    before, asked = rows(talk), len(house.world.requests)
    in_room = house.fake.shown(str(house.room().room_id))
    assert len(before) == 10

    for kinds in ((), ("conversations",)):
        restored(path, *kinds)
        assert rows(talk) == before
        nothing_old_happens(house, asked)
        assert house.fake.shown(str(house.room().room_id)) == in_room
        assert Room.objects.get(room_id=house.room().room_id).history_until is None


def test_an_answer_that_the_room_shows_only_as_a_preview_is_not_doubled(house: Stage, backup: Any) -> None:
    """Its last edit never got there: what the room shows names the turn, and no message."""
    house.enters(house.agent())
    house.says(house.fresh(), "Before")
    house.drain()
    path = backup()
    house.says(house.fresh(), "Since")
    house.drain()
    for event in house.fake.rooms[str(house.room().room_id)].events:
        for content in (event.get("content", {}), event.get("content", {}).get("m.new_content", {})):
            for name, marker in content.items():
                if isinstance(marker, dict) and "turn" in marker:
                    content[name] = {key: value for key, value in marker.items() if key != "message"}
    before = rows(Conversation.objects.get())

    restored(path)

    assert rows(Conversation.objects.get()) == before


def test_what_was_changed_in_a_room_while_nobody_listened_changes_what_is_kept(house: Stage, backup: Any) -> None:
    house.enters(house.agent())
    path = backup()
    house.says(house.fresh(), "To be changed")
    house.says(house.fresh(), "To be taken back")
    house.drain()
    room, events = str(house.room().room_id), {one.text: one.external_id for one in Message.objects.filter(role="user")}
    house.fake.person_says(
        room,
        ALICE,
        "* Changed",
        **{
            "m.new_content": {"msgtype": "m.text", "body": "Changed"},
            "m.relates_to": {"rel_type": "m.replace", "event_id": events["To be changed"]},
        },
    )
    house.fake.add(room, ALICE, {"redacts": events["To be taken back"]}, kind="m.room.redaction")

    restored(path)

    texts = list(Message.objects.filter(role="user").order_by("seq").values_list("text", "state"))
    assert texts == [("Changed", "stored"), ("", "redacted")]


def test_words_that_go_are_read_again_from_a_room_that_still_has_them(house: Stage, backup: Any) -> None:
    house.enters(house.agent())
    house.says(house.fresh(), "Before")
    house.drain()
    path = backup()
    house.says(house.fresh(), "Since")
    house.drain()

    done = restored(path, words_since=False)
    texts = [text for _, _, _, text, *_ in rows(Conversation.objects.get())]
    assert texts == ["Before", "You said: Before", "Since", "You said: Since"]
    assert Message.objects.get(text="Since").guard == "restored"
    # Taken back: what was read again is known under its old numbers.
    restores.restore_undo(restore=done, actor="command")
    assert [text for _, _, _, text, *_ in rows(Conversation.objects.get())] == texts


def test_what_was_taken_back_put_away_and_held_since_stays_so(house: Stage, backup: Any) -> None:
    house.enters(house.agent())
    house.says(house.fresh(), "A secret")
    house.drain()
    talk = talk_of(house, "Put away", name="Bob")
    path = backup()
    message_redact(transport="matrix", external_id=message("A secret").external_id)
    Conversation.objects.exclude(pk=talk.pk).update(hold="Case 7")
    portal.membership_remove(membership=Membership.objects.get(conversation=talk), actor="person:grace")

    done = restored(path)

    assert not Message.objects.filter(text="A secret").exists()
    assert Message.objects.get(state="redacted").text == ""
    assert Membership.objects.get(conversation=talk).removed_at is not None
    assert words(done)["returning"]["stays"] == {"removed": 1, "held": 1, "taken_back": 1}
    assert Conversation.objects.exclude(pk=talk.pk).get().hold == "Case 7"
    assert (
        "1 message that their senders took back, 1 conversation that people deleted"
        in sentences(done, "restore.stays_taken_back")[0]
    )


def test_what_was_deleted_on_purpose_does_not_come_back_unsaid(house: Stage, backup: Any) -> None:
    talk = talk_of(house, "To be forgotten")
    path = backup()
    portal.conversation_delete(conversation=talk, actor="person:root")

    planned = compared(path)

    assert words(planned)["returning"]["messages"] == 2
    (sentence,) = sentences(planned, "restore.words_return")
    assert "2 messages in 1 conversation that are not here any more come back (To be forgotten (2))" in sentence
    assert "1 conversation was deleted" in sentence
    assert next(one for one in planned.findings if one["code"] == "restore.words_return")["severity"] == "warning"


def test_numbers_that_the_backup_uses_for_something_else_are_no_trouble(house: Stage, backup: Any) -> None:
    """A backup of another life of this installation: the same numbers mean other rows."""
    talk = talk_of(house, "Of the backup")
    path = backup()
    kept = {model: model.objects.order_by("pk").first().pk for model in (Conversation, Message, Participant, Turn)}
    Turn.objects.all().delete()
    portal.conversation_delete(conversation=talk, actor="test")
    mine = Conversation.objects.create(pk=kept[Conversation], agent=Agent.objects.get(), portal=True, title="Mine")
    Membership.objects.create(conversation=mine, person=person())
    me = Participant.objects.create(
        pk=kept[Participant], conversation=mine, kind="person", external_id="grace", person=person()
    )
    now = timezone.now()
    first = Message.objects.create(
        pk=kept[Message], conversation=mine, seq=1, sender=me, role="user", text="Mine", transport="portal",
        received_at=now, stored_at=now,
    )  # fmt: skip
    second = Message.objects.create(
        conversation=mine, seq=2, sender=me, role="user", text="Mine too", transport="portal", received_at=now,
        stored_at=now, parent=first, in_reply_to=first,
    )  # fmt: skip
    Turn.objects.create(
        pk=kept[Turn], conversation=mine, agent=Agent.objects.get(), message=second, seq=2, lane="x", created_at=now,
        not_before=now, state=TurnState.FAILED,
    )  # fmt: skip
    Conversation.objects.filter(pk=mine.pk).update(head=second, next_seq=3)

    restored(path)

    assert Message.objects.get(pk=kept[Message]).text == "Of the backup"
    mine = Conversation.objects.get(title="Mine")
    assert mine.pk != kept[Conversation]
    assert shown(mine) == ["Mine", "Mine too"]
    assert Message.objects.get(text="Mine too").in_reply_to.text == "Mine"
    assert Turn.objects.get(state=TurnState.FAILED).message.text == "Mine too"
    assert shown(Conversation.objects.get(pk=kept[Conversation])) == ["Of the backup", "You said: Of the backup"]
