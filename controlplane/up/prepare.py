"""What has to be right before anything starts: settings, port, tables."""

from __future__ import annotations

import random
import socket

from django.conf import settings
from django.core import checks
from django.core.management import CommandError, call_command
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.db.migrations.executor import MigrationExecutor

from controlplane.homeserver.configure import port_is_free
from controlplane.up.errors import CannotStart
from controlplane.up.terminal import Terminal
from ops.choices import Lamp
from ops.doctor_data import folders
from ops.words import counted


def check_settings(terminal: Terminal) -> None:
    """Print what is odd. Raises ``CannotStart`` when something is wrong."""
    wrong = []
    for message in checks.run_checks():
        if message.is_silenced():
            continue
        text = f"{message.msg} {message.hint or ''} ({message.id})"
        if message.level >= checks.ERROR:
            wrong.append(text)
        elif message.level >= checks.WARNING:
            terminal.say(Lamp.ATTENTION, text)
    if wrong:
        raise CannotStart(
            "The settings have to be corrected first.", "\n".join(f"■ {text}" for text in wrong), cause="settings"
        )


def check_folder() -> None:
    """Raises ``CannotStart`` when the data directory cannot be written."""
    found = [one for one in folders.look() if one.fatal]
    if found:
        raise CannotStart(
            f"{found[0].why[0].upper()}{found[0].why[1:]}. Give it to that user: {folders.command(found[0].path)}",
            cause="folder",
        )


def check_port() -> None:
    """Raises ``CannotStart`` when nobody can listen at ``HOST`` and ``PORT``."""
    host, port = settings.HOST, settings.PORT
    try:
        address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0]
    except socket.gaierror as error:
        raise CannotStart(
            f"HOST is {host!r}, which is no address of this machine ({error.strerror}).", cause="port"
        ) from None
    if port_is_free(port, str(address)):
        return
    if port < 1024:
        raise CannotStart(
            f"Port {port} on {host} cannot be used: it is taken, or reserved for root. Set PORT to another.",
            cause="port",
        )
    raise CannotStart(
        f"Port {port} on {host} is taken by another program. Stop that program, or choose another port: "
        f"make up PORT={port + 1} (or set PORT in .env).",
        cause="port",
    )


# Below those that Linux gives to outgoing connections, one of which could have the port before our server listens.
_FREE_PORTS = range(30_000, 32_768)


def free_port() -> int:
    """A port on ``HOST`` that nobody uses, for ``PORT=0``. Raises ``CannotStart`` when there is none."""
    for port in random.sample(_FREE_PORTS, 200):
        if port_is_free(port, settings.HOST):
            return port
    raise CannotStart(
        f"No port from {_FREE_PORTS[0]} to {_FREE_PORTS[-1]} is free on {settings.HOST}. Set PORT to one that is."
    )


def migrate(terminal: Terminal) -> int:
    """Apply migrations that are missing, after a backup; returns how many. Raises ``CannotStart`` when the database does not answer."""
    connection = connections[DEFAULT_DB_ALIAS]
    try:
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
        if missing:
            with terminal.working(f"Applying {counted(len(missing), 'migration')}") as progress:
                progress("making tables")
                call_command("migrate", verbosity=0, interactive=False)
    except CommandError as error:
        raise CannotStart(
            f"{str(error).partition(' To go on without')[0]} To go on without a backup, set BACKUP_BEFORE_UPGRADE=false for one start.",
            cause="database",
        ) from error
    except DatabaseError as error:
        where = "DATABASE_URL" if settings.ENVIRONMENT["DATABASE_URL"] else str(connection.settings_dict["NAME"])
        raise CannotStart(
            f"The database ({where}) cannot be used: {' '.join(str(error).split())}", cause="database"
        ) from error
    return len(missing)
