"""What the pages about agents share."""

from __future__ import annotations

from urllib.parse import quote

from django.conf import settings

from agents.backends.errors import BackendError
from agents.matrix.errors import MatrixError
from agents.models import Account, AccountSession, AccountWay, Agent, AgentState, Mapping, Room
from agents.services.backends import NoHomeserver
from ops.choices import Lamp
from ops.locks import LockHeld

EXPECTED = (BackendError, MatrixError, NoHomeserver, LockHeld)

MAPPING_WORDS: dict[str, tuple[Lamp, str]] = {
    "connected": (Lamp.GOOD, "Connected"),
    "incomplete": (Lamp.WORKING, "Being set up"),
    "ready": (Lamp.GOOD, "Ready, room on first contact"),
    "paused": (Lamp.OFF, "Paused"),
    "missing": (Lamp.ATTENTION, "Missing on its server"),
    "trouble": (Lamp.TROUBLE, "Trouble"),
    "archived": (Lamp.OFF, "Archived"),
    "unmapped": (Lamp.ATTENTION, "Has no room yet"),
}


def mapping_of(agent: Agent) -> Mapping | None:
    """The agent's mapping, or None; asks nothing when it was selected along."""
    return getattr(agent, "mapping", None)


def agent_status(agent: Agent) -> tuple[Lamp, str]:
    """Lamp and word for an agent, by its mapping."""
    mapping = mapping_of(agent)
    if mapping is not None:
        mapping.agent = agent
        return MAPPING_WORDS[mapping.status]
    if agent.state == AgentState.ACTIVE:
        return MAPPING_WORDS["paused" if agent.paused else "unmapped"]
    return MAPPING_WORDS["missing" if agent.state == AgentState.MISSING else "archived"]


SESSION_LAMPS: dict[str, Lamp] = {
    AccountSession.NONE: Lamp.WORKING,
    AccountSession.GOOD: Lamp.GOOD,
    AccountSession.REFUSED: Lamp.TROUBLE,
    AccountSession.LOCKED: Lamp.TROUBLE,
}


def account_state(account: Account) -> tuple[Lamp, str, str]:
    """Lamp, word and sentence: whether it is made, and what the homeserver says to a session of its own."""
    if not account.registered_at:
        return Lamp.WORKING, "Not made yet", ""
    if account.way != AccountWay.SESSION and account.session == AccountSession.NONE and not account.session_error:
        return Lamp.GOOD, "Registered", ""
    word = "No session yet" if account.session == AccountSession.NONE else account.get_session_display()
    return SESSION_LAMPS[AccountSession(account.session)], word, account.session_error


def client_address(room: Room | None) -> str:
    """Where a Matrix client shows the room; "" while there is no room."""
    place = (room.alias or room.room_id or "") if room is not None and room.room_id else ""
    return settings.MATRIX_CLIENT_URL.rstrip("/") + "/" + quote(place, safe="#!:@.") if place else ""
