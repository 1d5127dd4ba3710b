"""The appservice's registration: the file that tells a homeserver who we are and which names are ours.

Format: application service API, "Registration". Written by us, read by Synapse, Tuwunel and others, and compared with what is
installed. Also keys that only Synapse knows are written; other servers ignore them.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml


class RegistrationError(ValueError):
    """A registration that cannot be read or used; the message says what is wrong and where."""


def generate_token() -> str:
    """A new token for a registration: 43 characters, 256 bits."""
    return secrets.token_urlsafe(32)


@dataclass(frozen=True, slots=True)
class Registration:
    """Who we are to one homeserver.

    ``url`` is where the homeserver reaches *us*. ``user_prefix`` begins the localpart of every account and alias of ours;
    ``server_name`` is the part of user ids behind the colon. The tokens stay out of ``repr``.
    """

    id: str
    url: str
    as_token: str = field(repr=False)
    hs_token: str = field(repr=False)
    sender_localpart: str
    server_name: str
    user_prefix: str = "agent_"
    rate_limited: bool = False
    receive_ephemeral: bool = False

    @property
    def sender(self) -> str:
        """The user id of the appservice's own account."""
        return f"@{self.sender_localpart}:{self.server_name}"

    @property
    def user_regex(self) -> str:
        """The expression for our accounts, anchored by the sigil and the escaped server name."""
        return f"@{_escape(self.user_prefix)}.*:{_escape(self.server_name)}"

    @property
    def alias_regex(self) -> str:
        """The expression for our rooms' aliases."""
        return f"#{_escape(self.user_prefix)}.*:{_escape(self.server_name)}"

    def as_dict(self) -> dict[str, Any]:
        """The registration as homeservers read it."""
        return {
            "id": self.id,
            "url": self.url,
            "as_token": self.as_token,
            "hs_token": self.hs_token,
            "sender_localpart": self.sender_localpart,
            "rate_limited": self.rate_limited,
            "namespaces": {
                "users": [{"exclusive": True, "regex": self.user_regex}],
                "aliases": [{"exclusive": True, "regex": self.alias_regex}],
                "rooms": [],
            },
            "receive_ephemeral": self.receive_ephemeral,
            # Lets us create our device, which makes repeated sends recognisable (Synapse before it was the default).
            "io.element.msc4190": True,
        }

    def to_yaml(self) -> str:
        """The registration file."""
        return yaml.safe_dump(self.as_dict(), sort_keys=False, allow_unicode=True, width=1000)

    def tuwunel_command(self) -> str:
        """What an administrator sends in Tuwunel's admin room (``#admins:<server>``) to register us; no restart is needed."""
        return f"!admin appservices register\n```yaml\n{self.to_yaml()}```"

    def diff(self, other: Registration) -> list[str]:
        """What differs, in sentences that show no token. Empty when both say the same."""
        found = []
        for name, label in _LABELS.items():
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine == theirs:
                continue
            found.append(f"{label} differs" if name in _SECRET else f"{label} is {theirs!r} in place of {mine!r}")
        return found

    @classmethod
    def parse(cls, text: str, *, server_name: str = "") -> Registration:
        """Read a registration file's text. ``server_name`` is used when the namespace does not name the server literally."""
        try:
            data = yaml.safe_load(text)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
            raise RegistrationError(f"The registration is not valid YAML{where}") from None
        if not isinstance(data, dict):
            raise RegistrationError("The registration must be a YAML mapping with id, url, as_token and hs_token")
        values: dict[str, str] = {}
        for key in ("id", "as_token", "hs_token", "sender_localpart"):
            value = data.get(key)
            if not isinstance(value, str) or not value:
                raise RegistrationError(f"The registration has no {key}")
            values[key] = value
        url = data.get("url")
        if url is not None and (not isinstance(url, str) or urlsplit(url).scheme not in {"http", "https"}):
            raise RegistrationError("The registration's url must begin with http:// or https://")
        prefix, server = _user_namespace(data.get("namespaces"))
        return cls(
            **values,
            url=url or "",
            server_name=server or server_name,
            user_prefix=prefix,
            rate_limited=data.get("rate_limited", True) is not False,
            receive_ephemeral=data.get("receive_ephemeral") is True,
        )


def load(path: Path | str) -> Registration:
    """Read a registration file. Raises :class:`RegistrationError`, which names the file."""
    try:
        return Registration.parse(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise RegistrationError(f"The registration {path} cannot be read: {reason}") from None
    except RegistrationError as error:
        raise RegistrationError(f"{path}: {error}") from None


_SECRET = frozenset({"as_token", "hs_token"})
_LABELS = {
    "id": "The id",
    "url": "The url",
    "as_token": "The as_token",
    "hs_token": "The hs_token",
    "sender_localpart": "The sender_localpart",
    "server_name": "The server name",
    "user_prefix": "The prefix of the accounts",
    "rate_limited": "rate_limited",
    "receive_ephemeral": "receive_ephemeral",
}


def _escape(text: str) -> str:
    """``re.escape``, but hyphens are left alone: some servers use expression engines that refuse ``\\-`` outside a class."""
    return re.escape(text).replace(r"\-", "-")


def _user_namespace(namespaces: object) -> tuple[str, str]:
    """The literal prefix and the literal server of the first user expression; ``""`` for what is not literal."""
    users = namespaces.get("users") if isinstance(namespaces, dict) else None
    for entry in users if isinstance(users, list) else []:
        regex = entry.get("regex") if isinstance(entry, dict) else None
        if not isinstance(regex, str):
            continue
        body = regex.removeprefix("^").removeprefix("@").removesuffix("$")
        name, _, server = body.partition(":")
        prefix = re.match(r"(?:[A-Za-z0-9_=/-]|\\[^A-Za-z0-9])*", name)
        # One character before "*" or "?" belongs to the repetition, not to the prefix.
        literal = prefix.group() if prefix else ""
        if name[len(literal) :][:1] in {"*", "?", "{"}:
            literal = literal[:-1]
        plain = re.sub(r"\\(.)", r"\1", server)
        return re.sub(r"\\(.)", r"\1", literal), plain if re.fullmatch(r"[A-Za-z0-9.:\[\]-]+", plain) else ""
    raise RegistrationError("The registration has no user namespace (namespaces.users)")
