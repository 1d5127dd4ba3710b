"""Encrypted rooms: whether they can be read and written, and what waits for a key. Client mode only; an appservice reads none."""

from __future__ import annotations

import time
from typing import Any

from django.db.models import Q, QuerySet

from agents.doctor.matrix.common import GONE, SPOKEN_WITH, homeservers, key_of, opened, service_named
from agents.doctor.matrix.rotation import next_slice
from agents.matrix.crypto import folder
from agents.matrix.crypto.errors import KeysUnusable
from agents.matrix.errors import MatrixError
from agents.models import Account, Room, RoomKind
from agents.services.backends import Homeserver, homeserver_of, mode_of
from agents.services.encryption import keeper_of
from agents.services.sessions import operator_account
from ops.doctor.repairs import Change, Plan, RepairFailed, RepairRefused, RepairWork, register_repair
from ops.models import Service
from ops.registry import Affected, CheckOutcome, register_check
from ops.words import counted, verb

CHECK = "matrix.e2ee"
SLICE = 20
MOST_NAMED = 50
# A key that is this late (s) does not come by itself any more.
LATE = 600.0


def encrypted_rooms(service: Service) -> QuerySet[Room]:
    """The rooms in use in which messages are encrypted."""
    rows = Room.objects.filter(homeserver=service, encrypted=True, room_id__isnull=False)
    return rows.exclude(kind=RoomKind.SPACE)


def speakers(service: Service) -> QuerySet[Account]:
    """The agents' accounts that need keys, or have some."""
    rows = Account.objects.filter(homeserver=service, registered_at__isnull=False)
    return rows.filter(Q(mapping__room__encrypted=True) | Q(user_id__in=folder.accounts()[:5000]))


@register_check(
    CHECK,
    title="Encrypted rooms can be read and answered",
    tags=("matrix", "agents"),
    interval=300,
    severity="error",
    timeout=60,
    scope="service",
    targets=homeservers,
    depends_on=SPOKEN_WITH,
    repairs=("matrix.new_device",),
)
def encryption(target: str) -> CheckOutcome:
    """Red when keys are lost or cannot be used, when messages wait for a key in vain, and when rooms are encrypted under an appservice.

    Warns when a device is not signed by its account: apps that leave out unsigned devices (Element since April 2026) give it no keys.
    """
    service = service_named(target)
    if service is None:
        return GONE
    rooms = encrypted_rooms(service)
    count = rooms.count()
    if mode_of(service) != "client":
        return _under_an_appservice(rooms, count)
    if not count:
        return CheckOutcome("pass", "No room is encrypted.", {"rooms": 0})
    try:
        return _in_client_mode(homeserver_of(service), rooms, count)
    except MatrixError as error:
        return CheckOutcome("fail", f"The keys could not be looked at. {error.sentence}", {"errcode": error.code})


def _under_an_appservice(rooms: QuerySet[Room], count: int) -> CheckOutcome:
    if not count:
        return CheckOutcome("pass", "No room is encrypted.", {"rooms": 0})
    return CheckOutcome(
        "warn",
        f"{counted(count, 'room is', 'rooms are')} encrypted, and an appservice sees only what is not: what people write there does not "
        "reach the agent. Talk to it in a room without encryption (encryption cannot be turned off again: make a new room), or run "
        "Switchboard in client mode, which reads encrypted rooms.",
        {"rooms": count},
        tuple(
            Affected(f"room:{row.pk}", "It is encrypted; what is written there is not read.")
            for row in rooms.order_by("pk")[:MOST_NAMED]
        ),
    )


def _in_client_mode(homeserver: Homeserver, rooms: QuerySet[Room], count: int) -> CheckOutcome:
    rows = speakers(homeserver.service)
    part = next_slice(CHECK, homeserver.service.name, rows, size=SLICE)
    names = dict(rows.filter(pk__in=part.keys).values_list("pk", "user_id"))
    operator = operator_account(homeserver)
    lost: dict[int, str] = {}
    unsigned: dict[str, str] = {}
    reader: dict[str, Any] = {}
    bare = _without_device([operator.pk, *names])
    for pk, user_id in {operator.pk: operator.user_id, **names}.items():
        if pk in bare:
            lost[pk] = f"{user_id} has a session that an administrator opened, which has no device and so no keys."
            continue
        try:
            keeper = keeper_of(homeserver, user_id)
            keeper.ready()
            state = keeper.state()
        except KeysUnusable as error:
            lost[pk] = error.sentence
            continue
        if pk == operator.pk:
            reader = state
        if state["signed"] != "signed":
            unsigned[user_id] = state["signed"] or "It was not tried yet."
    waits = reader.get("waiting", 0) if reader and time.time() - (reader["waiting_since"] or time.time()) > LATE else 0
    evidence = {**part.evidence(lost), "rooms": count, "unsigned": unsigned, "waiting": reader.get("waiting", 0)}
    if lost:
        return CheckOutcome(
            "fail",
            f"{counted(len(lost), 'account has', 'accounts have')} no usable keys: {verb(len(lost), 'it', 'they')} can neither read nor write in "
            f"encrypted rooms. {next(iter(lost.values()))}",
            evidence,
            tuple(Affected(f"account:{pk}", sentence) for pk, sentence in lost.items()),
        )
    if waits:
        return CheckOutcome(
            "fail",
            f"{counted(waits, 'message waits', 'messages wait')} for a key that has not come. Its sender's app was asked. Let them send it "
            "again; if theirs gives keys only to verified devices, allow unverified ones in that room. What was said before "
            "Switchboard was in the room stays unreadable.",
            evidence,
        )
    if unsigned:
        first, why = next(iter(unsigned.items()))
        return CheckOutcome(
            "warn",
            f"{counted(len(unsigned), 'device is', 'devices are')} not signed by {verb(len(unsigned), 'its account', 'their accounts')} "
            f"(first {first}): {why} Element gives such devices no keys unless the person or the room allows it.",
            evidence,
        )
    return CheckOutcome(
        "pass", f"{counted(count, 'encrypted room is', 'encrypted rooms are')} read and answered.", evidence
    )


def _without_device(keys: list[int]) -> set[int]:
    """Those of the accounts whose session belongs to no device."""
    rows = Account.objects.filter(pk__in=keys).only("pk", "secrets")
    return {row.pk for row in rows if (row.secrets or {}).get("deviceless")}


def _wanted(work: RepairWork, homeserver: Homeserver) -> dict[int, tuple[str, str]]:
    """Accounts without usable keys, ``{key: (user id, why)}``, among those that the repair is aimed at."""
    if not homeserver.client_mode:
        raise RepairRefused("An appservice has no devices. Only client mode reads encrypted rooms.")
    account, agent = key_of(work.target, "account"), key_of(work.target, "agent")
    operator = operator_account(homeserver)
    rows = speakers(homeserver.service)
    if account is not None:
        rows = Account.objects.filter(pk=account, homeserver=homeserver.service)
    elif agent is not None:
        rows = Account.objects.filter(mapping__agent_id=agent, homeserver=homeserver.service)
    found = dict(rows.order_by("pk").values_list("pk", "user_id")[:2000])
    if account is None and agent is None:
        found = {operator.pk: operator.user_id, **found}
    bad = {}
    bare = _without_device(list(found))
    for pk, user_id in found.items():
        if pk in bare:
            bad[pk] = (user_id, "Its session has no device.")
            continue
        try:
            keeper_of(homeserver, user_id).ready()
        except KeysUnusable as error:
            bad[pk] = (user_id, error.sentence)
        except MatrixError as error:
            raise RepairRefused(error.sentence) from error
    return bad


def _plan(work: RepairWork) -> Plan:
    bad = _wanted(work, opened(work.target))
    if not bad:
        return Plan("Every account has its keys.")
    return Plan(
        f"Log {counted(len(bad), 'account')} in with a new device, publish its keys, and end the old device. What was written to the old one "
        "and is not read yet stays unreadable; if you have a backup of DATA_DIR/crypto, put that back instead.",
        tuple(Change(f"account:{pk}", "device", "lost keys", "a new one") for pk in bad),
        {"accounts": sorted(bad)},
    )


def _apply(work: RepairWork) -> dict[str, Any]:
    from agents.services.devices import device_renew

    homeserver = opened(work.target)
    done: dict[str, str] = {}
    failed: dict[str, str] = {}
    for number, row in enumerate(Account.objects.filter(pk__in=work.plan.data["accounts"]).order_by("pk"), start=1):
        try:
            done[row.user_id] = device_renew(homeserver=homeserver, account=row, actor=work.actor)
        except MatrixError as error:
            failed[row.user_id] = error.sentence
        work.progress(number, len(work.plan.data["accounts"]), row.user_id)
    if failed and not done:
        raise RepairFailed(f"No account has a new device. {next(iter(failed.values()))}")
    return {"devices": done, "failed": failed}


register_repair(
    "matrix.new_device",
    title="Give accounts without keys a new device",
    repair_class="C",
    button="Make new devices",
    explain=(
        "Logs accounts whose keys for encrypted rooms are lost in once more, with a new device, and ends the old one. From then on they "
        "read and write again; the account signs the new device, and where the keys for that were lost too, it gets new ones. Messages that were encrypted for the old device only cannot be read any more. It cannot be undone."
    ),
    plan=_plan,
    apply=_apply,
    target_kinds=("account", "agent"),
    long=True,
)
