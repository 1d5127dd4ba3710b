"""Opening a session: by password, and by making the account. Requests that need no token, or bring their own.

Specification: client-server API, "Login", "Account registration", "Token-authenticated registration"; Synapse,
``docs/admin_api/register_api.md``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from agents.matrix.admin.synapse import registration_mac
from agents.matrix.calls import V3, dumps
from agents.matrix.errors import MatrixError, Refused, Taken, TokenRefused, from_response
from agents.matrix.nio_api import Api
from agents.matrix.transport import Transport

DEVICE_NAME = "Switchboard"
# The stages of a registration that a program can pass, besides the token.
_EMPTY_STAGES = frozenset({"m.login.dummy"})


@dataclass(frozen=True, slots=True)
class Opened:
    """A session that was just opened. ``repr`` does not show the token."""

    user_id: str
    token: str
    device_id: str = ""

    def __repr__(self) -> str:
        return f"<Opened {self.user_id} {self.device_id}>"


class SessionCalls(Transport):
    """One homeserver, asked by nobody in particular. Every call raises :class:`MatrixError` and nothing else."""

    def __init__(self, base_url: str, *, timeout: float = 30.0) -> None:
        super().__init__(base_url, "", pool_size=4, timeout=timeout)

    def whoami(self, token: str) -> tuple[str, str]:
        """Whose the token is, and of which device ("" when it has none)."""
        action = "ask whose the session is"
        method, path = Api.whoami("")
        data = self._object(self.call_any(method, path, action=action, token=token), action)
        return self._string(data, "user_id", action), str(data.get("device_id") or "")

    def login(self, user: str, password: str, device_id: str) -> Opened:
        """Open a session with a password. ``device_id`` again takes the same device, whose former token then ends."""
        action = f"log {user} in"
        method, path, body = Api.login(user, password, DEVICE_NAME, device_id)
        return self._opened(self.call(method, path, body, action=action), action)

    def logout(self, token: str) -> None:
        """End the session. One that has ended already is no failure."""
        method, path = Api.logout("")
        try:
            self.call_any(method, path, "{}", action="end a session", token=token)
        except TokenRefused:
            return

    def register_by_secret(self, secret: str, localpart: str, password: str, device_id: str) -> Opened:
        """Make the account with Synapse's shared secret, session included. Raises :class:`Taken` when it exists."""
        path, action = "/_synapse/admin/v1/register", f"register {localpart}"
        nonce = self._string(self.call("GET", path, action=action), "nonce", action)
        body = {
            "nonce": nonce,
            "username": localpart,
            "password": password,
            "admin": False,
            "mac": registration_mac(secret, nonce, localpart, password, admin=False),
            "device_id": device_id,
            "initial_device_display_name": DEVICE_NAME,
        }
        try:
            return self._opened(self.call("POST", path, dumps(body), action=action), action)
        except Refused as error:
            raise self._taken(error, action) from None

    def register(self, localpart: str, password: str, device_id: str, *, token: str = "") -> Opened:
        """Make the account as anybody may: with a registration token, or where registration is open.

        Walks the stages that the homeserver asks for ("User-interactive authentication"). Raises :class:`Taken` when the account
        exists, :class:`Refused` when a stage is asked for that a program cannot pass (captcha, e-mail).
        """
        action = f"register {localpart}"
        body: dict[str, Any] = {
            "username": localpart,
            "password": password,
            "device_id": device_id,
            "initial_device_display_name": DEVICE_NAME,
        }
        try:
            asked = self._stages(body, action)
            for _ in range(4):
                if "access_token" in asked:
                    return self._opened(asked, action)
                asked = self._stages({**body, "auth": self._stage(asked, token, action)}, action)
        except Refused as error:
            raise self._taken(error, action) from None
        raise Refused(
            "its registration asks for stage after stage and does not end", where=self.base_url, action=action
        )

    def _stages(self, body: dict[str, Any], action: str) -> dict[str, Any]:
        """One step of a registration: the session, or what is asked for next (401 with ``flows``)."""
        url = f"{self.base_url}{V3}/register"
        response = self._send("POST", url, dumps(body), {"Content-Type": "application/json"}, action, None)
        try:
            found = json.loads(response.content)
        except (ValueError, RecursionError):
            found = None
        data: dict[str, Any] = found if isinstance(found, dict) else {}
        if response.status_code == 401 and isinstance(data.get("flows"), list) and "errcode" not in data:
            return data
        if response.status_code >= 300:
            raise from_response(
                response.status_code, response.content, response.headers, where=self.base_url, action=action
            )
        return data

    def _stage(self, asked: dict[str, Any], token: str, action: str) -> dict[str, Any]:
        done = asked.get("completed")
        passed = {one for one in done if isinstance(one, str)} if isinstance(done, list) else set()
        can = _EMPTY_STAGES | ({"m.login.registration_token"} if token else set())
        wanted: list[str] = []
        for flow in asked.get("flows") or []:
            stages = flow.get("stages") if isinstance(flow, dict) else None
            rest = [one for one in stages if one not in passed] if isinstance(stages, list) else []
            if rest and set(rest) <= can:
                stage: dict[str, Any] = {"type": rest[0], "session": asked.get("session")}
                return {**stage, "token": token} if rest[0] == "m.login.registration_token" else stage
            wanted += [str(one) for one in rest]
        needs = ", ".join(sorted(set(wanted) - can)) or "nothing that we know"
        raise Refused(f"registration there asks for {needs}", where=self.base_url, action=action)

    def _opened(self, data: dict[str, Any], action: str) -> Opened:
        return Opened(
            self._string(data, "user_id", action),
            self._string(data, "access_token", action),
            str(data.get("device_id") or ""),
        )

    @staticmethod
    def _taken(error: Refused, action: str) -> Refused:
        # Some versions give the reason as M_UNKNOWN with these words.
        if isinstance(error, Taken) or "already taken" not in error.message:
            return error
        return Taken(error.message, errcode="M_USER_IN_USE", status=error.status, where=error.where, action=action)

    def _object(self, data: Any, action: str) -> dict[str, Any]:
        if not isinstance(data, dict):
            raise self.not_matrix(action)
        return data

    def _string(self, data: dict[str, Any], key: str, action: str) -> str:
        value = data.get(key)
        if not isinstance(value, str) or not value:
            raise self.not_matrix(action)
        return value


__all__ = ["DEVICE_NAME", "MatrixError", "Opened", "SessionCalls"]
