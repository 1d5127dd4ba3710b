"""Agents, their Matrix accounts and rooms, and the runs of sync."""

from agents.models.account import Account
from agents.models.agent import Agent, AgentState, MemoryPolicy
from agents.models.mapping import Mapping
from agents.models.memory_edit import MemoryEdit
from agents.models.room import Invitation, InvitationState, Room, RoomKind
from agents.models.sync_run import SyncRun, SyncState

__all__ = [
    "Account",
    "Agent",
    "AgentState",
    "Invitation",
    "InvitationState",
    "Mapping",
    "MemoryEdit",
    "MemoryPolicy",
    "Room",
    "RoomKind",
    "SyncRun",
    "SyncState",
]
