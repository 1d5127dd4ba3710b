"""Synapse's admin API, as far as Switchboard looks after users and rooms with it. Tuwunel 1.8.1 and later serve the same calls.

Sources: Synapse ``docs/admin_api/`` (``register_api``, ``user_admin_api``, ``rooms``, ``room_membership``); Tuwunel
``docs/development/compliance/synapse-admin.md``, which lists what it serves of it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from typing import Any

from agents.matrix.calls import dumps
from agents.matrix.errors import HomeserverUnreachable, MatrixError, Refused, Taken
from agents.matrix.transport import Transport, quote_part

V1 = "/_synapse/admin/v1"
V2 = "/_synapse/admin/v2"
# No account can have this name: a registration that is refused for it proves the shared secret and makes nobody.
_NO_NAME = "not a name"


class SynapseAdmin:
    """Looks after users and rooms. ``shared_secret`` is ``registration_shared_secret`` of the homeserver's configuration,
    ``admin_token`` the access token of a server administrator; each call says which one it needs."""

    def __init__(
        self,
        base_url: str,
        shared_secret: str | None = None,
        admin_token: str | None = None,
        *,
        timeout: float = 30.0,
    ) -> None:
        self._secret = shared_secret
        self._admin_token = admin_token
        self._http = Transport(base_url, admin_token or "", pool_size=4, timeout=timeout)

    def __repr__(self) -> str:
        return f"<SynapseAdmin {self._http.base_url}>"

    def __enter__(self) -> SynapseAdmin:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # By the shared secret

    def register_user(self, localpart: str, password: str, admin: bool = False, displayname: str | None = None) -> str:
        """Register a user with a password through the shared secret and return the user id. No session is left open.

        ``GET``/``POST /_synapse/admin/v1/register``: HMAC-SHA1 over nonce, user, password and role. Raises
        :class:`~agents.matrix.errors.Taken` when the user exists.
        """
        action = f"register {localpart}"
        try:
            user = self._register(localpart, password, admin, displayname, action).get("user_id")
        except Refused as error:
            # Some versions give the reason as M_UNKNOWN with these words.
            if not isinstance(error, Taken) and "already taken" in error.message:
                raise Taken(
                    error.message, errcode="M_USER_IN_USE", status=error.status, where=error.where, action=action
                ) from None
            raise
        if not isinstance(user, str):
            raise self._http.not_matrix(action)
        return user

    def secret_works(self) -> tuple[bool, str]:
        """Whether the homeserver takes the shared secret, and what it says when it does not. Makes no account.

        It checks the proof before the name (Synapse ``rest/admin/users.py``, Tuwunel ``api/client/admin/register.rs``), and no
        account can have the name that is sent. Raises ``MatrixError`` when it does not answer.
        """
        try:
            self._register(_NO_NAME, secrets.token_urlsafe(24), False, None, "prove the registration shared secret")
        except HomeserverUnreachable:
            raise
        except Refused as error:
            # A wrong proof is 403, with M_UNKNOWN on Synapse and M_FORBIDDEN on Tuwunel.
            if error.status in (403, 404) or "not enabled" in error.message:
                return False, error.message
            return True, ""
        return True, ""

    def _register(
        self, localpart: str, password: str, admin: bool, displayname: str | None, action: str
    ) -> dict[str, Any]:
        if not self._secret:
            raise Refused("the registration shared secret is not known", where=self._http.base_url, action=action)
        path = f"{V1}/register"
        nonce = self._http.call("GET", path, action=action).get("nonce")
        if not isinstance(nonce, str):
            raise self._http.not_matrix(action)
        body: dict[str, Any] = {"nonce": nonce, "username": localpart, "password": password, "admin": admin}
        body |= {"mac": registration_mac(self._secret, nonce, localpart, password, admin=admin), "inhibit_login": True}
        if displayname is not None:
            body["displayname"] = displayname
        return self._http.call("POST", path, dumps(body), action=action)

    # By an administrator's token

    def is_admin(self) -> tuple[bool, str]:
        """Whether the token is a server administrator's, and what the homeserver says when it is not.

        Raises ``MatrixError`` when it does not answer.
        """
        try:
            # Behind an authentication service Synapse knows no guests, and refuses the question with them.
            self._http.call("GET", f"{V2}/users", query="limit=1&guests=false", action="ask as an administrator")
        except Refused as error:
            return False, error.message
        return True, ""

    def user_exists(self, user_id: str) -> bool:
        """Whether the homeserver has the account. With ``admin_token`` the admin API is asked, else the public profile."""
        action = f"look up {user_id}"
        base = f"{V2}/users" if self._admin_token else "/_matrix/client/v3/profile"
        try:
            self._http.call("GET", f"{base}/{quote_part(user_id)}", action=action)
        except Refused as refused:
            # Synapse says M_UNKNOWN for a profile that it never had.
            if refused.status == 404 and refused.errcode in {"M_NOT_FOUND", "M_UNKNOWN"}:
                return False
            raise
        return True

    def user_ids(self, name: str, *, most: int = 100_000) -> list[str]:
        """The ids of accounts whose id or name contains ``name``, page by page (``GET /v2/users``)."""
        found: list[str] = []
        start = "0"
        while start and len(found) < most:
            query = f"from={quote_part(start)}&limit=500&guests=false&deactivated=false&name={quote_part(name)}"
            data = self._http.call("GET", f"{V2}/users", query=query, action="list accounts")
            page = data.get("users")
            found += [str(one["name"]) for one in page or () if isinstance(one, dict) and one.get("name")]
            token = data.get("next_token")
            start = str(token) if page and token else ""
        return found

    def create_user(self, user_id: str, password: str, *, display_name: str = "", admin: bool = False) -> None:
        """Make an account (``PUT /v2/users/{id}``). The call would change one that exists, so that is looked up first.

        Raises :class:`~agents.matrix.errors.Taken`.
        """
        action = f"create {user_id}"
        if self.user_exists(user_id):
            raise Taken(
                "User ID already taken.",
                errcode="M_USER_IN_USE",
                status=400,
                where=self._http.base_url,
                action=action,
            )
        body: dict[str, Any] = {"password": password, "admin": admin, "logout_devices": False}
        if display_name:
            body["displayname"] = display_name
        self._http.call("PUT", f"{V2}/users/{quote_part(user_id)}", dumps(body), action=action)

    def reset_password(self, user_id: str, password: str, *, logout_devices: bool = True) -> None:
        """Give the user a new password; by default all sessions of the user end."""
        body = {"new_password": password, "logout_devices": logout_devices}
        self._http.call(
            "POST",
            f"{V1}/reset_password/{quote_part(user_id)}",
            dumps(body),
            action=f"reset the password of {user_id}",
        )

    def login_as(self, user_id: str) -> str:
        """A token to act as the user (``POST /v1/users/{id}/login``). It makes no device, so the user does not see it."""
        action = f"log in as {user_id}"
        token = self._http.call("POST", f"{V1}/users/{quote_part(user_id)}/login", "{}", action=action).get(
            "access_token"
        )
        if not isinstance(token, str):
            raise self._http.not_matrix(action)
        return token

    def deactivate(self, user_id: str, *, erase: bool = False) -> None:
        """Close the account for good; it leaves its rooms. ``erase``: what it said is hidden from those who join later."""
        path = f"{V1}/deactivate/{quote_part(user_id)}"
        self._http.call("POST", path, dumps({"erase": erase}), action=f"deactivate {user_id}", timeout=120.0)

    def make_room_admin(self, room_id: str, user_id: str) -> None:
        """Give the user the power of the room's strongest local member, who also invites the user where that is needed."""
        path = f"{V1}/rooms/{quote_part(room_id)}/make_room_admin"
        self._http.call("POST", path, dumps({"user_id": user_id}), action=f"make {user_id} an admin of the room")

    def join_user(self, room_id: str, user_id: str) -> None:
        """Join the user to the room. Into a room that is not public the administrator invites, and so has to be in it."""
        path = f"{V1}/join/{quote_part(room_id)}"
        self._http.call("POST", path, dumps({"user_id": user_id}), action=f"join {user_id} to the room", timeout=60.0)

    def delete_room(self, room_id: str, *, wait: float = 60.0) -> bool:
        """Remove everybody from the room and the room from the database. ``False``: that is still going on after ``wait`` seconds.

        ``DELETE /v2/rooms/{id}`` works in the background. Raises ``MatrixError``, also when the work failed.
        """
        action = "delete the room"
        path = f"{V2}/rooms/{quote_part(room_id)}"
        found = self._http.call("DELETE", path, dumps({"block": False, "purge": True}), action=action)
        delete_id = found.get("delete_id")
        if not isinstance(delete_id, str):
            raise self._http.not_matrix(action)
        until = time.monotonic() + wait
        while True:
            state = self._http.call("GET", f"{V2}/rooms/delete_status/{quote_part(delete_id)}", action=action)
            if state.get("status") == "complete":
                return True
            if state.get("status") == "failed":
                raise Refused(str(state.get("error") or "it gives no reason"), where=self._http.base_url, action=action)
            if time.monotonic() > until:
                return False
            time.sleep(0.2)


def is_unserved(error: MatrixError) -> bool:
    """Whether the homeserver does not know the call at all (``M_UNRECOGNIZED``; a proxy's 404 says no code)."""
    return error.status in (404, 405) and error.errcode in ("", "M_UNRECOGNIZED")


def registration_mac(secret: str, nonce: str, user: str, password: str, *, admin: bool) -> str:
    """The proof of the shared secret, in hexadecimal (Synapse, ``docs/admin_api/register_api.md``)."""
    fields = (nonce, user, password, "admin" if admin else "notadmin")
    return hmac.new(secret.encode(), b"\0".join(one.encode() for one in fields), hashlib.sha1).hexdigest()
