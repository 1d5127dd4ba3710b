"""``manage.py registration``: the appservice's registration for any homeserver."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import httpx
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from agents.matrix.registration import Registration, RegistrationError, load
from agents.services.backends import homeserver_service
from agents.services.client_mode import no_appservice
from agents.services.registration import registration_of
from ops.models import Service


class Command(BaseCommand):
    """Exit codes: 0 printed, written, or the same; 1 something is missing, or --compare found a difference."""

    help = "Print or write the appservice registration that a homeserver needs to know Switchboard."
    # Settings only: those of the code need every page and a second; `check`, `migrate` and every start have them.
    requires_system_checks: list[str] = ["switchboard"]

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--output", metavar="FILE", help="Write the file (mode 0600) instead of printing it.")
        parser.add_argument("--tuwunel", action="store_true", help="Print the command for Tuwunel's admin room.")
        parser.add_argument("--compare", metavar="FILE", help="Say what differs from a registration that is installed.")
        parser.add_argument("--url", help="Where the homeserver reaches Switchboard (MATRIX_APPSERVICE_URL).")
        parser.add_argument("--anyway", action="store_true", help="Also in client mode, which needs no registration.")
        parser.add_argument("--server-name", help="The homeserver's name (MATRIX_SERVER_NAME).")

    def handle(self, *args: Any, **options: Any) -> None:
        service = _service()
        why = no_appservice(service) if service is not None else ""
        if why and not options["anyway"]:
            raise CommandError(f"{why} To prepare for the other mode all the same, add --anyway.")
        registration = self._registration(options)
        if options["compare"]:
            self._compare(registration, options["compare"])
        elif options["output"]:
            self._write(registration, Path(options["output"]))
        elif options["tuwunel"]:
            self.stdout.write(registration.tuwunel_command())
        else:
            self.stdout.write(registration.to_yaml(), ending="")

    def _registration(self, options: dict[str, Any]) -> Registration:
        service = _service()
        found = registration_of(service, server_name=options["server_name"] or "", url=options["url"] or "")
        if found is None:
            name = _asked_for(service.base_url if service is not None else settings.MATRIX_HOMESERVER_URL)
            found = registration_of(service, server_name=name, url=options["url"] or "") if name else None
        if found is None:
            raise CommandError(
                "The homeserver's name is not known (the part of Matrix ids behind the colon). "
                "Set MATRIX_SERVER_NAME, or give --server-name."
            )
        return found

    def _write(self, registration: Registration, path: Path) -> None:
        try:
            # It holds both tokens.
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(registration.to_yaml())
        except OSError as error:
            raise CommandError(f"{path} cannot be written: {error.strerror}.") from error
        self.stdout.write(f"● Written: {path}")
        self.stdout.write(
            "Synapse: name the file under app_service_config_files in homeserver.yaml (its user must be able to read it) "
            "and restart it.\nTuwunel: send the output of `manage.py registration --tuwunel` in its admin room."
        )

    def _compare(self, registration: Registration, path: str) -> None:
        try:
            differences = registration.diff(load(path))
        except RegistrationError as error:
            raise CommandError(str(error)) from error
        if differences:
            raise CommandError("\n".join(f"■ {text}." for text in differences))
        self.stdout.write("● The same.")


def _service() -> Service | None:
    try:
        return homeserver_service()
    except DatabaseError:
        # The registration is often made first of all, before there are tables.
        return None


def _asked_for(homeserver_url: str) -> str:
    """The name that the homeserver gives itself, "" when it does not say: many serve this on another port only."""
    if not homeserver_url:
        return ""
    try:
        name = httpx.get(f"{homeserver_url}/_matrix/key/v2/server", timeout=5).json().get("server_name")
    except (httpx.HTTPError, ValueError, AttributeError):
        return ""
    return name if isinstance(name, str) else ""
