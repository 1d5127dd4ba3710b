"""People and what is said, turn by turn, wherever it came from."""

from chat.models.conversation import Conversation, Link, LinkKind, Participant, ParticipantKind
from chat.models.delivery import Delivery, DeliveryState
from chat.models.epoch import IntakeEpoch
from chat.models.message import Message, MessageState, Role
from chat.models.person import Person
from chat.models.refused import RefusedEvent
from chat.models.turn import OPEN_TURN_STATES, Turn, TurnState

__all__ = [
    "OPEN_TURN_STATES",
    "Conversation",
    "Delivery",
    "DeliveryState",
    "IntakeEpoch",
    "Link",
    "LinkKind",
    "Message",
    "MessageState",
    "Participant",
    "ParticipantKind",
    "Person",
    "RefusedEvent",
    "Role",
    "Turn",
    "TurnState",
]
