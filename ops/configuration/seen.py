"""Which settings a process sees: names with a salted hash of each value, so that processes compare without showing anything."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

from django.conf import settings

from ops.configuration.schema import Reading, configuration

# Two processes of one installation may differ in these.
OWN = frozenset(
    {"HOST", "PORT", "LOG_FORMAT", "LOG_LEVEL", "WORKER_CONCURRENCY", "SWITCHBOARD_SYNAPSE_VENV", "DATA_DIR"}
)
_SALT = "SECRET_KEY"


def settings_seen(reading: Reading | None = None) -> dict[str, str]:
    """``{name: hash}`` of all settings, as this process runs with them (or as in ``reading``).

    The salt is the secret key, so nobody can try values out on what is stored; the key's own hash has the name only.
    """
    values: Mapping[str, Any] = (reading or configuration().running()).values
    salt = str(values.get(_SALT) or settings.SECRET_KEY).encode()
    return {name: _hash(b"" if name == _SALT else salt, name, value) for name, value in sorted(values.items())}


def _hash(salt: bytes, name: str, value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return hmac.new(salt or b"switchboard", f"{name}={text}".encode(), hashlib.sha256).hexdigest()[:24]
