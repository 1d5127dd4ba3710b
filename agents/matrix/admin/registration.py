"""Registering an account as anybody may: with a registration token, or where registration is open.

Client-server API, "Account registration" and "User-Interactive Authentication": the first ``POST /register`` is answered with 401
and the flows (lists of stages) that lead to an account; each stage is then completed within the session that came with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from agents.matrix.asking import ask, json_of
from agents.matrix.calls import V3
from agents.matrix.errors import HomeserverUnreachable, Refused, from_response

TOKEN = "m.login.registration_token"  # noqa: S105 (the name of a stage)
DUMMY = "m.login.dummy"
_OURS = frozenset({TOKEN, DUMMY})
# Hashing the password takes a second on a busy machine, and another program may be registering as well.
REGISTER_SECONDS = 60.0
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


def register(base_url: str, localpart: str, password: str, *, token: str = "") -> str:
    """Register an account by itself and return its user id; no session is left open. Raises ``MatrixError`` (``Taken``...).

    The first flow is taken that needs nothing but the token (when there is one) and the dummy stage.
    """
    action = f"register {localpart}"
    body: dict[str, Any] = {"username": localpart, "password": password, "inhibit_login": True}
    challenge = _step(base_url, body, action, token)
    if isinstance(challenge, str):
        return challenge
    stages = _flow(challenge, token)
    if stages is None:
        raise Refused(flows_of(challenge).sentence, errcode="M_FORBIDDEN", status=401, where=base_url, action=action)
    for stage in stages:
        auth: dict[str, Any] = {"type": stage, "session": challenge.get("session")}
        if stage == TOKEN:
            auth["token"] = token
        found = _step(base_url, {**body, "auth": auth}, action, token)
        if isinstance(found, str):
            return found
        if stage not in (found.get("completed") or []):
            words = str(found.get("error") or f"the stage {stage} was not accepted")
            raise Refused(words, errcode=str(found.get("errcode") or ""), status=401, where=base_url, action=action)
    raise Refused("every stage was completed and no account was made", where=base_url, action=action)


def _flow(challenge: dict[str, Any], token: str) -> Sequence[str] | None:
    usable = [one for one in flows_of(challenge).flows if set(one) <= (_OURS if token else {DUMMY})]
    # With a token at hand, the flow that asks for it: an open one may be limited.
    return next((one for one in usable if TOKEN in one), usable[0] if usable else None)


def _step(base_url: str, body: dict[str, Any], action: str, secret: str) -> str | dict[str, Any]:
    """One ``POST /register``: the user id, or the 401's object with what is still to be done."""
    try:
        answer = ask(base_url, f"{V3}/register", body=body, seconds=REGISTER_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
        raise HomeserverUnreachable(type(error).__name__, where=base_url, action=action) from None
    data = json_of(answer)
    if answer.status_code == 401 and isinstance(data, dict) and isinstance(data.get("flows"), list):
        return data
    user_id = data.get("user_id") if isinstance(data, dict) else None
    if answer.status_code >= 300 or not isinstance(user_id, str):
        raise from_response(
            answer.status_code, answer.content, answer.headers, where=base_url, action=action, secret=secret
        )
    return user_id
