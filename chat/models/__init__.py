"""People and what is said, turn by turn, wherever it came from."""

from chat.models.access import AccessAttempt, AttemptKind, ProgramLogin, SigningKey, SocketTicket
from chat.models.attachment import Attachment
from chat.models.client import ClientPrefix
from chat.models.conversation import Conversation, Link, LinkKind, Participant, ParticipantKind
from chat.models.delivery import Delivery, DeliveryState
from chat.models.epoch import IntakeEpoch
from chat.models.impersonation import Impersonation
from chat.models.imported import ImportedRow
from chat.models.invite import Invite, InviteUse
from chat.models.membership import Membership
from chat.models.message import Message, MessageState, Role
from chat.models.person import AgentGrant, Person, PersonRole
from chat.models.refused import RefusedEvent
from chat.models.share import ShareLink
from chat.models.socket import SocketClose
from chat.models.sync_cursor import SyncCursor
from chat.models.turn import OPEN_TURN_STATES, Turn, TurnState
from chat.models.usage import Quota, UsageDay

__all__ = [
    "OPEN_TURN_STATES",
    "AccessAttempt",
    "AgentGrant",
    "Attachment",
    "AttemptKind",
    "ClientPrefix",
    "Conversation",
    "Delivery",
    "DeliveryState",
    "Impersonation",
    "ImportedRow",
    "IntakeEpoch",
    "Invite",
    "InviteUse",
    "Link",
    "LinkKind",
    "Membership",
    "Message",
    "MessageState",
    "Participant",
    "ParticipantKind",
    "Person",
    "PersonRole",
    "ProgramLogin",
    "Quota",
    "RefusedEvent",
    "Role",
    "ShareLink",
    "SigningKey",
    "SocketClose",
    "SocketTicket",
    "SyncCursor",
    "Turn",
    "TurnState",
    "UsageDay",
]
