"""What texts like ``message:42`` stand for."""

from __future__ import annotations

from ops.doctor.targets import register_target

for _kind, _model in (
    ("conversation", "chat.Conversation"),
    ("message", "chat.Message"),
    ("turn", "chat.Turn"),
    ("delivery", "chat.Delivery"),
    ("person", "chat.Person"),
    ("invite", "chat.Invite"),
):
    register_target(_kind, _model)
