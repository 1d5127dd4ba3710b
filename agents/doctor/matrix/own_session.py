"""Client mode's side of ``matrix.login_failed``: the session of Switchboard's own account, and opening it again."""

from __future__ import annotations

from typing import Any

from agents.matrix.errors import HomeserverUnreachable, MatrixError, RateLimited
from agents.services.backends import homeserver_of
from agents.services.sessions import operator_account, session_open, session_recover
from ops.doctor.repairs import Change, Plan, RepairFailed, RepairWork
from ops.models import Service
from ops.registry import CheckOutcome, TestResult
from ops.services.services import service_note


def look(service: Service) -> CheckOutcome:
    """Whether our own account has a session that works. A refused one was renewed by asking, where there is a way."""
    try:
        homeserver = homeserver_of(service)
        who = homeserver.client.whoami()
        account = operator_account(homeserver)
    except (RateLimited, HomeserverUnreachable) as error:
        return CheckOutcome("warn", f"The homeserver does not answer whoami for now: {error.sentence}", _facts(error))
    except MatrixError as error:
        sentence = (
            f"Switchboard's own account has no session: {error.sentence} Nothing is heard until it has one. Enter its password or an "
            "access token, or an administrator's."
        )
        service_note(service=service, result=TestResult("down", sentence[:500]))
        return CheckOutcome("fail", sentence, _facts(error))
    return CheckOutcome(
        "pass",
        f"It takes us for {who}, by a session of its own.",
        {"mode": "client", "user_id": who, "device_id": str((account.secrets or {}).get("device_id") or "")},
    )


def _facts(error: MatrixError) -> dict[str, Any]:
    return {"mode": "client", "errcode": error.code, "status": error.status}


def plan(service: Service, params: dict[str, Any]) -> Plan:
    """Open the session again, with what was entered or up the ladder."""
    if look(service).status == "pass" and not params.get("password") and not params.get("access_token"):
        return Plan("Switchboard's own account has a session that works.")
    given = "what was entered" if params.get("password") or params.get("access_token") else "the ladder"
    return Plan(
        "Open a session for Switchboard's own account: the token at hand, its password, an administrator's login, a new password.",
        (Change(f"service:{service.pk}", "session", "refused", f"opened by {given}"),),
        {"client": True},
    )


def apply(service: Service, work: RepairWork) -> dict[str, Any]:
    """Do it at once, whatever pause there was."""
    password, token = str(work.params.get("password") or ""), str(work.params.get("access_token") or "")
    try:
        homeserver = homeserver_of(service)
        account = operator_account(homeserver)
        if password or token:
            session_open(homeserver=homeserver, account=account, password=password, token=token, actor=work.actor)
        else:
            refused = str((account.secrets or {}).get("access_token") or "")
            session_recover(homeserver=homeserver, account=account, refused=refused, actor=work.actor, force=True)
        return {"user_id": homeserver.client.whoami()}
    except MatrixError as error:
        raise RepairFailed(error.sentence) from error
