"""Rows whose texts and JSON values databases and libraries write differently, and the lines that a backup makes of tables."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from chat.models import Conversation, Message, Participant
from ops.backup.lines import LineReader

HARD = "".join(map(chr, range(0x80))) + '\x80\xa0é\u2028\u2029\ufeff\ufffd\U0001f426"\\u0000 \\'


def lines_of(alias, shape, worth):
    with ThreadPoolExecutor(2) as pool:
        return b"".join(block.lines for block in LineReader(alias, pool, len, worth=worth).blocks(shape))


def hard_rows(*, nul=True):
    """Messages with them; ``nul``: with the character that PostgreSQL cannot hold."""
    hard = HARD if nul else HARD[1:].replace("\\u0000", "")
    conversation = Conversation.objects.create(title="Hard")
    sender = Participant.objects.create(conversation=conversation, kind="guest", external_id="hard")
    values = [
        {"z": [1e22, 1e-7, 12345678901234567890123, 1.0, -0.0, True, None]},
        {"b": 1, "a": {"d": hard, "c": []}},
        "text",
        0,
    ]
    for seq, value in enumerate(values, 1):
        Message.objects.create(
            conversation=conversation, seq=seq, sender=sender, role="user", text=hard * seq, parts=value, transport="portal",
            received_at="2026-11-28T03:15:00Z", stored_at="2026-11-28T03:15:00.000001Z",
        )  # fmt: skip
