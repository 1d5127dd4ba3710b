"""What became of events: counted, and noted with a reason where one became no message."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agents.matrix.markdown import clean_text
from chat.models import RefusedEvent
from ops.logs import get_logger

log = get_logger(__name__)

TRANSPORT = "matrix"


@dataclass(slots=True)
class Report:
    """What became of a batch of events. ``history`` counts what was taken in as said before a restore."""

    stored: int = 0
    history: int = 0
    repeated: int = 0
    refused: dict[str, int] = field(default_factory=dict)

    def refuse(self, reason: str) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + 1


def refuse_event(event: dict[str, Any], reason: str, sentence: str, report: Report) -> None:
    """Count it, and note why it became no message."""
    report.refuse(reason)
    refuse(
        str(event.get("event_id") or ""),
        str(event.get("room_id") or ""),
        str(event.get("sender") or ""),
        reason,
        sentence,
    )


def refuse(event_id: str, place: str, sender: str, reason: str, sentence: str) -> None:
    """Note why an event became no message; the same event twice is one note."""
    RefusedEvent.objects.bulk_create(
        [
            RefusedEvent(
                transport=TRANSPORT,
                external_id=clean_text(event_id)[:255],
                place=clean_text(place)[:255],
                sender=clean_text(sender)[:255],
                reason=reason[:50],
                sentence=sentence[:500],
            )
        ],
        ignore_conflicts=True,
    )
    log.info("intake.refused", event_id=event_id, reason=reason)
