"""A room whose events are taken in as history, beside rows that a backup has."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agents.matrix.keys import MARKER
from chat.models import Conversation, Delivery, DeliveryState, Message, Turn, TurnState
from chat.restoring import history
from chat.services.conversations import conversation_of, next_seq, participant
from tests.support.stage import ALICE, BOB, Stage

EARLIER = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Room:
    """Ada's room: makes its events, takes them in as history, and makes rows as a backup has them."""

    def __init__(self, stage: Stage) -> None:
        self.agent = stage.agent()
        stage.enters(self.agent, ALICE, BOB)
        self.row = stage.room()
        self.ada = str(self.agent.mapping.account.user_id)
        self.talk = conversation_of(self.row, self.agent)

    def event(self, name: str, sender: str, body: str, *, at: datetime = EARLIER, **content: Any) -> dict[str, Any]:
        return {
            "type": "m.room.message", "event_id": f"${name}", "room_id": self.row.room_id, "sender": sender,
            "origin_server_ts": int(at.timestamp() * 1000), "content": {"msgtype": "m.text", "body": body, **content},
        }  # fmt: skip

    def answer(self, name: str, body: str, *, at: datetime = EARLIER, **marker: int) -> dict[str, Any]:
        return self.event(name, self.ada, body, at=at, **{MARKER: marker})

    def edit(self, name: str, of: str, body: str, *, at: datetime = EARLIER, **marker: int) -> dict[str, Any]:
        new = {"msgtype": "m.text", "body": body}
        relation = {"rel_type": "m.replace", "event_id": f"${of}"}
        return self.event(
            name, self.ada, f"* {body}", at=at, **{"m.new_content": new, "m.relates_to": relation, MARKER: marker}
        )

    def take_in(self, *events: dict[str, Any]) -> int:
        return history.take_in(self.row, events, self.agent)

    def message(self, role: str, text: str, *, talk: Conversation | None = None, **more: Any) -> Message:
        talk = talk or self.talk
        kind, name = ("agent", str(self.agent.pk)) if role == "assistant" else ("guest", ALICE)
        agent = self.agent.pk if role == "assistant" else None
        sender = participant(talk.pk, kind=kind, external_id=name, name=name, agent_id=agent)
        values = {
            "transport": "turn" if role == "assistant" else "matrix",
            "received_at": EARLIER,
            "stored_at": EARLIER,
        }
        return Message.objects.create(
            conversation=talk, seq=next_seq(talk.pk), role=role, text=text, sender=sender, **{**values, **more}
        )

    def turn(self, asked: Message, **more: Any) -> Turn:
        values = {"state": TurnState.DONE, "created_at": EARLIER, "not_before": EARLIER, **more}
        return Turn.objects.create(
            conversation=asked.conversation,
            agent=self.agent,
            message=asked,
            seq=asked.seq,
            lane=f"t{asked.pk}",
            **values,
        )

    def delivery(self, answer: Message | None, turn: Turn, **more: Any) -> Delivery:
        values = {"state": DeliveryState.DISCARDED, "error_code": "restored", "error_reason": "Why", **more}
        return Delivery.objects.create(
            **{"message": answer, "turn": turn, "target": "matrix", "room": self.row, "created_at": EARLIER}
            | {"not_before": EARLIER, "lane": history.room_lane(self.row.pk), **values}
        )

    def said(self) -> list[tuple[str, str]]:
        return list(Message.objects.filter(conversation=self.talk).order_by("seq").values_list("role", "text"))


@pytest.fixture
def room(stage: Stage) -> Room:
    return Room(stage)


def later(**more: float) -> datetime:
    return EARLIER + timedelta(**more)
