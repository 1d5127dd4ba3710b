"""Two things that only an account's own session, or the appservice in its name, can do."""

from __future__ import annotations

from agents.matrix.calls import V3, dumps
from agents.matrix.transport import Transport, quote_part


def appservice_login(base_url: str, as_token: str, user_id: str, *, device_id: str, timeout: float = 30.0) -> str:
    """A token for an account in our namespace (``m.login.application_service``). Raises ``MatrixError``.

    A homeserver whose users sign in elsewhere (Matrix Authentication Service) says ``M_APPSERVICE_LOGIN_UNSUPPORTED``, or does not
    know the call.
    """
    http = Transport(base_url, as_token, pool_size=1, timeout=timeout)
    action = f"log in as {user_id}"
    body = {
        "type": "m.login.application_service",
        "identifier": {"type": "m.id.user", "user": user_id},
        "device_id": device_id,
        "initial_device_display_name": "Switchboard",
    }
    try:
        token = http.call("POST", f"{V3}/login", dumps(body), action=action).get("access_token")
    finally:
        http.close()
    if not isinstance(token, str):
        raise http.not_matrix(action)
    return token


def set_own_name(base_url: str, token: str, user_id: str, name: str, *, timeout: float = 30.0) -> None:
    """Set the display name of the token's account. Raises ``MatrixError``."""
    http = Transport(base_url, token, pool_size=1, timeout=timeout)
    path = f"{V3}/profile/{quote_part(user_id)}/displayname"
    try:
        http.call("PUT", path, dumps({"displayname": name}), action=f"name {user_id}")
    finally:
        http.close()
