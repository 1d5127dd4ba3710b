"""``manage.py up``: Switchboard on one machine, in one process, with a local homeserver."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from controlplane.up.errors import CannotStart


class Command(BaseCommand):
    """Exit codes: 0 stopped as asked, 130 stopped at once (asked twice); those of ``errors.EXIT_CODES`` when it could not start
    (the last lines say why)."""

    help = "Start everything here: web server, worker, beat and a local homeserver. Ctrl-C stops it."
    # They are part of the start, and shown with their lamps.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--no-homeserver", action="store_true", help="Do not run the local homeserver.")
        parser.add_argument("--no-sync", action="store_true", help="Skip the first sync; beat does it later.")
        parser.add_argument(
            "--port", type=int, help=f"Port of the web server (PORT, {settings.PORT}); 0 takes a free one."
        )
        parser.add_argument("--host", help=f"Address of the web server (HOST, {settings.HOST}).")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            _settle_address(options["host"], options["port"])
        except CannotStart as error:
            raise CommandError(error.sentence) from None
        from controlplane.up.run import Up

        code = Up(with_homeserver=not options["no_homeserver"], with_sync=not options["no_sync"]).run()
        sys.exit(code)


def _settle_address(host: str | None, port: int | None) -> None:
    """Settings are read when Django starts, and links, allowed hosts and the registration follow from host and port. So
    when they come from the command line (or the port is to be chosen) we begin again with them in the environment."""
    from controlplane.up.prepare import free_port

    wanted_host = host or settings.HOST
    wanted_port = settings.PORT if port is None else port
    if wanted_port == 0:
        wanted_port = free_port()
    if (wanted_host, wanted_port) == (settings.HOST, settings.PORT):
        return
    sys.stdout.flush()
    environment = {**os.environ, "HOST": wanted_host, "PORT": str(wanted_port)}
    os.execve(sys.executable, [sys.executable, *_without_address(sys.orig_argv[1:])], environment)  # noqa: S606


def _without_address(arguments: list[str]) -> list[str]:
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument in {"--port", "--host"}:
            skip = True
        elif not argument.startswith(("--port=", "--host=")):
            kept.append(argument)
    return kept
