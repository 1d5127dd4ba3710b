"""What servers with an admin room answer to commands: constructed from their source, word for word, and marked with its version.

No such server runs in these tests. Each entry was written down from the source at the tag that is named: the answer's text, its
``msgtype`` and whether it replies to the command (``m.in_reply_to``). Of continuwuity 26.9.1 the same words were also reported
from a running server (success and refusal of create-user, reset-password and deactivate).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

SERVER = "room.test"
LOG_TABLE = "| level | span | message |\n| ------: | :-----: | :------- |\n| INFO | admin | something was done |\n\n"


def failed(words: str) -> str:
    """How Tuwunel, conduwuit from 0.5 and continuwuity frame a failure (``processor.rs``, ``process_command``)."""
    return f"Command failed with error:\n```\n{words}\n```"


def parser_error(word: str) -> str:
    """clap's own words, sent as plain notice (``processor.rs``, ``parse``)."""
    return f"error: unrecognized subcommand '{word}'\n\nUsage: admin users <COMMAND>\n\nFor more information, try '--help'.\n"


@dataclass(frozen=True)
class Kind:
    """One server at one version. ``named`` is what it calls itself in /versions (or to other servers, ``by_federation``)."""

    name: str
    version: str
    created: Callable[[str, str], str]
    taken: Callable[[str], str]
    missing: Callable[[str], str] | None
    msgtype: str = "m.notice"
    by_federation: bool = False
    commands: frozenset[str] = field(
        default_factory=lambda: frozenset(
            {"create-user", "reset-password", "deactivate", "make-user-admin", "force-join-room"}
        )
    )
    logs: str = ""


KINDS = {
    # Tuwunel v1.0.0-rc1 src/admin/user/commands.rs, src/admin/processor.rs. Names itself on the federation port only.
    "tuwunel-1.0": Kind(
        "tuwunel",
        "1.0.0-rc1",
        lambda user, password: f"Created user with user_id: {user} and password: `{password}`",
        lambda user: failed(f"User {user} already exists"),
        None,
        by_federation=True,
    ),
    # Tuwunel v1.7.1 src/admin/user/{create_user,reset_password,...}.rs, src/admin/room/delete.rs.
    "tuwunel-1.7": Kind(
        "tuwunel",
        "1.7.1",
        lambda user, password: f"Created user with user_id: {user} and password: `{password}`",
        lambda user: failed(f"User {user} already exists"),
        None,
        logs=LOG_TABLE,
        commands=frozenset(
            {
                "create-user",
                "reset-password",
                "deactivate",
                "make-user-admin",
                "force-join-room",
                "force-promote",
                "delete",
            }
        ),
    ),
    # conduwuit v0.4.6 src/admin/user/commands.rs: failures are ordinary answers, in plain text and without a frame.
    "conduwuit-0.4": Kind(
        "conduwuit",
        "0.4.6",
        lambda user, password: f"Created user with user_id: {user} and password: `{password}`",
        lambda user: f"Userid {user} already exists",
        None,
        msgtype="m.text",
        by_federation=True,
    ),
    # continuwuity v26.8.0-alpha.1 src/admin/user/commands.rs.
    "continuwuity-26": Kind(
        "continuwuity",
        "26.8.0",
        lambda user, password: f"Created user {user} with password `{password}`",
        lambda user: failed("Username is not available."),
        lambda user: failed("The provided user does not exist."),
        by_federation=True,
    ),
}
