"""Does what a plan says: one transaction for a person, an invitation, a conversation, and for some hundred messages at a time.

A row and the note that it was imported are written together, so an import that was killed goes on where it stopped.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.contrib.auth.hashers import make_password
from django.db import transaction
from django.utils import timezone

from agents.models import Agent
from chat.models import (
    AgentGrant,
    Attachment,
    Conversation,
    ImportedRow,
    Invite,
    InviteUse,
    Link,
    LinkKind,
    Membership,
    Message,
    Participant,
    ParticipantKind,
    Person,
    Role,
)
from chat.portagent.messages import Draft, FilePart, finished_parts
from chat.portagent.people import PersonPlan
from chat.portagent.plan import ConversationPlan, FilePlan, InvitePlan, Step
from chat.portagent.rows import CONTAINER, FILE, IMAGE, INVITE, MESSAGE, SOURCE, SYSTEM, USER, SourceRow
from chat.services.attachments import AttachmentRefused, attachment_store
from chat.services.chains import chain_store
from chat.services.conversations import participant
from chat.services.email_addresses import email_follow
from chat.services.invites import digest_of
from chat.services.tree import title_of
from ops.services.audit import record

TRANSPORT = "portagent"
_BATCH = 400

FileRejected = Callable[[SourceRow, str], None]


class Applier:
    """Applies steps in their order. ``file_rejected`` is told of files that could not be kept: their messages are here without them."""

    def __init__(self, *, agent: Agent | None, actor: str, file_rejected: FileRejected) -> None:
        self._agent, self._actor, self._file_rejected = agent, actor, file_rejected
        self._waiting: list[Step] = []
        self._image = ""

    def take(self, step: Step) -> str:
        """Do one step (messages are collected). Returns a sentence when nothing came of it: what it belongs to was deleted here."""
        if not isinstance(step.plan, Draft):
            self.flush()
        if step.action != "create" or step.plan is None:
            return ""
        if isinstance(step.plan, PersonPlan):
            self._person(step.row, step.plan)
        elif isinstance(step.plan, InvitePlan):
            self._invite(step.row, step.plan)
        elif isinstance(step.plan, ConversationPlan):
            self._conversation(step.row, step.plan)
        elif isinstance(step.plan, FilePlan):
            return self._late_file(step.row, step.plan)
        else:
            if step.image_key != self._image:
                self.flush()
                self._image = step.image_key
            self._waiting.append(step)
            if len(self._waiting) >= _BATCH:
                self.flush()
        return ""

    def flush(self) -> None:
        """Write the messages that were collected."""
        if self._waiting:
            steps, self._waiting = self._waiting, []
            _Messages(self._image, self._actor, self._agent, self._file_rejected).write(steps)

    # People and invitations

    def _person(self, row: SourceRow, made: PersonPlan) -> None:
        with transaction.atomic():
            if made.person_id is not None:
                self._note_person(row, made, made.person_id)
                return
            now = timezone.now()
            person = Person(
                username=made.username,
                email=made.email,
                display_name=made.display_name,
                password=made.password or make_password(None),
                is_active=made.active,
                is_staff=made.operator,
                is_superuser=made.operator,
                date_joined=made.joined or now,
                preferences={"avatar": made.avatar} if made.avatar else {},
            )
            if not made.active:
                person.deactivated_at = made.changed or now
                person.deactivated_by = self._actor[:255]
                person.deactivated_reason = "Was not active in Portagent."
            person.save(force_insert=True)
            email_follow(person=person, verified=False)
            self._note_person(row, made, person.pk)
            record(
                actor=self._actor,
                action="person.imported",
                target=person,
                after={"username": person.username, "email": person.email, "is_active": person.is_active},
            )

    def _note_person(self, row: SourceRow, made: PersonPlan, person_id: int) -> None:
        _note(row, USER, "chat.Person", person_id)
        for container in made.containers:
            if container:
                ImportedRow.objects.get_or_create(
                    system=SYSTEM,
                    source=SOURCE,
                    kind=CONTAINER,
                    key=container,
                    defaults={"target": "chat.Person", "target_id": str(person_id)},
                )

    def _invite(self, row: SourceRow, made: InvitePlan) -> None:
        with transaction.atomic():
            used = made.used_at is not None or bool(made.used_by)
            creator, joined = _person_of(made.created_by), _person_of(made.used_by)
            invite, fresh = Invite.objects.get_or_create(
                digest=digest_of(made.code),
                defaults={
                    "hint": f"{made.code[:2]}…",
                    "max_uses": 1,
                    "uses": int(used),
                    "note": "From Portagent",
                    "imported": True,
                    "created_by": creator,
                },
            )
            if fresh and made.created is not None:
                Invite.objects.filter(pk=invite.pk).update(created_at=made.created)
            if fresh and used:
                name = joined.username if joined is not None else made.used_by or "somebody"
                use = InviteUse.objects.create(invite=invite, person=joined, name=name[:150])
                if made.used_at is not None:
                    InviteUse.objects.filter(pk=use.pk).update(at=made.used_at)
            _note(row, INVITE, "chat.Invite", invite.pk)
            record(actor=self._actor, action="invite.imported", target=invite)

    # Conversations

    def _conversation(self, row: SourceRow, made: ConversationPlan) -> None:
        with transaction.atomic():
            owner = Person.objects.get(pk=made.owner_id) if made.owner_id is not None else _person_of(made.owner_key)
            assert owner is not None
            conversation = Conversation.objects.create(
                title=made.title, titled=bool(made.title), agent=self._agent, portal=True, last_message_at=made.changed
            )
            address = f"agent:{self._agent.pk}" if self._agent is not None else f"portagent:{row.key}"
            Link.objects.create(conversation=conversation, kind=LinkKind.PORTAL, address=address[:255])
            member = Membership.objects.create(conversation=conversation, person=owner, last_read_seq=1)
            if made.created is not None:
                Conversation.objects.filter(pk=conversation.pk).update(created_at=made.created)
                Membership.objects.filter(pk=member.pk).update(created_at=made.created)
            if self._agent is not None:
                _grant(owner, self._agent)
            _note(row, IMAGE, "chat.Conversation", conversation.pk)
            self._preface(conversation, made)
            record(actor=self._actor, action="conversation.imported", target=conversation, message=owner.username)

    def _preface(self, conversation: Conversation, made: ConversationPlan) -> None:
        """A notice at the beginning keeps what the conversation was set up with there."""
        prompt = str(made.kept.get("systemPrompt") or "").strip()
        text = "This conversation comes from Portagent."
        if prompt:
            text += f" Its instructions there were:\n\n{prompt}"
        now = timezone.now()
        speaker = participant(conversation.pk, kind=ParticipantKind.GUEST, external_id=TRANSPORT, name="Portagent")
        Message.objects.create(
            conversation=conversation,
            seq=1,
            sender=speaker,
            role=Role.NOTICE,
            text=text,
            parts=[{"type": "imported", "system": SYSTEM, **made.kept}],
            transport="notice",
            said_at=made.created,
            received_at=now,
            stored_at=now,
        )
        Conversation.objects.filter(pk=conversation.pk).update(next_seq=2)

    def _late_file(self, row: SourceRow, made: FilePlan) -> str:
        target = _target(MESSAGE, made.message_key)
        message = Message.objects.filter(pk=target).first() if target else None
        if message is None:
            return f"The message of {made.file.name} was deleted here."
        owner = message.conversation.memberships.select_related("person").order_by("pk").first()
        if owner is None:
            return f"The conversation of {made.file.name} is nobody's any more."
        kept, problem = _keep(made.file, owner.person, self._actor)
        if kept is None:
            self._file_rejected(row, problem)
            return problem
        with transaction.atomic():
            _attach(kept, message)
            _note(row, FILE, "chat.Attachment", kept.pk)
        return ""


class _Messages:
    """Writes one batch of one conversation."""

    def __init__(self, image_key: str, actor: str, agent: Agent | None, file_rejected: FileRejected) -> None:
        self._actor, self._agent, self._file_rejected = actor, agent, file_rejected
        self._conversation_id = _target(IMAGE, image_key)

    def write(self, steps: list[Step]) -> None:
        member = (
            Membership.objects.filter(conversation_id=self._conversation_id)
            .select_related("person")
            .order_by("pk")
            .first()
            if self._conversation_id
            else None
        )
        if member is None:
            # The conversation was deleted here: its messages are noted as done, or they would come again for ever.
            self._note_all(steps, [None] * len(steps))
            return
        drafts = [step.plan for step in steps if isinstance(step.plan, Draft)]
        # Before the transaction: contents lie on the disk, and what is left over is pruned.
        files = [[(part, *_keep(part, member.person, self._actor)) for part in draft.files] for draft in drafts]
        with transaction.atomic():
            conversation = Conversation.objects.select_for_update().get(pk=self._conversation_id)
            messages = self._store(conversation, member, drafts)
            for message, kept in zip(messages, files, strict=True):
                for _part, attachment, _problem in kept:
                    if attachment is not None:
                        _attach(attachment, message)
            self._note_all(steps, messages)
        for draft, kept in zip(drafts, files, strict=True):
            for part, attachment, problem in kept:
                if attachment is None:
                    self._file_rejected(_file_row(part, draft), problem)

    def _store(self, conversation: Conversation, member: Membership, drafts: list[Draft]) -> list[Message]:
        now = timezone.now()
        speakers: dict[str, Participant] = {}
        messages = []
        for draft in drafts:
            if draft.role not in speakers:
                speakers[draft.role] = self._speaker(conversation, member.person, draft.role)
            messages.append(
                Message(
                    sender=speakers[draft.role],
                    role=Role(draft.role),
                    text=draft.text,
                    parts=finished_parts(draft),
                    transport=TRANSPORT,
                    external_id=draft.external_id,
                    said_at=draft.said_at,
                    received_at=now,
                    stored_at=now,
                )
            )
        chain_store(conversation, messages, parent_id=conversation.head_id)
        said = [message.said_at for message in messages if message.said_at is not None]
        conversation.last_message_at = _latest([conversation.last_message_at, *said])
        first = next((message.text for message in messages if message.role == Role.USER), "")
        if not conversation.title and (title := title_of(first)):
            conversation.title = title
        conversation.save(update_fields=["last_message_at", "title"])
        # Read there is read here.
        Membership.objects.filter(pk=member.pk).update(last_read_seq=conversation.next_seq - 1)
        return messages

    def _speaker(self, conversation: Conversation, person: Person, role: str) -> Participant:
        if role == "user":
            return participant(
                conversation.pk,
                kind=ParticipantKind.PERSON,
                external_id=person.username,
                name=str(person),
                person_id=person.pk,
            )
        if role == "assistant" and self._agent is not None:
            return participant(
                conversation.pk,
                kind=ParticipantKind.AGENT,
                external_id=str(self._agent.pk),
                name=self._agent.name,
                agent_id=self._agent.pk,
            )
        kind = ParticipantKind.AGENT if role == "assistant" else ParticipantKind.GUEST
        return participant(conversation.pk, kind=kind, external_id=TRANSPORT, name="Portagent")

    def _note_all(self, steps: list[Step], messages: list[Any]) -> None:
        rows = []
        for step, message in zip(steps, messages, strict=True):
            assert isinstance(step.plan, Draft)
            rows += [
                _imported(row, MESSAGE, "chat.Message", message.pk if message is not None else "", digest)
                for row, digest in step.plan.sources
            ]
        ImportedRow.objects.bulk_create(rows, batch_size=500)


def _keep(part: FilePart, person: Person, actor: str) -> tuple[Attachment | None, str]:
    """The file on our disk, or why not."""
    try:
        content = part.content()
        return attachment_store(person=person, file=io.BytesIO(content), name=part.name, actor=actor), ""
    except ValueError as error:
        return None, f"The file {part.name} cannot be kept: {error}."
    except AttachmentRefused as error:
        return None, f"The file {part.name} is not kept: {error.sentence}"


def _attach(attachment: Attachment, message: Message) -> None:
    Attachment.objects.filter(pk=attachment.pk).update(message=message, conversation_id=message.conversation_id)


def _file_row(part: FilePart, draft: Draft) -> SourceRow:
    raw = {
        "message": draft.external_id,
        "part": {"name": part.name, "mediaType": part.media_type, "data": part.data},
    }
    return SourceRow(FILE, part.key[:255], raw)


def _imported(row: SourceRow, kind: str, target: str, pk: Any, digest: str = "") -> ImportedRow:
    return ImportedRow(
        system=SYSTEM,
        source=SOURCE,
        kind=kind,
        key=row.key[:255],
        target=target,
        target_id=str(pk),
        digest=digest or row.digest,
    )


def _note(row: SourceRow, kind: str, target: str, pk: Any) -> None:
    _imported(row, kind, target, pk).save(force_insert=True)


def _target(kind: str, key: str) -> str:
    rows = ImportedRow.objects.filter(system=SYSTEM, source=SOURCE, kind=kind, key=key)
    return rows.values_list("target_id", flat=True).first() or ""


def _person_of(user_key: str) -> Person | None:
    target = _target(USER, user_key) if user_key else ""
    return Person.objects.filter(pk=target).first() if target else None


def _grant(person: Person, agent: Agent) -> None:
    """Whoever may talk to some agents only may talk to the one that answers their conversations now."""
    if not person.is_staff and not person.all_agents:
        AgentGrant.objects.get_or_create(person=person, agent=agent)


def _latest(times: list[datetime | None]) -> datetime | None:
    return max((one for one in times if one is not None), default=None)
