"""How refusals of messages, turns and deliveries look in the API."""

from __future__ import annotations

from django.utils import timezone

from chat.services.messages import CannotSend
from chat.services.quotas import resets_at
from chat.services.turns import WrongState
from ops.api.problems import Problem, declare, translate

MESSAGE_REFUSED = declare("message.refused", 422, "The message was held back")
KEY_REUSED_BY_CLIENT = declare("message.client_id_reused", 422, "The client_id belongs to another message")
NO_AGENT = declare("conversation.no_agent", 422, "No agent answers in the conversation")
WRONG_STATE = declare(WrongState.code, 409, "It is not in a state in which this can be done")

_CANNOT_SEND = {
    known.code: known
    for known in (
        declare("message.empty", 422, "The message is empty"),
        declare("agent.archived", 409, "The agent is archived"),
        declare("agent.not_yours", 403, "The person may not talk to this agent"),
        declare("agent.gone", 409, "The agent does not exist any more"),
        declare("message.parent", 422, "There is no such place in the conversation"),
        declare("message.not_yours", 403, "Somebody else said it"),
        declare("message.not_answered", 422, "There is nothing that could be answered again"),
        declare("conversation.no_branches", 409, "The conversation has no branches"),
        declare("turn.open", 409, "The agent is still answering"),
        declare("attachment.too_many", 422, "Too many files for one message"),
        declare("attachment.unknown", 422, "A file is not there any more, or was sent already"),
        declare("quota.messages", 429, "Today's messages are used up"),
        declare("quota.tokens", 429, "Today's tokens are used up"),
        declare("guard.too_long", 422, "The message is too long"),
        declare("guard.no_agent", 422, "No agent answers here"),
        declare("guard.hop_limit", 422, "Agents answered each other often enough"),
        declare("guard.reply_limit", 429, "Agents spoke too often within a minute"),
        declare("guard.fan_out", 429, "The same was said to many agents within a minute"),
    )
}


def _cannot_send(error: CannotSend) -> Problem:
    code = _CANNOT_SEND.get(error.code, MESSAGE_REFUSED)
    wait = "60" if code.status == 429 else ""
    if error.code.startswith("quota."):
        wait = str(max(1, int((resets_at() - timezone.now()).total_seconds())))
    return Problem(code, error.sentence, headers={"Retry-After": wait} if wait else None)


translate(CannotSend, _cannot_send)
translate(WrongState, lambda error: Problem(WRONG_STATE, error.sentence))
