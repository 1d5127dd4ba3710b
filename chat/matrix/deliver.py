"""Delivers to a Matrix room as the agent: pieces of a long answer in order, the preview's event completed by a last edit."""

from __future__ import annotations

from typing import Any

from agents.matrix.content import edit_content, file_content, notice_content, reply_to, text_content
from agents.matrix.crypto.errors import KeysUnusable
from agents.matrix.errors import (
    Forbidden,
    HomeserverUnreachable,
    MatrixError,
    NotFound,
    RateLimited,
    Refused,
    SessionRefused,
    TokenRefused,
)
from agents.matrix.markdown import Rendered, render
from agents.matrix.split import split_for_events
from agents.models import Account, Room
from agents.services import encryption
from agents.services.backends import Homeserver, NoHomeserver, homeserver_of
from agents.sync.rooms import register_sender
from chat.attachments import folder
from chat.deliveries.run import DeliveryFailed, DeliveryLost
from chat.deliveries.txn import digest, marker, txn_id
from chat.matrix import encrypted
from chat.matrix.state_events import account_of_direct_room
from chat.models import Attachment, Delivery, Message, Role
from chat.turns.files import has_files
from ops.leases import renew
from ops.logs import get_logger

log = get_logger(__name__)

# A reply is at most 12 events; what does not fit goes along as a file.
MAX_EVENTS = 12
ATTEMPTS_WHEN_SHUT_OUT = 4


def deliver(delivery: Delivery) -> dict[str, Any]:
    """Send one delivery. Returns the fields to store; raises ``DeliveryFailed`` or ``DeliveryLost``."""
    room, message = delivery.room, delivery.message
    if room is None or message is None or not room.room_id:
        raise DeliveryFailed("The room does not exist yet.", code="delivery.no_room", counts=False, retry_after=10)
    try:
        homeserver = homeserver_of(room.homeserver)
        return _Sender(delivery, message, room, homeserver).send()
    except NoHomeserver as error:
        raise DeliveryFailed(error.sentence, code="homeserver.none", counts=False, retry_after=30) from error
    except MatrixError as error:
        raise _failure(delivery, error) from error


def _failure(delivery: Delivery, error: MatrixError) -> DeliveryFailed:
    if isinstance(error, SessionRefused):
        # The account speaks with a session that does not work now; the words wait for it.
        return DeliveryFailed(
            error.sentence, code=error.code, counts=False, retry_after=min(error.retry_after or 30, 300)
        )
    if isinstance(error, KeysUnusable) and delivery.room is not None:
        # Whoever waits for the answer learns why none comes; it is sent when the keys can be used again.
        encrypted.tell_lost(delivery.room, homeserver_of(delivery.room.homeserver))
        return DeliveryFailed(error.sentence, code="encryption.keys", counts=False, retry_after=60.0)
    if isinstance(error, (HomeserverUnreachable, RateLimited, TokenRefused)):
        wait = (
            error.retry_after if error.retry_after is not None else (30.0 if isinstance(error, TokenRefused) else None)
        )
        # An outage is nobody's message's fault. A 500 may be this event's own: it must not hold up its room for ever.
        return DeliveryFailed(error.sentence, code=error.code, counts=error.status == 500, retry_after=wait)
    shut_out = isinstance(error, (Forbidden, NotFound))
    final = (shut_out and delivery.attempts >= ATTEMPTS_WHEN_SHUT_OUT) or (isinstance(error, Refused) and not shut_out)
    return DeliveryFailed(error.sentence, code=error.code, final=final, retry_after=error.retry_after)


class _Sender:
    def __init__(self, delivery: Delivery, message: Message, room: Room, homeserver: Homeserver) -> None:
        self.delivery, self.message, self.room, self.homeserver = delivery, message, room, homeserver
        self.room_id = room.room_id or ""
        # Files stand behind the text, whose pieces may become more when it is edited.
        self.shown: list[dict[str, Any]] = [dict(entry) for entry in delivery.shown if "attachment" not in entry]
        self.files: list[dict[str, Any]] = [dict(entry) for entry in delivery.shown if "attachment" in entry]
        self.extra = marker(message.hop, message=message.pk, turn=delivery.turn_id)
        as_agent = delivery.speak_as == "agent" and delivery.account is not None
        self.user_id = delivery.account.user_id if as_agent and delivery.account else homeserver.sender_id
        self.as_agent = as_agent

    def send(self) -> dict[str, Any]:
        if not self.as_agent:
            self._join_as_switchboard()
        pieces = self._pieces()
        most = self._most_pieces()
        rest = pieces[max(1, most - 1) :] if len(pieces) > most else []
        if rest:
            pieces = pieces[: max(1, most - 1)]
        for number, piece in enumerate(pieces):
            self._show(number, piece)
            if number + 1 < len(pieces) or rest:
                self._keep()
        if rest:
            self._attach_whole(len(pieces))
        if not self.as_agent and has_files(self.message):
            for attachment in self.message.attachments.all():
                self._send_file(attachment)
        return {"shown": [*self.shown, *self.files], "edits": self.delivery.edits}

    def _most_pieces(self) -> int:
        """What the preview's edits and the last one leave of the events that a reply may be."""
        return MAX_EVENTS - self.delivery.edits - (1 if self.delivery.shown and self.delivery.edits else 0)

    def _pieces(self) -> list[str]:
        limit = encryption.event_limit(self.homeserver, self.room_id, self.user_id)
        if self.as_agent:
            return split_for_events(self.message.text, limit) or [self.message.text or " "]
        if self.message.role == Role.NOTICE:
            return [self.message.text]
        # Somebody who spoke elsewhere; the room is told who it was.
        name = _plain(str(self.message.sender))
        return split_for_events(
            f"**{name}:** {self.message.text}" if self.message.text else f"**{name}** sends:", limit
        )

    def _show(self, number: int, piece: str) -> None:
        rendered = render(piece)
        entry = self.shown[number] if number < len(self.shown) else None
        mark = digest(piece)
        if entry is None:
            txn = txn_id(self.delivery, f"part{number}")
            self.shown.append({"txn": txn, "event_id": self._put(self._content(rendered, number), txn), "digest": mark})
            return
        if not entry.get("event_id"):
            # Sent perhaps, before a crash: the same transaction id gives the event that stands there, or makes it now.
            entry["event_id"] = self._put(self._content(rendered, number), entry["txn"])
            entry.pop("digest", None)
        if entry.get("digest") != mark:
            self.delivery.edits += 1
            content = edit_content(entry["event_id"], rendered, extra=self.extra)
            # The text is part of the id: an answer after a notice in the same event is another edit.
            self._put(content, txn_id(self.delivery, f"final{number}.{mark}"))
            entry["digest"] = mark

    def _content(self, rendered: Rendered, number: int) -> dict[str, Any]:
        notice = self.message.role == Role.NOTICE or self.delivery.notice
        content = (notice_content if notice else text_content)(rendered, extra=self.extra)
        asked = self.message.in_reply_to
        if number == 0 and asked is not None and asked.transport == "matrix" and self._others_spoke_since(asked):
            content = reply_to(content, asked.external_id)
        return content

    def _others_spoke_since(self, asked: Message) -> bool:
        """Only where it would be unclear what is answered does the answer point to the question."""
        return self.message.seq > asked.seq + 1

    def _put(self, content: dict[str, Any], txn: str) -> str:
        client = self.homeserver.client
        try:
            return client.send(self.room_id, content, txn_id=txn, user_id=self.user_id)
        except Forbidden as error:
            if not self._mend(error):
                raise
        return client.send(self.room_id, content, txn_id=txn, user_id=self.user_id)

    def _mend(self, error: Forbidden) -> bool:
        """The homeserver may have lost the account, or put it out of the room: make it again, and walk back in."""
        log.info("delivery.shut_out", user_id=self.user_id, error=error.sentence[:200])
        client = self.homeserver.client
        try:
            if client.register(self.user_id[1:].partition(":")[0]):
                # The homeserver had lost it, and its name and picture: the next sync writes them again.
                Account.objects.filter(user_id=self.user_id).update(display_name="", avatar_source="", avatar_mxc="")
            client.join(self.room_id, self.user_id)
        except MatrixError:
            return False
        return True

    def _join_as_switchboard(self) -> None:
        """Switchboard's own account comes into a room when it first has something to say there."""
        if self.room.switchboard_joined:
            return
        mapping = getattr(self.room, "mapping", None)
        host = mapping.account if mapping is not None else account_of_direct_room(self.room)
        register_sender(self.homeserver)
        if host is not None:
            self.homeserver.client.invite(self.room_id, self.homeserver.sender_id, host.user_id)
        self.homeserver.client.join(self.room_id, self.homeserver.sender_id)
        Room.objects.filter(pk=self.room.pk).update(switchboard_joined=True)
        self.room.switchboard_joined = True

    def _attach_whole(self, number: int) -> None:
        if number < len(self.shown):
            return
        data = self.message.text.encode()
        place = encryption.upload(self.homeserver, self.room_id, self.user_id, data, "text/markdown", "answer.md")
        content = {
            "msgtype": "m.file",
            "body": "answer.md",
            "filename": "answer.md",
            **place,
            "info": {"mimetype": "text/markdown", "size": len(data)},
            **self.extra,
        }
        txn = txn_id(self.delivery, "file")
        self.shown.append({"txn": txn, "event_id": self._put(content, txn), "digest": ""})

    def _send_file(self, attachment: Attachment) -> None:
        """A file of the message. Its event has an id made from the row: sent again, it is the same event."""
        if any(entry["attachment"] == str(attachment.pk) for entry in self.files):
            return
        self._keep()
        try:
            with folder.open_content(attachment.path) as file:
                data = file.read()
        except FileNotFoundError:
            log.warning("delivery.file_gone", attachment=str(attachment.pk))
            return
        place = encryption.upload(
            self.homeserver, self.room_id, self.user_id, data, attachment.media_type, attachment.name
        )
        content = file_content(
            attachment.name, attachment.media_type, attachment.size, place,
            width=attachment.width, height=attachment.height, extra=self.extra,
        )  # fmt: skip
        txn = txn_id(self.delivery, f"file.{attachment.pk.hex}")
        event_id = self._put(content, txn)
        self.files.append({"txn": txn, "event_id": event_id, "attachment": str(attachment.pk)})

    def _keep(self) -> None:
        """Note how far it came, so that whoever takes over goes on from there."""
        if not renew(self.delivery, shown=[*self.shown, *self.files]):
            raise DeliveryLost


def _plain(name: str) -> str:
    return "".join(char for char in name if char not in "*_`[]<>\n")[:100]
