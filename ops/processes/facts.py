"""What a process is: the things about it that do not change while it runs. Touches no database."""

from __future__ import annotations

import functools
import hashlib
import hmac
import importlib.metadata
import json
import os
import platform
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections

# Set by a process that replaces its own image: the kernel still knows when the first one began.
RESTARTED_AT = "_SB_RESTARTED_AT"
_HASH_LENGTH = 16


def collect() -> dict[str, Any]:
    """The fields of ``ops.models.Process`` that stay as they are. Takes some tenths of a second."""
    return {
        "host": socket.gethostname()[:100],
        "pid": os.getpid(),
        "boot_id": boot_id(),
        "version": str(settings.VERSION)[:50],
        "python": platform.python_version()[:50],
        "prefix": sys.prefix[:300],
        "packages_digest": packages_digest(),
        "settings_seen": settings_seen(),
        "database": database_identity(),
    }


@functools.lru_cache(maxsize=1)
def boot_id() -> str:
    """The host's boot and the process-id namespace: process ids mean something between processes that have this in common."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        space = os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        return str(int(psutil.boot_time()))
    return f"{boot}/{space}"[:64]


@functools.lru_cache(maxsize=1)
def packages_digest() -> str:
    """A digest of the names and versions of all installed packages: equal in two processes that can run the same code."""
    lines = sorted({f"{dist.metadata['Name']}=={dist.version}".lower() for dist in importlib.metadata.distributions()})
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def settings_seen(values: Mapping[str, Any] | None = None) -> dict[str, str]:
    """A hash for every setting that the environment may give, keyed with SECRET_KEY so that nothing can be guessed from it.

    Of this process, or of ``values``: what another process would see.

    Two processes see the same value when the hashes are the same. SECRET_KEY itself has a slow hash of its own; when that
    differs, the others cannot be compared.
    """
    given = settings.ENVIRONMENT.values if values is None else values
    key = str(given.get("SECRET_KEY") or settings.SECRET_KEY).encode()
    seen = {
        name: hmac.new(key, f"{name}={_text(value)}".encode(), "sha256").hexdigest()[:_HASH_LENGTH]
        for name, value in given.items()
        if name != "SECRET_KEY"
    }
    seen["SECRET_KEY"] = hashlib.pbkdf2_hmac("sha256", key, b"switchboard.process", 100_000).hex()[:_HASH_LENGTH]
    return seen


def _text(value: Any) -> str:
    return json.dumps(value, default=str, sort_keys=True)


def database_identity() -> str:
    """Which database this process talks to, as a digest: server, port and name, or the file whatever path leads to it."""
    connection = connections[DEFAULT_DB_ALIAS]
    known = connection.settings_dict
    if connection.vendor == "sqlite":
        try:
            found = os.stat(known["NAME"])
            text = f"sqlite {found.st_dev} {found.st_ino}"
        except OSError:
            text = f"sqlite {known['NAME']}"
    else:
        text = f"{connection.vendor} {known.get('HOST', '')} {known.get('PORT', '')} {known['NAME']}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def started_at() -> float:
    """When this process began, in seconds since the epoch; after a restart of its own image, when that began."""
    try:
        return float(os.environ[RESTARTED_AT])
    except (KeyError, ValueError):
        pass
    try:
        return float(psutil.Process().create_time())
    except psutil.Error:
        return time.time()
