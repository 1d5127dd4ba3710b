"""Accounts: registration by namespace, devices, profiles, media, and whether the homeserver and we reach each other."""

from __future__ import annotations

from typing import Any, BinaryIO

from agents.matrix.calls import V1, V3, Calls, dumps
from agents.matrix.errors import MatrixError, Refused, Taken, TokenRefused
from agents.matrix.nio_api import Api
from agents.matrix.results import PingResult, Profile
from agents.matrix.transport import quote_part


class AccountCalls(Calls):
    """The part of :class:`~agents.matrix.client.AppserviceClient` that deals with accounts and with the connection itself."""

    def versions(self) -> dict[str, Any]:
        """``GET /versions``: ``{"versions": ["v1.1", …], "unstable_features": {…}}``."""
        return self.call("GET", "/_matrix/client/versions", action="ask for the versions of Matrix")

    def capabilities(self) -> dict[str, Any]:
        """``GET /capabilities``, the inner object: ``{"m.room_versions": {"default": "12", "available": {…}}, …}``."""
        data = self.call("GET", f"{V3}/capabilities", speaker=self._as(None), action="ask for the capabilities")
        inner = data.get("capabilities")
        return inner if isinstance(inner, dict) else {}

    def whoami(self, user_id: str | None = None) -> str:
        """The user id that the homeserver takes us for."""
        action = "ask who we are"
        method, path = Api.whoami("")
        speaker = self._as(user_id) if user_id or self.client_mode else None
        data = self.call(method, path, speaker=speaker, action=action)
        return self._text(data, "user_id", action)

    def register(self, localpart: str) -> bool:
        """Register an account in our namespace. ``True``: created; ``False``: it was there and is adopted.

        An account that has a session of its own, or needs one, is made and adopted the way that sessions are opened. Raises
        :class:`~agents.matrix.errors.Exclusive` for another name outside the namespace.
        """
        made = self.sessions.ensure(localpart) if self.sessions is not None else None
        if made is not None:
            return made
        body = {"type": "m.login.application_service", "username": localpart, "inhibit_login": True}
        try:
            self.call("POST", f"{V3}/register", dumps(body), action=f"register the account {localpart}")
        except Taken:
            return False
        return True

    def ensure_device(self, user_id: str | None = None) -> None:
        """Make sure that the account has our device, which makes repeated sends recognisable (MSC4190; harmless to repeat).

        A homeserver that does not create devices by ``PUT`` gets the older way: an appservice login that names the device. A session
        of the account's own brings its device along.
        """
        if self.sessions is not None and self.sessions.token_of(user_id or self.sender) is not None:
            return
        action = "create the account's device"
        method, path, body = Api.update_device("", self.device_id, {"display_name": "Switchboard"})
        try:
            self.call(method, path, body, speaker=self._as(user_id), action=action)
        except (TokenRefused, Taken):
            raise
        except Refused as refused:
            login = {
                "type": "m.login.application_service",
                "identifier": {"type": "m.id.user", "user": user_id or self.sender},
                "device_id": self.device_id,
                "initial_device_display_name": "Switchboard",
            }
            try:
                self.call("POST", f"{V3}/login", dumps(login), action=action)
            except Refused:
                raise refused from None

    def get_profile(self, user_id: str) -> Profile:
        """The profile of any user; an empty one when there is none."""
        method, path = Api.profile_get(user_id)
        try:
            data = self.call(method, path, speaker=self._as(None), action=f"read the profile of {user_id}")
        except Refused as refused:
            # Synapse says M_UNKNOWN for an account that it never saw.
            if refused.status == 404 and refused.errcode in {"M_NOT_FOUND", "M_UNKNOWN"}:
                return Profile()
            raise
        name, avatar = data.get("displayname"), data.get("avatar_url")
        return Profile(name if isinstance(name, str) else "", avatar if isinstance(avatar, str) else "")

    def set_display_name(self, user_id: str, name: str) -> None:
        """Set the account's own display name (it is copied into every room the account is in)."""
        method, path, body = Api.profile_set_displayname("", user_id, name)
        self.call(method, path, body, speaker=self._as(user_id), action=f"name {user_id}")

    def set_avatar(self, user_id: str, mxc: str) -> None:
        """Set the account's avatar; ``""`` removes it."""
        method, path, body = Api.profile_set_avatar("", user_id, mxc)
        self.call(method, path, body, speaker=self._as(user_id), action=f"set the picture of {user_id}")

    def upload_media(self, data: bytes, content_type: str, filename: str, user_id: str | None = None) -> str:
        """Put a file into the homeserver's media store and return its ``mxc://`` address."""
        action = "upload a file"
        method, path = Api.upload("", filename or None)
        answer = self.call(
            method,
            path,
            data,
            speaker=self._as(user_id),
            content_type=content_type or "application/octet-stream",
            action=action,
        )
        return self._text(answer, "content_uri", action)

    def download_media(self, mxc: str, target: BinaryIO, *, limit: int, user_id: str | None = None) -> int:
        """Write a file of the media store to ``target`` (authenticated media, Matrix 1.11); returns its size.

        Raises :class:`Refused` for what is no ``mxc://server/id`` or larger than ``limit`` bytes.
        """
        action = "download a file"
        server, _, media_id = mxc.removeprefix("mxc://").partition("/")
        if not mxc.startswith("mxc://") or not server or not media_id or "/" in media_id:
            raise Refused("this is no address of a file", where=self.base_url, action=action)
        path = f"{V1}/media/download/{quote_part(server)}/{quote_part(media_id)}"
        return self._fetched(
            path, target, limit=limit, query="timeout_ms=20000", action=action, speaker=self._as(user_id)
        )

    def ping(self, appservice_id: str, txn_id: str | None = None) -> PingResult:
        """Ask the homeserver to call us (``POST /_matrix/client/v1/appservice/{id}/ping``).

        A success also ends the homeserver's back-off after an outage of ours. What the homeserver found out about *our* end is
        in the result; raises only when the homeserver itself is unreachable or refuses the token. In client mode nobody calls us.
        """
        if self.client_mode:
            return PingResult(False, None, "In client mode the homeserver does not call us: we ask it (/sync).")
        body = {"transaction_id": txn_id} if txn_id else {}
        path = f"{V1}/appservice/{quote_part(appservice_id)}/ping"
        try:
            data = self._ping(path, dumps(body))
        except TokenRefused:
            raise
        except MatrixError as error:
            meaning = _PING_FAILURES.get(error.errcode)
            if meaning is None and error.retryable:
                raise
            meaning = meaning or "The homeserver refused the ping."
            return PingResult(False, None, f"{meaning} It says: {error.message} ({error.code}).")
        duration = data.get("duration_ms")
        return PingResult(True, duration if isinstance(duration, int) else None, "")

    def _ping(self, path: str, body: str) -> dict[str, Any]:
        """One ping, and another when the homeserver used a kept-alive connection that we had closed just then."""
        action, timeout = "ping ourselves through it", max(self.timeout, 70.0)
        try:
            return self.call("POST", path, body, action=action, timeout=timeout)
        except MatrixError as error:
            if error.errcode != "M_CONNECTION_FAILED":
                raise
        return self.call("POST", path, body, action=action, timeout=timeout)


_PING_FAILURES = {
    "M_URL_NOT_SET": "The registration on the homeserver has no url, so it cannot send us messages. Put our address into it.",
    "M_CONNECTION_FAILED": "The homeserver cannot reach us at the url in its registration. Correct the url or open the port.",
    "M_CONNECTION_TIMEOUT": "We did not answer the homeserver in time at the url in its registration.",
    "M_BAD_STATUS": "We refused the homeserver's call: the hs_token in its registration is probably not ours.",
    "M_FORBIDDEN": "The homeserver knows our token under another appservice id. Compare the id in the registration.",
    "M_UNRECOGNIZED": "The homeserver is too old to ping an appservice (Matrix 1.7). Messages may still arrive.",
}
