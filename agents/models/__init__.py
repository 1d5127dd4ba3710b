"""Agents, their Matrix accounts and rooms, and the runs of sync."""

from agents.models.account import Account, AccountSession, AccountWay
from agents.models.agent import Agent, AgentState, MemoryPolicy
from agents.models.drift import Drift, DriftKind
from agents.models.invitee import InviteePause
from agents.models.mapping import Mapping
from agents.models.mapping_import import ImportAction, ImportChoice, ImportState, MappingImport, MappingImportRow
from agents.models.memory_edit import MemoryEdit
from agents.models.room import Invitation, InvitationState, Room, RoomKind
from agents.models.sync_run import SyncRun, SyncState

__all__ = [
    "Account",
    "AccountSession",
    "AccountWay",
    "Agent",
    "AgentState",
    "Drift",
    "DriftKind",
    "ImportAction",
    "ImportChoice",
    "ImportState",
    "Invitation",
    "InvitationState",
    "InviteePause",
    "Mapping",
    "MappingImport",
    "MappingImportRow",
    "MemoryEdit",
    "MemoryPolicy",
    "Room",
    "RoomKind",
    "SyncRun",
    "SyncState",
]
