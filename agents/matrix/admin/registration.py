"""How anybody may register an account: with a registration token, openly, or not at all.

Client-server API, "Account registration" and "User-Interactive Authentication": the first ``POST /register`` is answered with 401
and the flows (lists of stages) that lead to an account. ``agents.matrix.session_calls`` walks them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import httpx

from agents.matrix.asking import ask, json_of
from agents.matrix.calls import V3
from agents.matrix.errors import HomeserverUnreachable

TOKEN = "m.login.registration_token"  # noqa: S105 (the name of a stage)
DUMMY = "m.login.dummy"
_OURS = frozenset({TOKEN, DUMMY})
Kind = Literal["token", "open", "closed", "unserved", "other"]


@dataclass(frozen=True, slots=True)
class Flows:
    """What leads to an account. ``kind``: with a token, openly, not at all (``closed``: the homeserver refuses; ``unserved``: it does
    not know the call), or by stages that only a person can complete (``other``: e-mail, captcha, terms)."""

    kind: Kind
    flows: tuple[tuple[str, ...], ...] = ()
    sentence: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON shape: ``{kind, flows: [[stage]], sentence}``."""
        return {"kind": self.kind, "flows": [list(one) for one in self.flows], "sentence": self.sentence}


def registration_flows(base_url: str) -> Flows:
    """Which flows the homeserver offers to anybody (``POST /register`` without any authentication). Makes no account.

    Raises ``MatrixError`` when it does not answer.
    """
    action = "ask how accounts are registered"
    try:
        answer = ask(base_url, f"{V3}/register", body={})
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
        raise HomeserverUnreachable(type(error).__name__, where=base_url, action=action) from None
    data = json_of(answer)
    data = data if isinstance(data, dict) else {}
    if answer.status_code == 401 and isinstance(data.get("flows"), list):
        return flows_of(data)
    code, words = str(data.get("errcode") or ""), str(data.get("error") or "").strip()
    if answer.status_code in (404, 405) and code in ("", "M_UNRECOGNIZED"):
        return Flows("unserved", sentence="It serves no registration; accounts are made elsewhere.")
    if answer.status_code == 429:
        return Flows("closed", sentence="It asks us to be slower; ask again in a moment.")
    return Flows(
        "closed", sentence=f"Registration is closed ({code or answer.status_code}): {words or 'no reason given'}"
    )


def flows_of(data: dict[str, Any]) -> Flows:
    """What the flows in a 401 allow us to do without a person."""
    flows = tuple(
        tuple(str(stage) for stage in one["stages"])
        for one in data.get("flows") or []
        if isinstance(one, dict) and isinstance(one.get("stages"), list)
    )
    ours = [one for one in flows if set(one) <= _OURS]
    if any(TOKEN not in one for one in ours):
        return Flows("open", flows, "Anybody may register.")
    if ours:
        return Flows("token", flows, "Whoever has a registration token may register.")
    needed = sorted({stage for one in flows for stage in one} - _OURS)
    return Flows("other", flows, f"Registration needs a person: {', '.join(needed) or 'no flow is offered'}.")
