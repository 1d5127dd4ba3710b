"""Where a request comes from: the address that limits count by, and what is noted of it."""

from __future__ import annotations

import ipaddress

from django.conf import settings
from django.http import HttpRequest

# What is written where an address must stand and none is known (a Unix socket).
UNKNOWN = "0.0.0.0"  # noqa: S104 - nothing listens here
_NETWORK_OF_ONE = 64


def address_of(request: HttpRequest) -> str:
    """The address of who asks, "" when none can be known.

    ``X-Forwarded-For`` counts only with ``TRUST_PROXY``, and of it only the last entry: that one was written by the proxy in front
    of us, all others by whoever asked it.
    """
    candidates = [request.META.get("REMOTE_ADDR", "")]
    if settings.TRUST_PROXY:
        candidates.insert(0, request.META.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2])
    for candidate in candidates:
        found = _parsed(candidate)
        if found:
            return found
    return ""


def network_of(address: str) -> str:
    """What limits count by: an IPv4 address, or the /64 that one household or server has of IPv6."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.IPv6Network((parsed, _NETWORK_OF_ONE), strict=False).network_address)
    return str(parsed)


def user_agent_of(request: HttpRequest) -> str:
    """The name that the client gives itself, as much of it as is kept."""
    return request.META.get("HTTP_USER_AGENT", "").replace("\x00", "")[:200]


def _parsed(text: str) -> str:
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        parsed = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(parsed)
