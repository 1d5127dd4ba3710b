"""Repairs of accounts: making those again that the homeserver has lost, and the ladder for those that we may not speak as."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from agents.doctor.matrix.accounts import accounts_of
from agents.doctor.matrix.common import key_of, opened
from agents.matrix.errors import HomeserverUnreachable, MatrixError, RateLimited
from agents.models import Account, AccountWay, Mapping
from agents.services.backends import Homeserver
from agents.services.identities import (
    account_rename,
    accounts_provision,
    ask_identities,
    ask_identity,
    identity_reassert,
    usable_instead,
)
from agents.services.sessions import session_recover
from agents.sync.rooms import register_sender
from ops.doctor.repairs import Change, Plan, RepairFailed, RepairRefused, RepairWork, register_repair
from ops.words import counted, verb

# A plan that looks at everything asks in portions, so that memory stays flat.
_PORTION = 500


def _wanted(work: RepairWork, homeserver: Homeserver) -> list[int] | None:
    """Keys of the accounts that a repair is aimed at; None: all of them."""
    account, agent = key_of(work.target, "account"), key_of(work.target, "agent")
    mapping = key_of(work.target, "mapping")
    if account is None and agent is None and mapping is None:
        return None
    rows = Account.objects.filter(homeserver=homeserver.service)
    if account is not None:
        rows = rows.filter(pk=account)
    elif agent is not None:
        rows = rows.filter(mapping__agent_id=agent)
    elif mapping is not None:
        rows = rows.filter(mapping__pk=mapping)
    found = list(rows.values_list("pk", flat=True))
    if not found:
        raise RepairRefused(f"{work.target} has no account on the homeserver's service {homeserver.service.name}.")
    return found


def _in_state(homeserver: Homeserver, wanted: list[int] | None, state: str) -> dict[int, str]:
    """Accounts about which the homeserver says this: ``{key: user id}``. Asks about all when ``wanted`` is None."""
    rows = (
        Account.objects.filter(homeserver=homeserver.service, pk__in=wanted)
        if wanted
        else accounts_of(homeserver.service)
    )
    found: dict[int, str] = {}
    portion: list[tuple[int, str]] = []
    rooms: dict[str, str] = {}

    def ask() -> None:
        said = ask_identities(homeserver, rooms)
        for one in said.values():
            if one.state == "unknown":
                raise RepairRefused(f"The homeserver cannot be asked now: {one.sentence}")
        found.update({pk: name for pk, name in portion if said[name].state == state})
        portion.clear()
        rooms.clear()

    columns = ("pk", "user_id", "mapping__room__room_id")
    for pk, name, room_id in rows.order_by("pk").values_list(*columns).iterator(chunk_size=_PORTION):
        portion.append((pk, name))
        # Whether it may act in its room matters only to whoever looks for refusals.
        rooms[name] = (room_id or "") if state == "refused" else ""
        if len(portion) == _PORTION:
            ask()
    ask()
    return found


def _plan_provision(work: RepairWork) -> Plan:
    homeserver = opened(work.target)
    wanted = _wanted(work, homeserver)
    missing = _in_state(homeserver, wanted, "missing")
    changes = [Change(f"account:{pk}", name, None, "an account") for pk, name in missing.items()]
    own = (wanted is None or bool(missing)) and ask_identity(homeserver, homeserver.sender_id).state == "missing"
    if own:
        changes.insert(0, Change(f"service:{homeserver.service.pk}", homeserver.sender_id, None, "an account"))
    if not changes:
        return Plan("Every account is there.")
    by = "" if homeserver.client_mode else " by the appservice's registration"
    return Plan(
        f"Create {counted(len(changes), 'account')}{by}, with name and picture, and bring them back into "
        "their rooms. Those that are there are left alone.",
        tuple(changes),
        {"accounts": sorted(missing), "own": own},
    )


def _apply_provision(work: RepairWork) -> dict[str, Any]:
    homeserver, data = opened(work.target), work.plan.data
    if data["own"]:
        register_sender(homeserver)
    total = len(data["accounts"])
    done = accounts_provision(
        homeserver=homeserver,
        accounts=_rows(data["accounts"]),
        actor=work.actor,
        progress=lambda count, name: work.progress(count, total, f"{name} is there"),
    )
    if done.failed and not done.created and not data["own"]:
        raise RepairFailed(f"No account could be created. {next(iter(done.failed.values()))}")
    return {"created": len(done.created), "adopted": len(done.adopted), "failed": dict(list(done.failed.items())[:50])}


def _rows(keys: list[int]) -> Iterable[Account]:
    for start in range(0, len(keys), _PORTION):
        yield from Account.objects.filter(pk__in=keys[start : start + _PORTION]).order_by("pk")


register_repair(
    "matrix.provision_user",
    title="Create missing accounts",
    repair_class="C",
    button="Create",
    explain=(
        "Asks the homeserver about the accounts and creates those that it does not have, through the appservice: no password is "
        "needed. Each gets its name, its picture and its room back. It cannot be undone: a Matrix account cannot be removed."
    ),
    plan=_plan_provision,
    apply=_apply_provision,
    target_kinds=("agent", "account", "mapping"),
    long=True,
)


def _plan_relogin(work: RepairWork) -> Plan:
    homeserver = opened(work.target)
    wanted = _wanted(work, homeserver)
    refused = _in_state(homeserver, wanted, "refused")
    if not refused:
        return Plan("The homeserver lets us speak as every account.")
    changes, snapshot, stuck = [], {}, []
    sessions: list[int] = []
    # ``_mapped`` may leave out accounts that no agent has: nobody speaks as them.
    for mapping in _mapped(refused):
        account = mapping.account
        if homeserver.client_mode or account.way == AccountWay.SESSION:
            changes.append(Change(f"agent:{mapping.agent_id}", "session", "refused", "opened again"))
            sessions.append(account.pk)
            continue
        other = usable_instead(homeserver, mapping)
        if other:
            changes.append(Change(f"agent:{mapping.agent_id}", "account", account.user_id, other))
            snapshot[str(account.pk)] = account.user_id
        else:
            room_id = (mapping.room.room_id or "") if mapping.room is not None else ""
            stuck.append(f"{account.user_id}: {ask_identity(homeserver, account.user_id, room_id).sentence}")
    if not changes:
        raise RepairRefused(
            f"{counted(len(refused), 'account is', 'accounts are')} refused by the homeserver itself, "
            f"and nothing here can change that. {stuck[0] if stuck else ''} "
            "An administrator of the homeserver has to (the guide shows how)."
        )
    left = (
        f" {len(stuck)} more {verb(len(stuck), 'is', 'are')} left to an administrator of the homeserver."
        if stuck
        else ""
    )
    if sessions:
        return Plan(
            f"Open the {counted(len(sessions), 'session')} again: token, password, an administrator's login, a new password, and at last "
            "the account made again.",
            tuple(changes),
            {"sessions": sessions, "mappings": [mapping.pk for mapping in _mapped([int(key) for key in snapshot])]},
            {"user_ids": snapshot},
        )
    return Plan(
        f"Let {counted(len(changes), 'agent')} speak with the account that {verb(len(changes), 'its', 'their')} own id stands for; it can be used "
        f"and is in {verb(len(changes), 'its', 'their')} room.{left}",
        tuple(changes),
        {"mappings": [mapping.pk for mapping in _mapped([int(key) for key in snapshot])]},
        {"user_ids": snapshot},
    )


def _mapped(accounts: Iterable[int]) -> Iterable[Mapping]:
    rows = Mapping.objects.filter(account_id__in=list(accounts)).select_related("agent__service", "account", "room")
    return rows.order_by("pk")


def _apply_relogin(work: RepairWork) -> dict[str, Any]:
    homeserver = opened(work.target)
    rungs = _open_sessions(homeserver, work)
    for mapping in Mapping.objects.filter(pk__in=work.plan.data["mappings"]).select_related(
        "agent__service", "account__homeserver", "room"
    ):
        name = mapping.account.user_id
        try:
            done = identity_reassert(homeserver=homeserver, mapping=mapping, actor=work.actor)
        except MatrixError as error:
            raise RepairFailed(error.sentence) from error
        rungs[name] = done.rung if done.in_room else f"{done.rung}, not in its room"
    if all(rung.startswith("stuck") for rung in rungs.values()):
        raise RepairFailed(f"None of them can be spoken as. {next(iter(rungs.values()), '')}")
    return {"rungs": rungs}


def _open_sessions(homeserver: Homeserver, work: RepairWork) -> dict[str, str]:
    """Open sessions that are refused, whatever pauses there were: ``{user id: what came of it}``."""
    rungs: dict[str, str] = {}
    for account in _rows(work.plan.data.get("sessions") or []):
        refused = str((account.secrets or {}).get("access_token") or "")
        try:
            session_recover(homeserver=homeserver, account=account, refused=refused, actor=work.actor, force=True)
            rungs[account.user_id] = "session opened"
        except (HomeserverUnreachable, RateLimited) as error:
            raise RepairFailed(error.sentence) from error
        except MatrixError as error:
            rungs[account.user_id] = f"stuck: {error.sentence}"
    return rungs


def _undo_relogin(work: RepairWork) -> None:
    for key, name in (work.snapshot.get("user_ids") or {}).items():
        account = Account.objects.filter(pk=int(key)).first()
        if account is not None and account.user_id != name:
            account_rename(account=account, user_id=name, actor=work.actor)


register_repair(
    "identity.relogin",
    title="Let agents speak as themselves again",
    repair_class="A",
    button="Put right",
    explain=(
        "Goes up a ladder for each account, as far as is needed: ask who we are, register or adopt the account, name our device, "
        "correct a row that names an account which cannot be ours, set name and picture, walk back into the room. Sends nothing."
    ),
    plan=_plan_relogin,
    apply=_apply_relogin,
    undo=_undo_relogin,
    target_kinds=("agent", "account", "mapping"),
)
