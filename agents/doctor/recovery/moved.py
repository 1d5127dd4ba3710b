"""The same data at other addresses: settings and services follow, the registration is written anew, and what has to change outside is listed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError

from agents.services.backends import HOMESERVER_KIND, homeserver_service, mode_of
from agents.services.registration import registration_of
from agents.services.renaming import CannotRename, NameNotTold, name_of_homeserver
from ops.configuration import edit, envfile
from ops.configuration.schema import configuration
from ops.doctor.repairs import Change, Plan, RepairRefused, RepairWork, register_repair
from ops.models import ManagedBy, Service
from ops.network.probe import probe
from ops.registry import ServiceField
from ops.services.services import service_save
from ops.words import counted

MOVED = "recovery.moved"
REGISTRATION_FILE = "registration.yaml"
_URL = re.compile(r"^https?://[^\s/?#]+(/[^\s?#]*)?\Z")


@dataclass(slots=True)
class Move:
    """What is at another address now. ``settings``: variables with their new values; ``services``: rows with their new addresses.

    ``outside`` are sentences for whoever sees to the rest.
    """

    settings: dict[str, str] = field(default_factory=dict)
    services: dict[str, str] = field(default_factory=dict)
    registration: str = ""
    path: Path | None = None
    outside: list[str] = field(default_factory=list)


def _address(text: Any, what: str) -> str:
    url = str(text or "").strip().rstrip("/")
    if url and not _URL.match(url):
        raise RepairRefused(f"{url!r} is no address for {what}; one looks like https://switchboard.example.org.")
    return url


def _services_of(work: RepairWork) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in re.split(r"[,\s]+", str(work.params["services"] or "").strip()):
        if one:
            name, _, url = one.partition("=")
            if not Service.objects.filter(name=name).exists():
                raise RepairRefused(f"There is no service named {name!r}.")
            found[name] = _address(url, name)
    homeserver = homeserver_service()
    url = _address(work.params["homeserver_url"], "the homeserver")
    if url:
        if homeserver is None:
            raise RepairRefused("No homeserver is set up here.")
        found[homeserver.name] = url
    return {name: url for name, url in found.items() if url}


def _move(work: RepairWork) -> Move:
    move = Move()
    public = _address(work.params["public_url"], "Switchboard")
    reached = _address(work.params["appservice_url"], "what the homeserver asks")
    values = configuration().read().values
    if public and public != str(values.get("PUBLIC_URL") or "").rstrip("/"):
        move.settings["PUBLIC_URL"] = public
    if reached and reached != str(values.get("MATRIX_APPSERVICE_URL") or "").rstrip("/"):
        move.settings["MATRIX_APPSERVICE_URL"] = reached
    for name, url in _services_of(work).items():
        service = Service.objects.get(name=name)
        if service.base_url.rstrip("/") != url:
            move.services[name] = url
        variable = configuration().service_settings.get(f"{name}.base_url", "")
        if (
            variable
            and service.managed_by == ManagedBy.ENVIRONMENT
            and str(values.get(variable) or "").rstrip("/") != url
        ):
            move.settings[variable] = url
    _registration(move, values, public, reached)
    _say_outside(move, public)
    return move


def _registration(move: Move, values: Mapping[str, Any], public: str, reached: str) -> None:
    """The registration for the homeserver, when it says something else now than the file that lies here."""
    homeserver = homeserver_service()
    if homeserver is None or mode_of(homeserver) == "client" or homeserver.options.get("local"):
        return
    url = reached or str(values.get("MATRIX_APPSERVICE_URL") or "") or public or str(values.get("PUBLIC_URL") or "")
    made = registration_of(homeserver, url=(url or settings.MATRIX_APPSERVICE_URL).rstrip("/"))
    if made is None:
        move.outside.append(
            "The homeserver's name is not known yet: write its registration with manage.py registration."
        )
        return
    path = Path(settings.DATA_DIR) / REGISTRATION_FILE
    text = made.to_yaml()
    if (public or reached) and envfile.read(path) != text:
        move.registration, move.path = text, path


def _say_outside(move: Move, public: str) -> None:
    for name, value in move.settings.items():
        if reason := edit.why_not(name, value):
            move.outside.append(reason)
    if public:
        host = urlsplit(public).netloc
        move.outside.append(f"Let {host} lead here: DNS, the reverse proxy in front of Switchboard, its certificate.")
        move.outside.append(
            f"Programs, web pages and webhooks that use the former address: give them {public} (webhooks to {public}/api/v1/…)."
        )
        move.outside.append(
            "People sign in once more: browsers keep their sign-in for one address. Links in old mails lead to the former one."
        )
    if move.path is not None:
        move.outside.append(
            f"Give the homeserver the registration {move.path} and restart it (Tuwunel: send manage.py registration --tuwunel in its admin room)."
        )
    homeserver = homeserver_service()
    if homeserver is not None and homeserver.options.get("local") and public:
        move.outside.append("The local homeserver learns it at the next start of manage.py up.")
    if move.settings or move.services:
        move.outside.append("Restart every process of Switchboard.")


def _ask_services(move: Move) -> None:
    """Whether the servers answer at their new addresses; another homeserver than ours is none of a move."""
    for name, url in move.services.items():
        service = Service.objects.get(name=name)
        if service.kind == HOMESERVER_KIND:
            known = service.options.get("server_name") or service.capabilities.get("server_name") or ""
            try:
                said = name_of_homeserver(service, url)
            except NameNotTold as error:
                raise RepairRefused(
                    f"{error} If it is another homeserver that takes the place of ours: manage.py homeserver rename-server NAME --url {url}"
                ) from error
            except CannotRename as error:
                raise RepairRefused(str(error)) from error
            if known and said != known:
                raise RepairRefused(
                    f"The homeserver at {url} calls itself {said}; ours is {known}. For another name: "
                    f"manage.py homeserver rename-server {said} --url {url}"
                )
        else:
            found = probe(url)
            if not found.ok:
                raise RepairRefused(f"{name} does not answer at {url}: {found.sentence}")


def plan(work: RepairWork) -> Plan:
    """What follows from the new addresses, here and outside."""
    move = _move(work)
    _ask_services(move)
    values = configuration().read().values
    changes = [
        Change(
            "setting",
            f"{name}, to be changed outside" if edit.why_not(name, value) else name,
            values.get(name) or None,
            value,
        )
        for name, value in move.settings.items()
    ]
    changes += [
        Change(f"service:{name}", "address", Service.objects.get(name=name).base_url, url)
        for name, url in move.services.items()
    ]
    if move.path is not None:
        changes.append(
            Change("file", str(move.path), "the former address" if move.path.exists() else None, "the new one")
        )
    if not changes:
        return Plan("Everything says these addresses already.")
    outside = " ".join(f"({number}) {text}" for number, text in enumerate(move.outside, start=1))
    return Plan(
        f"{counted(len(changes), 'thing')} here would say the new addresses. To be done outside: {outside}",
        tuple(changes),
    )


def apply(work: RepairWork) -> dict[str, Any]:
    """Settings, services, registration; each is remembered before the next."""
    move = _move(work)
    edited: list[dict[str, Any]] = []
    for name, value in move.settings.items():
        # What stands in the environment is somebody else's to change; it is listed.
        if not edit.why_not(name, value):
            edited.append(edit.change(name, value))
            work.remember(edited=edited)
    former: dict[str, str] = {}
    for name, url in move.services.items():
        former[name] = Service.objects.get(name=name).base_url
        work.remember(services=former)
        _readdress(name, url, work.actor)
    if move.path is not None:
        work.remember(file={"path": str(move.path), "before": envfile.read(move.path)})
        # It holds both tokens; ``replace`` keeps it for the owner.
        envfile.replace(move.path, move.registration)
        move.path.chmod(0o600)
    return {"outside": move.outside, "registration": str(move.path or "")}


def _readdress(name: str, url: str, actor: str) -> None:
    service = Service.objects.get(name=name)
    try:
        service_save(
            actor=actor,
            name=name,
            kind=service.kind,
            base_url=url,
            enabled=service.enabled,
            managed_by=service.managed_by,
        )
    except ValidationError as error:
        raise RepairRefused(" ".join(error.messages)) from error


def undo(work: RepairWork) -> None:
    """The former addresses."""
    kept = work.snapshot
    try:
        for memory in reversed(kept.get("edited") or []):
            edit.restore(memory)
    except edit.CannotEdit as error:
        raise RepairRefused(str(error)) from error
    for name, url in (kept.get("services") or {}).items():
        _readdress(name, url, work.actor)
    if file := kept.get("file"):
        envfile.replace(Path(file["path"]), file["before"])


register_repair(
    MOVED,
    title="Switchboard, or a server of its, has another address",
    repair_class="C",
    button="Show what has to follow",
    explain="For the same data at another address: settings and services are changed, the homeserver's registration is written anew, and what "
    "has to be changed outside (DNS, proxy, homeserver) is listed. The homeserver is asked whether it is still the same one.",
    plan=plan,
    apply=apply,
    undo=undo,
    fields=(
        ServiceField(
            "public_url", "Where people reach Switchboard now", "For example https://switchboard.example.org."
        ),
        ServiceField("appservice_url", "Where the homeserver reaches it", "Only when that is another address."),
        ServiceField("homeserver_url", "The homeserver's new address", "Under the same name."),
        ServiceField("services", "Other servers", "Like letta=http://10.0.0.7:8283, apart by commas."),
    ),
)
