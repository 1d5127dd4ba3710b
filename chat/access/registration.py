"""Who may join: anybody, whoever has an invitation, or nobody. Changes while everything runs."""

from __future__ import annotations

from typing import Any, Literal

from django.conf import settings

from ops.live import live, register_live

Mode = Literal["open", "invite", "closed"]
MODES: tuple[Mode, ...] = ("open", "invite", "closed")
KEY = "people.registration"
DAILY_KEY = "people.portagent_daily_code"


def parse_mode(value: Any) -> str:
    """One of the modes."""
    if value not in MODES:
        raise ValueError(f"Choose one of {', '.join(MODES)}.")
    return str(value)


def parse_switch(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError("Give true or false.")
    return value


register_live(
    KEY,
    label="Registration",
    help="Who may join: anybody (open), whoever has an invitation (invite), or nobody (closed).",
    parse=parse_mode,
    default=lambda: settings.REGISTRATION,
)
register_live(
    DAILY_KEY,
    label="Portagent's daily code",
    help="Accept the code that Portagent 1 made from the date, too. Anybody can work it out: for a transition only.",
    parse=parse_switch,
    default=lambda: settings.PORTAGENT_DAILY_CODE,
)


def mode() -> Mode:
    """Who may join now."""
    value: Mode = live(KEY)
    return value


def daily_code_allowed() -> bool:
    """Whether Portagent's daily code opens the door as an invitation does."""
    return bool(live(DAILY_KEY))
