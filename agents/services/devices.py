"""A new device for an account whose keys are lost: people's apps take no other keys under the name of the old one."""

from __future__ import annotations

import secrets

from django.db import transaction

from agents.matrix.errors import MatrixError, SessionRefused
from agents.matrix.session_calls import SessionCalls
from agents.models import Account, AccountSession
from agents.services.backends import Homeserver
from agents.services.encryption import keeper_of
from agents.services.sessions import session_recover, session_settle
from ops.logs import get_logger
from ops.services.audit import record

log = get_logger(__name__)


def device_renew(*, homeserver: Homeserver, account: Account, actor: str) -> str:
    """Open a session with a new device, publish its keys, end the old one. Returns the new device's name.

    Keys of rooms that are still there stay readable. Raises ``SessionRefused`` when nothing opens a session but a token that somebody
    gave, or another ``MatrixError``; the old session then stays as it was.
    """
    if (account.secrets or {}).get("deviceless"):
        # An administrator opened it. Its former device is taken once more, so that it can be ended.
        account = session_settle(homeserver, account, actor)
    name = f"{homeserver.client.device_id}_{secrets.token_hex(3).upper()}"
    with transaction.atomic():
        row = Account.objects.select_for_update().get(pk=account.pk)
        before = dict(row.secrets or {})
        old = str(before.get("access_token") or "")
        row.secrets = {**{key: value for key, value in before.items() if key != "access_token"}, "device_id": name}
        row.session, row.session_retry_at = AccountSession.NONE, None
        row.save(update_fields=["secrets", "session", "session_retry_at"])
    try:
        row = session_recover(homeserver=homeserver, account=row, refused=old, actor=actor)
        if (row.secrets or {}).get("deviceless"):
            # An administrator opened it, who can do more.
            row = session_settle(homeserver, row, actor)
        kept = row.secrets or {}
        if kept.get("device_id") != name or kept.get("deviceless"):
            raise SessionRefused(
                f"No login with a device is possible for {row.user_id}: there is no password that opens it, and a token that was given or that an "
                "administrator opened brings no new device. Give the account a password, or log in anew and enter that token.",
                action="give the account a new device",
            )
    except MatrixError:
        with transaction.atomic():
            row = Account.objects.select_for_update().get(pk=account.pk)
            row.secrets, row.session = before, account.session
            row.save(update_fields=["secrets", "session"])
        raise
    keeper = keeper_of(homeserver, row.user_id)
    keeper.ready()
    # What signed the former devices is lost with their keys, unless the file is still there.
    signed = keeper.sign_again(reset=True)
    if old:
        _end(homeserver, old)
    record(
        actor=actor,
        action="encryption.device_renewed",
        target=row,
        message=f"{row.user_id} has a new device for encrypted rooms.",
        before={"device": before.get("device_id", "")},
        after={"device": name, "signed": signed == "signed"},
    )
    return name


def _end(homeserver: Homeserver, token: str) -> None:
    calls = SessionCalls(homeserver.service.base_url)
    try:
        calls.logout(token)
    except MatrixError as error:
        # It is of no use any more, and whoever looks through the devices sees it.
        log.warning("device.not_ended", error=error.sentence[:200])
    finally:
        calls.close()
