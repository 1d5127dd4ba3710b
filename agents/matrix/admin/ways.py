"""Which way a homeserver offers for each thing that an administrator does, or why there is none and what to do instead.

A pure function of what was probed (:mod:`agents.matrix.probe`) and of which credentials were given; asks nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

Ability = Literal[
    "user_create",
    "password_reset",
    "login_as",
    "user_deactivate",
    "room_admin",
    "room_join",
    "room_delete",
    "appservice",
]
ABILITIES: tuple[Ability, ...] = get_args(Ability)
Dialect = Literal[
    "admin_api", "shared_secret", "admin_room", "registration_token", "open_registration", "appservice", "none"
]
LABELS: dict[Ability, str] = {
    "user_create": "Make accounts",
    "password_reset": "Reset passwords",
    "login_as": "Log in as an account",
    "user_deactivate": "Deactivate accounts",
    "room_admin": "Give power in a room",
    "room_join": "Join an account to a room",
    "room_delete": "Delete a room",
    "appservice": "Speak as an appservice",
}
# Names under which servers with an admin room are known.
ADMIN_ROOM_SERVERS = frozenset({"tuwunel", "conduwuit", "continuwuity"})


@dataclass(frozen=True, slots=True)
class Way:
    """How one thing is done on a homeserver. ``works``: as far as is known. ``sentence``: how, or why not and what instead."""

    ability: Ability
    dialect: Dialect
    works: bool
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """JSON shape: ``{ability, label, dialect, works, sentence}``."""
        return {
            "ability": self.ability,
            "label": LABELS[self.ability],
            "dialect": self.dialect,
            "works": self.works,
            "sentence": self.sentence,
        }


def ways_of(flavour: Mapping[str, Any], given: frozenset[str]) -> dict[str, Way]:
    """The way for every ability. ``given`` are the names of the credentials that the service has, ``flavour`` what was probed."""
    known = _Known(flavour, given)
    makers: dict[Ability, Callable[[_Known], tuple[Dialect, bool, str]]] = {
        "user_create": _user_create,
        "password_reset": _password_reset,
        "login_as": _login_as,
        "user_deactivate": _user_deactivate,
        "room_admin": _room_admin,
        "room_join": _room_join,
        "room_delete": _room_delete,
        "appservice": _appservice,
    }
    return {ability: Way(ability, *makers[ability](known)) for ability in ABILITIES}


class _Known:
    """What was probed, as questions with a yes or a no."""

    def __init__(self, flavour: Mapping[str, Any], given: frozenset[str]) -> None:
        self.given = given
        self.name = str(flavour.get("name") or "unknown")
        self.version = str(flavour.get("version") or "")
        self.can = _part(flavour, "can")
        self.admin = _part(flavour, "admin")
        self.secret = _part(flavour, "secret")
        self.registration = _part(flavour, "registration")
        self.auth = _part(flavour, "auth")

    @property
    def label(self) -> str:
        return f"{self.name.capitalize()} {self.version}".strip()

    @property
    def mas(self) -> bool:
        return self.auth.get("kind") == "mas"

    @property
    def admin_api(self) -> bool:
        return bool(self.can.get("admin_api"))

    @property
    def admin_room(self) -> bool:
        return not self.admin_api and self.name in ADMIN_ROOM_SERVERS

    @property
    def has_admin(self) -> bool:
        return "admin_token" in self.given or {"admin_user", "admin_password"} <= self.given

    def by_admin(self, how: str, *, room_how: str = "", room_lacks: str = "") -> tuple[Dialect, bool, str]:
        """Through the admin API or the admin room, or why not. ``room_how`` and ``room_lacks``: the command, or its absence."""
        if not self.admin_api and not self.admin_room:
            return "none", False, self.no_admin_api
        dialect: Dialect = "admin_api" if self.admin_api else "admin_room"
        if dialect == "admin_room" and not room_how:
            return "none", False, f"{self.label} has no command for it in its admin room. {room_lacks}".strip()
        if not self.has_admin:
            place = "its admin API" if self.admin_api else "its admin room (#admins)"
            which = (
                "give the service a token (admin_token) from mas-cli manage issue-compatibility-token <name> "
                "--yes-i-want-to-grant-synapse-admin-privileges."
                if self.mas
                else "give the service a token (admin_token), or a name and a password (admin_user, admin_password)."
            )
            return dialect, False, f"It is done through {place}, for which an administrator is needed: {which}"
        if self.admin.get("works") is False:
            return dialect, False, str(self.admin.get("sentence") or "The administrator that was given is refused.")
        return dialect, True, how if self.admin_api else room_how

    @property
    def no_admin_api(self) -> str:
        if self.name == "synapse":
            return (
                "Synapse's admin API (/_synapse/admin) is not served at this address, probably because a proxy hides it. Name the "
                "address at which it is (the service's option admin_url), for example http://127.0.0.1:8008."
            )
        return (
            f"{self.label} has neither Synapse's admin API nor an admin room that we know. Do it with the homeserver's own "
            "tools."
        )


def _part(flavour: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = flavour.get(name)
    return found if isinstance(found, Mapping) else {}


def _user_create(known: _Known) -> tuple[Dialect, bool, str]:
    if known.mas:
        return (
            "none",
            False,
            "Accounts are made in the Matrix Authentication Service: mas-cli manage register-user --yes --username <name> --password "
            "<password>. "
            "Agents' accounts are made by the appservice all the same.",
        )
    has_secret = "registration_shared_secret" in known.given and bool(known.can.get("make_users"))
    if has_secret and known.secret.get("works") is not False:
        return "shared_secret", True, "With the registration shared secret."
    dialect, works, sentence = known.by_admin(
        "Through the admin API (PUT /_synapse/admin/v2/users).",
        room_how="In the admin room (!admin users create-user).",
    )
    if works:
        return dialect, works, sentence
    kind = known.registration.get("kind")
    if kind == "token" and "registration_token" in known.given:
        return "registration_token", True, "By registering with the registration token."
    if kind == "open":
        return "open_registration", True, "By registering: it is open to anybody."
    reasons = [sentence]
    if "registration_shared_secret" in known.given:
        why = known.secret.get("sentence") or "this homeserver does not take it"
        reasons.insert(0, f"The registration shared secret does not help: {why}")
    if kind == "token":
        reasons.append("A registration token (registration_token) would do as well.")
    elif "registration_token" in known.given:
        reasons.append(
            f"The registration token does not help: {known.registration.get('sentence') or 'no flow takes it.'}"
        )
    return dialect, False, " ".join(reasons)


def _password_reset(known: _Known) -> tuple[Dialect, bool, str]:
    if known.mas:
        return (
            "none",
            False,
            "Passwords are kept by the Matrix Authentication Service: mas-cli manage set-password <name> <password>.",
        )
    return known.by_admin(
        "Through the admin API (POST /_synapse/admin/v1/reset_password).",
        room_how="In the admin room (!admin users reset-password). Open sessions of the account stay open."
        if known.name != "continuwuity"
        else "In the admin room (!admin users reset-password).",
    )


def _login_as(known: _Known) -> tuple[Dialect, bool, str]:
    if known.mas:
        return (
            "none",
            False,
            "Sessions are opened by the Matrix Authentication Service: mas-cli manage issue-compatibility-token <name> gives a token "
            "that can be entered.",
        )
    dialect, works, sentence = known.by_admin(
        "Through the admin API (POST /_synapse/admin/v1/users/…/login).",
        room_lacks="Reset the account's password and log in with it.",
    )
    if works or not known.auth.get("appservice_login"):
        return dialect, works, sentence
    return "appservice", True, f"As the appservice, for accounts in its namespace. For others: {sentence}"


def _user_deactivate(known: _Known) -> tuple[Dialect, bool, str]:
    if known.mas:
        return (
            "none",
            False,
            "Accounts belong to the Matrix Authentication Service: mas-cli manage lock-user <name> --deactivate.",
        )
    return known.by_admin(
        "Through the admin API (POST /_synapse/admin/v1/deactivate).",
        room_how="In the admin room (!admin users deactivate).",
    )


def _room_admin(known: _Known) -> tuple[Dialect, bool, str]:
    has_command = known.name == "tuwunel" and at_least(known.version, (1, 4))
    return known.by_admin(
        "Through the admin API (POST /_synapse/admin/v1/rooms/…/make_room_admin).",
        room_how="In the admin room (!admin users force-promote)." if has_command else "",
        room_lacks="Somebody who has the power in that room has to give it.",
    )


def _room_join(known: _Known) -> tuple[Dialect, bool, str]:
    return known.by_admin(
        "Through the admin API (POST /_synapse/admin/v1/join). Into a private room the administrator goes first and leaves again.",
        room_how="In the admin room (!admin users force-join-room). Into a private room somebody in it has to invite first.",
    )


def _room_delete(known: _Known) -> tuple[Dialect, bool, str]:
    has_command = known.name == "tuwunel" and at_least(known.version, (1, 6))
    return known.by_admin(
        "Through the admin API (DELETE /_synapse/admin/v2/rooms).",
        room_how="In the admin room (!admin rooms delete)." if has_command else "",
        room_lacks="Let everybody leave the room; the homeserver forgets it then.",
    )


def _appservice(known: _Known) -> tuple[Dialect, bool, str]:
    if known.can.get("appservice"):
        return "appservice", True, "The homeserver takes us for its appservice."
    if known.name in ADMIN_ROOM_SERVERS:
        how = "send the output of `manage.py registration --tuwunel` in its admin room; no restart is needed."
    else:
        how = "name the file of `manage.py registration --output` under app_service_config_files and restart the homeserver."
    return "none", False, f"We are not registered there as an appservice. To change that, {how}"


def at_least(version: str, least: tuple[int, ...]) -> bool:
    """Whether a version like ``1.8.1`` or ``26.6.2-rc`` is this one or a later one; an unknown version is not."""
    numbers: list[int] = []
    for part in version.partition("+")[0].partition("-")[0].split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return bool(numbers) and tuple(numbers) >= least
