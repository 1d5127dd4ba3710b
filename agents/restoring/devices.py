"""Encrypted rooms after a restore (client mode): accounts whose keys went back in time get a new device.

A device that did its part after the cut cannot be taken up again from before it: keys that others used with it since are gone, and what it
would encrypt with was used already. Keys to read rooms with stay. Nor can a row name a device that another has followed.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

from agents.matrix.crypto import folder
from agents.matrix.errors import MatrixError
from agents.models import Account
from agents.services.backends import NoHomeserver, open_homeserver
from agents.services.devices import device_renew
from ops.backup.hooks import Reconcile, register_reconcile
from ops.findings import Finding
from ops.words import counted


def renew(work: Reconcile) -> dict[str, Any] | None:
    """Returns ``{"sentence", "renewed": user ids}``; ``None`` where no account keeps keys."""
    paths = {user_id: folder.path_of(user_id) for user_id in folder.accounts()}
    if "mappings" not in work.kinds or not paths:
        return None
    try:
        homeserver = open_homeserver()
    except NoHomeserver:
        return None
    if not homeserver.client_mode:
        return None
    renewed: list[str] = []
    for account in Account.objects.filter(user_id__in=list(paths)).order_by("pk"):
        if not work.fresh and not _is_former(account):
            continue
        work.progress(f"A new device for {account.user_id}")
        try:
            device_renew(homeserver=homeserver, account=account, actor=work.actor)
        except MatrixError as error:
            if error.general and not renewed:
                raise
            work.say(
                Finding(
                    "warning",
                    "restore.device",
                    f"{account.user_id} has no new device for encrypted rooms: {error.sentence} Until it has one, messages in encrypted rooms may stay "
                    "unreadable; see the repair matrix.new_device.",
                    account.user_id,
                )
            )
        else:
            renewed.append(account.user_id)
    if not renewed:
        return {"sentence": "No account needs a new device.", "renewed": []}
    sentence = f"{counted(len(renewed), 'account')} got a new device for encrypted rooms; what was written before stays readable."
    return {"sentence": sentence, "renewed": renewed}


def _is_former(account: Account) -> bool:
    """Whether the restored row names a device that was followed by another since."""
    device = str((account.secrets or {}).get("device_id") or "")
    if not device:
        return False
    with closing(sqlite3.connect(f"file:{folder.path_of(account.user_id)}?mode=ro", uri=True)) as database:
        row = database.execute("SELECT value FROM meta WHERE name = 'former'").fetchone()
    return row is not None and device in str(row[0]).split()


register_reconcile("Encrypted rooms", renew)
