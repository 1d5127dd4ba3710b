"""Sessions of ordinary accounts: logging in with a password, who a token belongs to, logging out, and setting one's own name."""

from __future__ import annotations

from agents.matrix.calls import V3, dumps
from agents.matrix.errors import Refused
from agents.matrix.transport import Transport, quote_part


def password_login(
    base_url: str, user: str, password: str, *, device_id: str, device_name: str = "Switchboard", timeout: float = 30.0
) -> tuple[str, str]:
    """Log in (``POST /login``, ``m.login.password``) and return (user id, access token). ``user`` is a user id or a localpart.

    The same ``device_id`` again replaces the token that the device had. Raises ``MatrixError``.
    """
    http = Transport(base_url, "", pool_size=1, timeout=timeout)
    action = f"log in as {user}"
    body = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": user},
        "password": password,
        "device_id": device_id,
        "initial_device_display_name": device_name,
    }
    try:
        answer = http.call("POST", f"{V3}/login", dumps(body), action=action)
    finally:
        http.close()
    user_id, token = answer.get("user_id"), answer.get("access_token")
    if not isinstance(user_id, str) or not isinstance(token, str):
        raise http.not_matrix(action)
    return user_id, token


def whoami(base_url: str, token: str, *, timeout: float = 30.0) -> str:
    """The user id whose token this is. Raises ``MatrixError``."""
    http = Transport(base_url, token, pool_size=1, timeout=timeout)
    try:
        found = http.call("GET", f"{V3}/account/whoami", action="ask whose token it is").get("user_id")
    finally:
        http.close()
    if not isinstance(found, str):
        raise http.not_matrix("ask whose token it is")
    return found


def logout(base_url: str, token: str, *, timeout: float = 30.0) -> None:
    """End the token's session; one that has ended already is no failure. Raises ``MatrixError`` when nobody answers."""
    http = Transport(base_url, token, pool_size=1, timeout=timeout)
    try:
        http.call("POST", f"{V3}/logout", "{}", action="log out")
    except Refused:
        pass
    finally:
        http.close()


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
