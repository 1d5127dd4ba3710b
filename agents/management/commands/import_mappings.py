"""``manage.py import_mappings FILE…``: agents with the accounts and rooms that another bridge gave them."""

from __future__ import annotations

import getpass
import json
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.table import Table

from agents.importing.report import report_of
from agents.matrix.errors import MatrixError
from agents.models import MappingImport, MappingImportRow
from agents.services.backends import NoHomeserver
from agents.services.import_applying import import_apply
from agents.services.import_preparing import import_prepare, import_preview
from agents.services.imports import ImportRefused, import_rejects, reject_rows
from ops.locks import LockHeld
from ops.terminal import console_of
from ops.words import counted

_SHAPES = {"create": "●", "update": "●", "unchanged": "○", "conflict": "▲", "reject": "■"}


class Command(BaseCommand):
    """Exit codes: 0 everything is here, 1 some records could not be taken, 2 conflicts wait for a decision, 3 usage."""

    help = "Take agents over with the accounts and rooms that Letta-Matrix gave them. A second run changes nothing."
    # Settings only: those of the code need every page and a second; `check`, `migrate` and every start have them.
    requires_system_checks: list[str] = ["switchboard"]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "files", nargs="*", type=Path, metavar="FILE", help="Any of its files, or a file of rejects."
        )
        parser.add_argument("--space", type=Path, metavar="FILE", help="letta_space_config.json.")
        parser.add_argument(
            "--database", default="", metavar="URL",
            help="Its later database: a file, sqlite:///PATH or postgresql://USER@HOST/NAME; - asks for the address.",
        )  # fmt: skip
        parser.add_argument("--service", default="", metavar="NAME", help="The service on which the agents live.")
        parser.add_argument("--dry-run", action="store_true", help="Say what would be done, and change nothing.")
        parser.add_argument("--json", action="store_true", dest="as_json", help="The report as JSON.")
        parser.add_argument(
            "--prefer",
            default="",
            choices=["stored", "file", "homeserver"],
            help="Which side counts where they differ.",
        )
        parser.add_argument("--rejects", type=Path, metavar="FILE", help="Where records go that could not be taken.")
        parser.add_argument("--every-row", action="store_true", help="Tell of every record, not of trouble only.")

    def handle(self, *args: Any, **options: Any) -> None:
        rejects = options["rejects"]
        if rejects is not None and any(rejects.exists() and rejects.samefile(path) for path in self._paths(options)):
            raise CommandError("Write rejects to another file than the one that is read.", returncode=3)
        call = {
            "files": [self._read(path) for path in options["files"]],
            "space_file": self._read(options["space"]) if options["space"] else None,
            "database_url": self._address(options["database"]),
            "service_name": options["service"],
            "prefer": options["prefer"],
            "look_seconds": 300.0,
            "actor": "command",
        }
        try:
            if options["dry_run"]:
                run, rows = import_preview(**call)
            else:
                run = import_apply(run=import_prepare(**call), actor="command")
                rows = list(MappingImportRow.objects.filter(run=run).order_by("number"))
        except (ImportRefused, LockHeld, NoHomeserver) as error:
            raise CommandError(getattr(error, "sentence", str(error)), returncode=3) from None
        except MatrixError as error:
            raise CommandError(error.sentence, returncode=1) from None
        written = "" if options["dry_run"] else self._write_rejects(run, rejects)
        report = report_of(run, rows, dry_run=options["dry_run"], rejects_file=written)
        if options["as_json"]:
            self.stdout.write(json.dumps(report, indent=2, ensure_ascii=False, default=str))
        else:
            self._print(report, every_row=options["every_row"])
        unread = any(finding["severity"] in {"error", "critical"} for finding in report["findings"])
        if unread or report["rejected"] or report["failed"]:
            sys.exit(1)
        if report["undecided"]:
            sys.exit(2)

    def _paths(self, options: dict[str, Any]) -> list[Path]:
        return [path for path in [*options["files"], options["space"]] if path is not None and path.exists()]

    def _read(self, path: Path) -> tuple[str, bytes]:
        try:
            return path.name, path.expanduser().read_bytes()
        except OSError as error:
            raise CommandError(f"{path} cannot be read: {error.strerror}.", returncode=3) from None

    def _address(self, url: str) -> str:
        """A password in an argument is seen by everybody on the machine: ``-`` asks for the address instead."""
        return getpass.getpass("Address of the database: ") if url == "-" else url

    def _write_rejects(self, run: MappingImport, path: Path | None) -> str:
        if not reject_rows(run).exists():
            return ""
        path = path or _unused_name()
        path.touch(mode=0o600)
        path.chmod(0o600)
        path.write_bytes(import_rejects(run))
        return str(path)

    def _print(self, report: dict[str, Any], *, every_row: bool) -> None:
        console = console_of(self.stdout)
        for source in report["sources"]:
            console.print(f"○ {source['name']}: {source['kind']}, {counted(source['records'], 'record')}", markup=False)
        for finding in report["findings"]:
            shape = {"info": "○", "warning": "▲"}.get(finding["severity"], "■")
            console.print(f"{shape} {finding['sentence']}", markup=False)
        for row in report["rows"]:
            trouble = row["action"] in {"conflict", "reject"} or row["result"] == "failed"
            if every_row or trouble:
                shape = "■" if row["result"] == "failed" else "●" if row["result"] == "done" else _SHAPES[row["action"]]
                line = f", line {row['line']}" if row["line"] else ""
                console.print(
                    f"{shape} {row['label'] or row['key']} ({row['source']}{line}): {row['result_sentence'] or row['sentence']}",
                    markup=False,
                )
        table = Table("", *report["counts"], box=None, pad_edge=False)
        for kind, counts in report["kinds"].items():
            table.add_row(kind, *(f"{counts.get(action, 0):,}" for action in report["counts"]))
        if report["kinds"]:
            console.print(table)
        self._say_end(report)

    def _say_end(self, report: dict[str, Any]) -> None:
        if report["dry_run"]:
            self.stdout.write("○ Nothing was changed (--dry-run).")
        else:
            self.stdout.write(
                f"● {counted(report['done'], 'record')} taken over, {report['unchanged']} were here already."
            )
        if report["rejects_file"]:
            self.stdout.write(
                f"■ What could not be taken is in {report['rejects_file']}. Mend it there, and import that file. It may hold passwords."
            )
        if report["undecided"]:
            self.stdout.write(
                f"▲ {counted(report['undecided'], 'conflict waits', 'conflicts wait')} for a decision: in the admin under Imports, or "
                "here with --prefer stored, file or homeserver. Nothing was changed for them."
            )


def _unused_name() -> Path:
    """A file that is not there: rejects of an earlier run may still be wanted."""
    number, path = 1, Path("mapping-rejects.json")
    while path.exists():
        number += 1
        path = Path(f"mapping-rejects-{number}.json")
    return path
