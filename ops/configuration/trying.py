"""Tries a value before it is saved: an address is asked, a database is signed in to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ops.configuration.schema import configuration
from ops.network.places import environment_proxy
from ops.network.probe import probe
from ops.redaction import redact_text

SECONDS = 4


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of it. ``ok`` None: there is nothing to try about this setting."""

    ok: bool | None
    sentence: str = ""


def can_try(name: str) -> bool:
    """Whether a value of this setting can be tried."""
    setting = configuration().get(name)
    return setting is not None and setting.kind == "url"


def try_value(name: str, value: Any) -> Tried:
    """Ask the server that the value names. Never raises; the sentence holds no secret."""
    if not can_try(name) or not value:
        return Tried(None, "There is nothing to try.")
    text = str(value)
    scheme = urlsplit(text).scheme
    try:
        if scheme in ("postgres", "postgresql", "psql", "pgsql"):
            return _database(text)
        if scheme in ("redis", "rediss"):
            return _redis(text)
        if scheme in ("http", "https"):
            found = probe(text, proxy=environment_proxy(text)[0])
            return Tried(found.ok, found.sentence)
        if scheme in ("amqp", "amqps"):
            return _broker(text)
    except Exception as error:
        # Every client has errors of its own; they quote the address, so what they say is redacted.
        words = " ".join(redact_text(str(error)).split())[:200]
        return Tried(False, f"{type(error).__name__}: {words}")
    return Tried(None, f"There is no test for addresses that begin with {scheme}://.")


def _database(url: str) -> Tried:
    import psycopg

    scheme, _, rest = url.partition("://")
    with psycopg.connect(f"postgresql://{rest}" if scheme else url, connect_timeout=SECONDS) as connection:
        return Tried(True, f"The database {connection.info.dbname} at {connection.info.host} lets us in.")


def _redis(url: str) -> Tried:
    import redis

    client = redis.Redis.from_url(url, socket_timeout=SECONDS, socket_connect_timeout=SECONDS)
    try:
        client.ping()
    finally:
        client.close()
    return Tried(True, "Redis answers.")


def _broker(url: str) -> Tried:
    from kombu import Connection

    with Connection(url, connect_timeout=SECONDS) as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=SECONDS)
    return Tried(True, "The broker answers.")
