"""The same data at other addresses: shows what follows here, does it, and lists what has to be changed outside."""

from __future__ import annotations

from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from agents.doctor.recovery.moved import MOVED
from ops.models import RepairRun


class Command(BaseCommand):
    help = (
        "Tell Switchboard that it, or a server of its, is at another address now. Shows the changes first and asks. "
        "Exit codes: 0 done or nothing to do, 2 refused or not agreed, 3 usage, 4 tried and failed."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--public-url", default="", help="Where people reach Switchboard now.")
        parser.add_argument("--appservice-url", default="", help="Where the homeserver reaches it, if that differs.")
        parser.add_argument("--homeserver-url", default="", help="Where the homeserver is now, under the same name.")
        parser.add_argument(
            "--service",
            action="append",
            default=[],
            metavar="NAME=URL",
            dest="services",
            help="Where another server is now.",
        )
        parser.add_argument("--dry-run", action="store_true", help="Show what would change, and change nothing.")
        parser.add_argument("--yes", action="store_true", help="Do not ask.")
        parser.add_argument("--json", action="store_true", dest="as_json", help="One JSON document on standard output.")

    def handle(self, *args: Any, **options: Any) -> None:
        given = {
            "public_url": options["public_url"],
            "appservice_url": options["appservice_url"],
            "homeserver_url": options["homeserver_url"],
            "services": ",".join(options["services"]),
        }
        if not any(given.values()):
            raise CommandError(
                "Say what moved: --public-url, --appservice-url, --homeserver-url or --service NAME=URL.", returncode=3
            )
        arguments = [part for name, value in given.items() for part in ("--param", f"{name}={value}")]
        for flag, name in (("--dry-run", "dry_run"), ("--yes", "yes"), ("--json", "as_json")):
            arguments += [flag] if options[name] else []
        before = RepairRun.objects.filter(repair_id=MOVED).order_by("-created_at").values_list("pk", flat=True).first()
        call_command("repair", MOVED, *arguments, stdout=self.stdout, stderr=self.stderr)
        run = RepairRun.objects.filter(repair_id=MOVED).order_by("-created_at").first()
        if options["as_json"] or options["dry_run"] or run is None or run.pk == before:
            return
        outside = run.receipt.get("outside") or []
        if outside:
            self.stdout.write("To be done outside:")
        for line in outside:
            self.stdout.write(f"  - {line}")
