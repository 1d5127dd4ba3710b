"""The homeserver has another name, or another homeserver takes its place: planned, done, and taken back while nothing was made there."""

from __future__ import annotations

import re
from typing import Any

from django.conf import settings

from agents.services.backends import HOMESERVER_KIND, homeserver_service
from agents.services.renaming import (
    CannotRename,
    Renaming,
    renaming_apply,
    renaming_plan,
    renaming_undo,
    rows_before,
)
from agents.services.sync import SyncBusy, alone, finish_run
from chat.models import Link
from chat.services.server_names import people_move, people_on
from ops.configuration import edit
from ops.configuration.schema import configuration
from ops.doctor.repairs import Change, Plan, RepairRefused, RepairWork, register_repair
from ops.models import ManagedBy, Service
from ops.registry import ServiceField
from ops.words import counted

RENAME = "homeserver.rename"
_NAME = re.compile(r"^([a-z0-9.-]+|\[[0-9a-f:.]+\])(:\d+)?\Z")
_USER = re.compile(r"^@[^:\s]+:\S+\Z")


def _service() -> Service:
    service = homeserver_service()
    if service is None:
        raise RepairRefused("No homeserver is set up; there is nothing to rename.")
    return service


def _renaming(work: RepairWork) -> Renaming:
    name = str(work.params["name"]).strip().lower()
    if not _NAME.match(name):
        raise RepairRefused(
            f"{name!r} is no server name: the part of Matrix ids behind the colon, for example chat.example.org."
        )
    try:
        return renaming_plan(service=_service(), new_name=name, url=str(work.params["url"] or ""))
    except CannotRename as error:
        raise RepairRefused(str(error)) from error


def _settings_wanted(renaming: Renaming) -> dict[str, str]:
    """Settings that would bring the old name or address back at the next start."""
    if renaming.service.managed_by != ManagedBy.ENVIRONMENT:
        return {}
    values = configuration().read().values
    wanted = {}
    if values.get("MATRIX_SERVER_NAME") and values["MATRIX_SERVER_NAME"] != renaming.new_name:
        wanted["MATRIX_SERVER_NAME"] = renaming.new_name
    if values.get("MATRIX_HOMESERVER_URL") and values["MATRIX_HOMESERVER_URL"].rstrip("/") != renaming.url:
        wanted["MATRIX_HOMESERVER_URL"] = renaming.url
    return wanted


def _people(work: RepairWork, renaming: Renaming) -> dict[str, str]:
    """Which of people's accounts become which."""
    moves: dict[str, str] = {}
    if work.params["people"] == "same":
        moves = {one: f"{one.partition(':')[0]}:{renaming.new_name}" for one in people_on(renaming.old_names)}
    for line in re.split(r"[,\s]+", str(work.params["accounts"] or "").strip()):
        if not line:
            continue
        old, _, new = line.partition("=")
        if not _USER.match(old) or not _USER.match(new):
            raise RepairRefused(f"{line!r} is not like @ada:old.example=@ada:new.example.")
        moves[old] = new
    return moves


def plan(work: RepairWork) -> Plan:
    """What begins anew, who gets which account, and which settings change. Refuses while a setting would take it back."""
    renaming = _renaming(work)
    wanted = _settings_wanted(renaming)
    for name, value in wanted.items():
        if reason := edit.why_not(name, value):
            raise RepairRefused(f"{reason}. Then restart Switchboard, and do this again.".replace("..", "."))
    moves = _people(work, renaming)
    if not renaming.old_names and not wanted and not moves:
        return Plan(f"Every account is one of {renaming.new_name} already.")
    old = " and ".join(renaming.old_names) or renaming.new_name
    changes = [
        Change("homeserver", "name", old, renaming.new_name),
        Change("homeserver", "accounts that begin anew", 0, renaming.accounts),
        Change("homeserver", "rooms that are made anew, the space among them", 0, renaming.rooms),
    ]
    if renaming.url != renaming.service.base_url:
        changes.insert(1, Change("homeserver", "address", renaming.service.base_url, renaming.url))
    if renaming.chats:
        changes.append(Change("homeserver", "chats that people opened and that are over", renaming.chats, 0))
    changes += [
        Change("setting", name, configuration().read().values.get(name), value) for name, value in wanted.items()
    ]
    changes += [Change("person", "Matrix account", old_id, new_id) for old_id, new_id in sorted(moves.items())]
    changes += [Change("account", "stays: another row has its new name", one, one) for one in renaming.taken[:20]]
    invited = [one for one in settings.MATRIX_INVITE if one.endswith(tuple(f":{name}" for name in renaming.old_names))]
    more = ""
    if invited:
        more += f" MATRIX_INVITE names {counted(len(invited), 'account')} of {old}: change it yourself."
    if renaming.service.options.get("mode") == "client":
        more += " Switchboard's own account is another one there: enter its password or token with the service."
    return Plan(
        f"{counted(renaming.accounts, 'account')} and {counted(renaming.rooms, 'room')} would begin anew on {renaming.new_name}; "
        f"agents, conversations and settings stay. The next sync makes them (manage.py sync_agents).{more}",
        tuple(changes),
        data={"moves": moves, "wanted": wanted},
    )


def apply(work: RepairWork) -> dict[str, Any]:
    """Rows first, in one transaction; then people and settings. No sync runs meanwhile."""
    renaming = _renaming(work)
    try:
        with alone(actor=work.actor, trigger="rename", wait=60.0) as (run, _):
            work.remember(rows=rows_before(renaming), service=renaming.service.pk, name=renaming.new_name)
            renaming_apply(renaming=renaming, actor=work.actor)
            work.remember(applied=True)
            finish_run(run, "done", counts={"accounts.renamed": renaming.accounts})
    except SyncBusy as error:
        raise RepairRefused("A sync is running. Try again when it is done.") from error
    moves = dict(work.plan.data["moves"])
    work.remember(moves=moves)
    people = people_move(moves=moves, actor=work.actor)
    edited: list[dict[str, Any]] = []
    for name, value in dict(work.plan.data["wanted"]).items():
        edited.append(edit.change(name, value))
        work.remember(edited=edited)
    return {
        "accounts": renaming.accounts,
        "rooms": renaming.rooms,
        "people": people,
        "next": "manage.py sync_agents makes accounts and rooms on the new server.",
    }


def undo(work: RepairWork) -> None:
    """Every row as it was, while nothing was made on the new homeserver."""
    kept = work.snapshot
    service = Service.objects.filter(pk=kept.get("service") or 0, kind=HOMESERVER_KIND).first()
    if service is None or not kept.get("applied"):
        return
    try:
        renaming_undo(packed=kept["rows"], service=service, new_name=kept["name"], actor=work.actor)
        people_move(moves={new: old for old, new in (kept.get("moves") or {}).items()}, actor=work.actor)
        for memory in reversed(kept.get("edited") or []):
            edit.restore(memory)
    except (CannotRename, edit.CannotEdit) as error:
        raise RepairRefused(str(error)) from error


def links_of(chats: list[int]) -> list[Link]:
    """What ties conversations to chats that are over: goes with them, and comes back with them."""
    return list(Link.objects.filter(room__in=chats))


register_repair(
    RENAME,
    title="Let another server name be the homeserver's",
    repair_class="D",
    button="Begin anew on the other server",
    explain="For a homeserver that was set up anew under another name, or another homeserver in its place. Every agent gets its account and "
    "room there; conversations, settings and histories stay with the agents. The former server keeps what it has. Can be undone until the "
    "first account or room was made.",
    plan=plan,
    apply=apply,
    undo=undo,
    fields=(
        ServiceField("name", "New server name", "What stands behind the colon in Matrix ids.", required=True),
        ServiceField("url", "Its address", "Empty: the homeserver answers at the address that it had."),
        ServiceField(
            "people",
            "People's own accounts",
            "Whether people with an account on the former server have one of the same name on the new one.",
            kind="choice",
            choices=(("leave", "Leave them as they are"), ("same", "The same names on the new server")),
            default="leave",
        ),
        ServiceField("accounts", "Single accounts", "Like @ada:old.example=@ada.l:new.example, apart by commas."),
    ),
    confirm_word=lambda work: str(work.params["name"]).strip().lower(),
)
