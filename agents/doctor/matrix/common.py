"""What the checks and repairs of the homeserver share: the row, its client, and words for targets."""

from __future__ import annotations

from functools import partial

from django.conf import settings

from agents.matrix.errors import MatrixError
from agents.services.backends import HOMESERVER_KIND, Homeserver, homeserver_of
from ops.checks import service_targets
from ops.doctor.repairs import RepairRefused
from ops.models import Service
from ops.registry import CheckOutcome

homeservers = partial(service_targets, "homeserver")
# What has to be well before anything can be asked of accounts and rooms.
SPOKEN_WITH = (
    "db.reachable",
    "matrix.hs_process_down",
    "matrix.hs_url_wrong",
    "matrix.hs_unreachable",
    "matrix.login_failed",
)
GONE = CheckOutcome("skip", "The homeserver is switched off or was removed.")


def service_named(target: str) -> Service | None:
    """The enabled homeserver that a check is asked about."""
    return Service.objects.filter(name=target, kind=HOMESERVER_KIND, enabled=True).first()


def service_at(target: str) -> Service:
    """The homeserver that a repair is aimed at: ``service:<name or key>``, its name, or the only one.

    Raises ``RepairRefused``.
    """
    rows = Service.objects.filter(kind=HOMESERVER_KIND, enabled=True).order_by("pk")
    kind, _, key = target.rpartition(":")
    found: Service | None = None
    if kind in ("", "service") and key:
        found = rows.filter(name=key).first()
        if found is None and key.isdigit():
            found = rows.filter(pk=int(key)).first()
    if found is None:
        found = rows.first()
    if found is None:
        raise RepairRefused("No homeserver is set up. Set MATRIX_HOMESERVER_URL, or add one under Services.")
    return found


def opened(target: str) -> Homeserver:
    """The homeserver that a repair is aimed at, ready to be asked. Raises ``RepairRefused``."""
    try:
        return homeserver_of(service_at(target))
    except MatrixError as error:
        raise RepairRefused(error.sentence) from error


def server_name_of(service: Service) -> str:
    """The part of Matrix ids behind the colon as far as it is known, without asking; "" when it is not."""
    known = service.options.get("server_name") or service.capabilities.get("server_name")
    return str(known or settings.MATRIX_SERVER_NAME or "")


def sender_of(service: Service) -> str:
    """Switchboard's own user id there, "" while the server's name is not known."""
    localpart = service.options.get("sender_localpart") or settings.MATRIX_SENDER_LOCALPART
    server = server_name_of(service)
    return f"@{localpart}:{server}" if server else ""


def key_of(target: str, kind: str) -> int | None:
    """The primary key in ``kind:<key>``; None for anything else."""
    found, _, key = target.partition(":")
    return int(key) if found == kind and key.isdigit() else None
