"""What a reset counts and ends besides rows of its own kind, and where it stops: holds, imports, sign-ins, rooms that are found again."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from allauth.usersessions.models import UserSession
from django.apps import apps
from django.contrib.sessions.models import Session
from django.utils import timezone

from agents.models import Account, AccountWay, Agent, Invitation, Mapping, Room
from chat.models import (
    AgentGrant,
    Attachment,
    ClientPrefix,
    Conversation,
    Delivery,
    ImportedRow,
    Message,
    Participant,
    Person,
    ProgramLogin,
    ShareLink,
    Turn,
)
from chat.resetting import people
from ops.models import ApiToken, Service, TokenScope
from ops.services import resets
from ops.services.resets import open_reset, reset_finish, reset_now, reset_plan
from tests.chat.test_reset_rows import SAID, World, data_dir, remove, world
from tests.support.stage import Stage

__all__ = ["data_dir", "world"]

pytestmark = pytest.mark.django_db(transaction=True)


def lines(*names: str) -> dict[str, int]:
    return {line["model"]: line["count"] for line in reset_plan(scopes=names).lines}


def outside(*names: str) -> dict[str, str]:
    return {one.code: one.sentence for one in reset_plan(scopes=names).outside}


def test_the_plan_of_conversations_counts_what_goes_and_not_what_is_held(world: World):
    counted = lines("conversations")
    assert {model: counted[model] for model in ("chat.Message", "chat.Turn", "chat.Delivery", "chat.Attachment")} == {
        "chat.Message": 6, "chat.Turn": 3, "chat.Delivery": 3, "chat.Attachment": 3,
    }  # fmt: skip
    assert counted["chat.Conversation"] == 3
    gone = remove("conversations")
    for model in ("chat.Message", "chat.Turn", "chat.Delivery", "chat.Attachment"):
        assert gone[model] == counted[model]


def test_what_is_said_about_the_outside_counts_what_is_not_held(world: World):
    Turn.objects.filter(conversation__in=[world.talk, world.held]).update(state="queued")
    said = outside("conversations")
    assert said["reset.history_stays"].startswith("What was said in 2 rooms stays on the homeserver")
    assert said["reset.open_turns"].startswith("1 question waits for an answer, and will not get one.")
    assert said["reset.held_stay"] == "1 conversation under a legal hold stays."


def imported(target: str, pk: Any) -> None:
    ImportedRow.objects.create(system="s", source="x", kind=target, key=str(pk), target=target, target_id=str(pk))


def test_what_was_imported_may_be_imported_again_but_for_what_is_held_and_still_there(world: World):
    for talk in (world.portal, world.held):
        imported("chat.Conversation", talk.pk)
        imported("chat.Message", Message.objects.get(conversation=talk, seq=1).pk)
        imported("chat.Attachment", Attachment.objects.get(conversation=talk).pk)
    for person in (world.bea, world.operator):
        imported("chat.Person", person.pk)
    imported("chat.Invite", 1)
    kept = {
        ("chat.Conversation", str(world.held.pk)),
        ("chat.Message", str(Message.objects.get(conversation=world.held, seq=1).pk)),
        ("chat.Attachment", str(Attachment.objects.get(conversation=world.held).pk)),
    }
    others = {("chat.Person", str(world.bea.pk)), ("chat.Person", str(world.operator.pk)), ("chat.Invite", "1")}
    assert remove("conversations")["chat.ImportedRow"] == 3
    assert set(ImportedRow.objects.values_list("target", "target_id")) == kept | others
    remove("people")
    assert set(ImportedRow.objects.values_list("target", "target_id")) == kept | {
        ("chat.Person", str(world.operator.pk))
    }, "operators are still there"


def test_where_programs_went_on_goes_with_what_was_said(world: World):
    for talk in (world.portal, world.held):
        message = Message.objects.get(conversation=talk, seq=1)
        ClientPrefix.objects.create(person=world.bea, agent=world.agents[0], digest="d" * 64, message=message)
    assert remove("conversations")["chat.ClientPrefix"] == 1
    assert ClientPrefix.objects.get().message.conversation_id == world.held.pk


def test_a_file_that_was_never_sent_goes(world: World):
    Attachment.objects.create(
        owner=world.operator, name="draft", media_type="text/plain", size=1, sha256="cd", path="cd/cd"
    )
    assert lines("conversations")["chat.Attachment"] == 4
    assert remove("conversations")["chat.Attachment"] == 4
    assert Attachment.objects.get().conversation_id == world.held.pk


def test_agents_that_keep_history_begin_anew_in_rooms_and_everything_of_before_goes_with_all(world: World):
    remove("conversations")
    assert list(Participant.objects.exclude(conversation=world.held).values_list("backend_ref", flat=True)) == ["", ""]
    remove("conversations", "people")
    assert set(Conversation.objects.values_list("pk", flat=True)) == {world.talk.pk, world.chat.pk, world.held.pk}
    talk = Conversation.objects.get(pk=world.talk.pk)
    assert (talk.last_message_at, talk.portal) == (None, False)
    assert Participant.objects.filter(conversation=world.held, backend_ref="there").count() == 1


def sign_in(person: Person, key: str) -> None:
    Session.objects.create(session_key=key, session_data="", expire_date=timezone.now())
    UserSession.objects.create(user=person, session_key=key, ip="127.0.0.1", user_agent="x", data={})


def login(person: Person, number: int, **more: Any) -> ProgramLogin:
    values: dict[str, Any] = {}
    for field in ProgramLogin._meta.local_concrete_fields:
        if field.name in ("id", "person") or field.null or field.has_default():
            continue
        values[field.name] = (
            timezone.now() if field.get_internal_type() == "DateTimeField" else f"{field.name[:6]}{number}"
        )
    return ProgramLogin.objects.create(person=person, **{**values, **more})


def test_whoever_goes_is_signed_out_everywhere_and_operators_are_not(world: World, monkeypatch: pytest.MonkeyPatch):
    ended: list[Any] = []
    real = people.end_all
    monkeypatch.setattr(
        people, "end_all", lambda **call: (ended.append((call["person"].username, call["tokens"])), real(**call))
    )
    carl = Person.objects.create_user("carl")
    Person.objects.create_user("dora")
    sign_in(world.bea, "b" * 32)
    sign_in(world.operator, "a" * 32)
    login(carl, 1)
    login(carl, 2, revoked_at=timezone.now())
    login(world.operator, 3)
    AgentGrant.objects.create(person=carl, agent=world.agents[0])
    AgentGrant.objects.create(person=world.operator, agent=world.agents[0])
    monkeypatch.setattr(people, "_BATCH", 2)
    assert lines("people") == {
        "chat.Person": 3, "chat.ProgramLogin": 1, "chat.AgentGrant": 1, "chat.Invite": 1,
    }  # fmt: skip
    Person.objects.filter(pk=world.operator.pk).update(matrix_user_id="@ada:sb.test")
    said = outside("people")
    assert said["reset.operators_stay"] == "1 operator stays."
    assert said["reset.accounts_stay"].startswith("1 Matrix account of people stays")
    token = ApiToken.objects.create(owner=carl, name="t", prefix="swb_1234", scope=TokenScope.CHAT)
    gone = remove("people")
    assert (gone["chat.Person"], gone["chat.Invite"]) == (3, 1)
    assert sorted(ended) == [("bea", True), ("carl", True)], "whoever has nothing open is not asked"
    assert list(Session.objects.values_list("session_key", flat=True)) == ["a" * 32]
    assert list(ProgramLogin.objects.values_list("person__username", flat=True)) == ["ada"]
    assert not ApiToken.objects.filter(pk=token.pk, revoked_at=None).exists()
    assert list(Person.objects.values_list("username", flat=True)) == ["ada"]


def test_a_superuser_without_the_staff_flag_stays_too(world: World):
    Person.objects.create_user("root", is_superuser=True)
    remove("people")
    assert set(Person.objects.values_list("username", flat=True)) == {"ada", "root"}


def test_the_plan_of_mappings_counts_what_is_forgotten_and_says_what_stays(world: World):
    hs = Service.objects.get(kind="homeserver")
    Account.objects.create(homeserver=hs, user_id="@agent_s:sb.test", localpart="agent_s", way=AccountWay.SESSION)
    # A room that was never made is nobody's to forget.
    Room.objects.create(homeserver=hs, room_id=None, alias="#agent_x:sb.test", name="x")
    space = Room.objects.create(homeserver=hs, kind="space", room_id="!space", name="space")
    assert lines("mappings")["agents.Room"] == 2, "the space is found again as well"
    assert outside("mappings")["reset.orphans"].startswith("1 room of agents"), "and is no agent's"
    assert lines("all")["agents.Account"] == 2, "sessions stay"
    space.delete()
    Room.objects.filter(pk=world.rooms[0].pk).update(in_space=True, child_order="a", switchboard_joined=True)
    counted = lines("mappings")
    assert counted == {"agents.Mapping": 1, "agents.Room": 1, "agents.Invitation": 1}
    said = outside("mappings")
    assert said["reset.archived_stay"].startswith("1 mapping of archived agents stays")
    assert said["reset.sessions_stay"].startswith("1 account speaks with a session of its own")
    assert remove("mappings") == {
        **dict.fromkeys(("agents.Drift", "agents.InviteePause", "agents.MappingImport"), 0),
        **counted,
    }
    forgotten, kept = (Room.objects.get(pk=room.pk) for room in world.rooms)
    assert kept.room_id == "!old"
    assert (forgotten.room_id, forgotten.in_space, forgotten.child_order, forgotten.switchboard_joined) == (
        None, False, "", False,
    )  # fmt: skip
    assert Account.objects.count() == 3, "sessions and archived ones among them"


def test_found_again_a_room_goes_on_where_intake_stood(stage: Stage, data_dir: Any):
    agent = stage.agent()
    stage.enters(agent)
    stage.says(stage.fresh(), "Before")
    stage.drain()
    before = stage.room()
    room_id, event_at, event_id, since = (
        before.room_id,
        before.last_event_at,
        before.last_event_id,
        before.taken_over_at,
    )
    assert event_at is not None
    hs = Service.objects.get(kind="homeserver")
    for name, way in (("agent_stray", AccountWay.APPSERVICE), ("agent_held", AccountWay.SESSION)):
        Account.objects.create(homeserver=hs, user_id=f"@{name}:fake.test", localpart=name, way=way)
    done = reset_now(scopes=["mappings"], typed="reset mappings", actor="test")
    assert (done["left"], open_reset()) == ([], None)
    room = stage.room()
    assert (room.pk, room.room_id) == (before.pk, room_id)
    assert (room.last_event_at, room.last_event_id, room.taken_over_at) == (event_at, event_id, since)
    assert list(Account.objects.filter(mapping__isnull=True).values_list("localpart", flat=True)) == ["agent_held"]
    asked = len(stage.world.requests)
    stage.says(stage.fresh(), "Now")
    stage.drain()
    assert [request.text for request in stage.world.requests[asked:]] == ["Now"]


def test_a_room_that_is_nobodys_afterwards_is_named_and_the_reset_stays_open(stage: Stage, data_dir: Any):
    agent = stage.agent()
    service = agent.service
    room_id = stage.room().room_id
    stage.world.agents[service.name] = []
    Agent.objects.filter(pk=agent.pk).update(external_id="another")
    done = reset_now(scopes=["mappings"], typed="reset mappings", actor="test")
    assert any(str(room_id) in one for one in done["left"]), done
    note = open_reset()
    assert note is not None
    assert note["left"] == done["left"]
    assert not Mapping.objects.filter(room__room_id=room_id).exists()
    Agent.objects.filter(pk=agent.pk).update(external_id="id-ada")
    stage.lists(service, "Ada")
    assert reset_finish(actor="test")["left"] == []
    assert open_reset() is None
    assert stage.room().room_id == room_id


def test_with_all_gone_whoever_spoke_in_what_is_held_stays_with_its_room(world: World):
    service = Service.objects.get(kind="demo")
    answered, listened, idle = (
        Agent.objects.create(service=service, external_id=name, name=name) for name in ("answered", "listened", "idle")
    )
    hs = Service.objects.get(kind="homeserver")
    room = Room.objects.create(homeserver=hs, kind="direct", room_id="!held", name="held")
    held = world.conversation(room)
    Conversation.objects.filter(pk=held.pk).update(hold="a lawsuit")
    Turn.objects.filter(conversation=held).update(agent=answered)
    Participant.objects.filter(conversation=held, kind="agent").update(agent=listened)
    Invitation.objects.create(room=room, user_id="@carl:sb.test")
    assert outside("conversations")["reset.history_stays"].startswith("What was said in 2 rooms"), "not in the held one"
    remove("all")
    assert set(Agent.objects.values_list("name", flat=True)) == {"echo", "answered", "listened"}, idle
    assert set(Room.objects.values_list("name", flat=True)) >= {"held"}
    assert not Room.objects.filter(name="old").exists()
    assert list(Invitation.objects.values_list("user_id", flat=True)) == ["@carl:sb.test"]
    assert Delivery.objects.filter(message__conversation=held).count() == 1


def test_links_to_shared_conversations_are_counted(world: World):
    for talk, digest in ((world.portal, "d"), (world.held, "e")):
        ShareLink.objects.create(conversation=talk, digest=digest * 64, hint="x", through_seq=1)
    assert lines("conversations")["chat.ShareLink"] == 1
    assert remove("conversations")["chat.ShareLink"] == 1


def test_rooms_begin_behind_whatever_is_newest_of_what_was_heard(world: World):
    heard, ours = SAID + timedelta(hours=1), SAID + timedelta(hours=2)
    Room.objects.filter(pk=world.rooms[0].pk).update(last_event_at=heard)
    Room.objects.filter(pk=world.direct.pk).update(taken_over_at=ours)
    remove("conversations")
    assert Room.objects.get(pk=world.rooms[0].pk).taken_over_at == heard
    assert Room.objects.get(pk=world.direct.pk).taken_over_at == ours


@pytest.mark.parametrize(
    ("scopes", "said"),
    [
        (["people"], "People are being reset"),
        (["mappings", "people"], "Mappings and people are being reset"),
        (["all"], "Everything is being reset"),
    ],
)
def test_whoever_holds_still_is_told_why_in_good_words(scopes, said):
    assert resets._stillness(scopes) == said


def test_rows_have_a_plural_that_people_use():
    """It stands in progress and comparisons."""
    made = [model._meta for app in ("ops", "agents", "chat") for model in apps.get_app_config(app).get_models()]
    assert [one.label for one in made if re.search(r"(?:xs|[^aeiou]ys|ss)$", str(one.verbose_name_plural))] == []
