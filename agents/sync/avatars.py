"""Pictures of agents: from an address that a backend gave to the homeserver's media store."""

from __future__ import annotations

import base64
import ipaddress
import re
import socket
from urllib.parse import urlsplit

import httpx

from agents.models import Agent
from agents.services.backends import Homeserver
from ops.logs import get_logger

log = get_logger(__name__)

MAX_BYTES = 2 * 1024 * 1024
TYPES = {"image/png", "image/jpeg", "image/gif", "image/webp"}
_DATA = re.compile(r"data:(image/(?:png|jpeg|gif|webp));base64,([A-Za-z0-9+/=\s]+)")


def avatar_mxc(homeserver: Homeserver, agent: Agent) -> str | None:
    """The ``mxc://`` address of the agent's picture, uploaded if need be; "" for none, ``None`` when it cannot be had.

    Takes ``mxc://``, ``data:image/…`` and ``http(s)://`` addresses. A web address may not lead into the local network, except
    to the agent's own server: whoever edits an agent must not be able to make us read internal pages.
    """
    url = agent.avatar_url
    if not url or url.startswith("mxc://"):
        return url
    try:
        found = _from_data(url) or _from_web(url, agent.service.base_url)
    except (httpx.HTTPError, OSError, ValueError) as error:
        log.warning("avatar.not_read", agent=agent.name, error=str(error)[:200])
        return None
    if found is None:
        return None
    data, content_type = found
    return homeserver.client.upload_media(data, content_type, f"avatar-{agent.pk}")


def _from_data(url: str) -> tuple[bytes, str] | None:
    match = _DATA.fullmatch(url)
    return (base64.b64decode(match[2]), match[1]) if match else None


def _from_web(url: str, own_server: str) -> tuple[bytes, str] | None:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return None
    if parts.netloc != urlsplit(own_server).netloc and _is_local(parts.hostname):
        raise ValueError("the picture's address leads into the local network")
    data = bytearray()
    with httpx.stream("GET", url, timeout=10, follow_redirects=False) as response:
        response.raise_for_status()
        content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type not in TYPES:
            raise ValueError(f"the picture is of the type {content_type or 'unknown'}")
        for chunk in response.iter_bytes():
            data += chunk
            if len(data) > MAX_BYTES:
                raise ValueError("the picture is larger than 2 MB")
    return bytes(data), content_type


def _is_local(host: str) -> bool:
    return any(not ipaddress.ip_address(info[4][0]).is_global for info in socket.getaddrinfo(host, None))
