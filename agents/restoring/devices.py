"""Encrypted rooms after a restore (client mode): an account whose keys went back in time, or are gone, gets a new device.

A device that did its part after the cut cannot be taken up again from before it: one-time keys that others used with it since are gone,
new ones would bear the names of those, and what it would encrypt with was used already. Keys to read rooms with stay. Nor can a row name a
device that another has followed. An account that began with encryption after the cut has a device of which no key is left.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from agents.matrix.crypto import folder
from agents.matrix.errors import HomeserverUnreachable, MatrixError, RateLimited, Refused
from agents.models import Account
from agents.services.backends import Homeserver, NoHomeserver, open_homeserver
from agents.services.devices import device_renew
from agents.services.sessions import register_watcher, sessions_wanted
from ops.backup.hooks import Reconcile, register_reconcile
from ops.findings import Finding
from ops.logs import get_logger
from ops.words import counted

log = get_logger(__name__)

_AT_ONCE = 200


def renew(work: Reconcile) -> dict[str, Any] | None:
    """Returns ``{"sentence", "renewed": user ids}``; ``None`` where no account speaks with keys of its own."""
    if "mappings" not in work.kinds:
        return None
    try:
        homeserver = open_homeserver()
    except NoHomeserver:
        return None
    if not homeserver.client_mode:
        return None
    renewed: list[str] = []
    for account in _wanting(homeserver, fresh=work.fresh):
        work.progress(f"A new device for {account.user_id}")
        try:
            device_renew(homeserver=homeserver, account=account, actor=work.actor)
        except MatrixError as error:
            # That nothing opens this account says nothing of the others.
            if isinstance(error, HomeserverUnreachable | RateLimited) and not renewed:
                raise
            work.say(
                Finding(
                    "warning",
                    "restore.device",
                    f"{account.user_id} has no new device for encrypted rooms: {error.sentence} It is tried again; until it has one, messages in "
                    "encrypted rooms may stay unreadable. See the repair matrix.new_device.",
                    account.user_id,
                )
            )
        else:
            renewed.append(account.user_id)
    if not renewed:
        return {"sentence": "No account needs a new device.", "renewed": []}
    sentence = f"{counted(len(renewed), 'account')} got a new device for encrypted rooms; what was written before stays readable."
    return {"sentence": sentence, "renewed": renewed}


def renew_later(homeserver: Homeserver, account: Account) -> None:
    """Part of the look at each account: a restore that could not reach the homeserver left the new device to be made.

    Raises ``MatrixError`` when it still cannot be made.
    """
    if homeserver.client_mode and is_past(account):
        device_renew(homeserver=homeserver, account=account, actor="system")
        log.info("crypto.device_after_restore", user_id=account.user_id)


def is_past(account: Account) -> bool:
    """Whether the account's keys were put back from a backup, or its row names a device that was followed by another since."""
    path = folder.path_of(account.user_id)
    if not path.exists():
        return False
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as database:
            rows = dict(
                database.execute("SELECT name, value FROM meta WHERE name IN ('put_back', 'former')").fetchall()
            )
    except sqlite3.Error:
        # It is for the check of encrypted rooms to say so.
        return False
    device = str((account.secrets or {}).get("device_id") or "")
    return "put_back" in rows or bool(device and device in str(rows.get("former", "")).split())


def _wanting(homeserver: Homeserver, *, fresh: bool) -> Iterator[Account]:
    """The accounts that need a new device."""
    rows = sessions_wanted(homeserver).order_by("pk")
    keyless = []
    for account in rows.iterator(chunk_size=500):
        if is_past(account):
            yield account
        elif fresh and not folder.path_of(account.user_id).exists():
            keyless.append(account)
    for start in range(0, len(keyless), _AT_ONCE):
        yield from _lost(homeserver, keyless[start : start + _AT_ONCE])


def _lost(homeserver: Homeserver, accounts: list[Account]) -> list[Account]:
    """Those whose device has keys on the homeserver, although there is nothing of them here."""
    names = [account.user_id for account in accounts]
    try:
        found = homeserver.client.keys_query(homeserver.sender_id, names).get("device_keys")
    except Refused as error:
        if error.general:
            raise
        return []
    devices = found if isinstance(found, dict) else {}
    return [
        account
        for account in accounts
        if str((account.secrets or {}).get("device_id") or homeserver.client.device_id)
        in (devices.get(account.user_id) or {})
    ]


register_reconcile("Encrypted rooms", renew)
register_watcher(renew_later)
