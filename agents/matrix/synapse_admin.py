"""Synapse's admin API, as far as the local homeserver of embedded mode needs it.

Tuwunel 1.8.1 and later serve the same calls. Without either secret every call raises.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from agents.matrix.calls import dumps
from agents.matrix.errors import Refused, Taken
from agents.matrix.transport import Transport, quote_part


class SynapseAdmin:
    """Registers and repairs ordinary users. ``shared_secret`` is ``registration_shared_secret`` of the homeserver's
    configuration, ``admin_token`` the access token of a server administrator; each call says which one it needs."""

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

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def register_user(self, localpart: str, password: str, admin: bool = False, displayname: str | None = None) -> str:
        """Register a user with a password through the shared secret and return the user id.

        ``GET``/``POST /_synapse/admin/v1/register``: HMAC-SHA1 over nonce, user, password and role. Raises
        :class:`~agents.matrix.errors.Taken` when the user exists.
        """
        if not self._secret:
            raise Refused(
                "the registration shared secret is not known", where=self._http.base_url, action=f"register {localpart}"
            )
        path, action = "/_synapse/admin/v1/register", f"register {localpart}"
        nonce = self._http.call("GET", path, action=action).get("nonce")
        if not isinstance(nonce, str):
            raise self._http.not_matrix(action)
        body: dict[str, Any] = {"nonce": nonce, "username": localpart, "password": password, "admin": admin}
        body["mac"] = registration_mac(self._secret, nonce, localpart, password, admin=admin)
        if displayname is not None:
            body["displayname"] = displayname
        try:
            user = self._http.call("POST", path, dumps(body), action=action).get("user_id")
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

    def user_exists(self, user_id: str) -> bool:
        """Whether the homeserver has the account. With ``admin_token`` the admin API is asked, else the public profile."""
        action = f"look up {user_id}"
        base = "/_synapse/admin/v2/users" if self._admin_token else "/_matrix/client/v3/profile"
        try:
            self._http.call("GET", f"{base}/{quote_part(user_id)}", action=action)
        except Refused as refused:
            # Synapse says M_UNKNOWN for a profile that it never had.
            if refused.status == 404 and refused.errcode in {"M_NOT_FOUND", "M_UNKNOWN"}:
                return False
            raise
        return True

    def reset_password(self, user_id: str, password: str, *, logout_devices: bool = True) -> None:
        """Give the user a new password (needs ``admin_token``); by default all sessions of the user end."""
        body = {"new_password": password, "logout_devices": logout_devices}
        path = f"/_synapse/admin/v1/reset_password/{quote_part(user_id)}"
        self._http.call("POST", path, dumps(body), action=f"reset the password of {user_id}")


def registration_mac(secret: str, nonce: str, user: str, password: str, *, admin: bool) -> str:
    """The proof of the shared secret, in hexadecimal (Synapse, ``docs/admin_api/register_api.md``)."""
    fields = (nonce, user, password, "admin" if admin else "notadmin")
    return hmac.new(secret.encode(), b"\0".join(one.encode() for one in fields), hashlib.sha1).hexdigest()
