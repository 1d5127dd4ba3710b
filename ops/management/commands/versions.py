"""What objects were: lists their versions, shows how one differs from now, and brings it back."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.table import Table
from rich.text import Text

from ops.history.registry import CannotBringBack, versioned, versioned_kinds
from ops.models import ObjectVersion
from ops.services.versions import Difference, bring_back, deleted_objects, difference, versions_of, with_changes
from ops.terminal import console_of

ACTOR = "command"


class Command(BaseCommand):
    """Exit codes: 0 done, 2 it cannot be brought back, 3 usage."""

    help = (
        "What objects were. Without arguments: the kinds. With a kind: what of it was deleted. With a kind and an id: its versions. "
        "--show N: what bringing one back would change; --bring-back N: do it."
    )
    # Settings only: those of the code need every page and a second; `check`, `migrate` and every start have them.
    requires_system_checks: list[str] = ["switchboard"]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("kind", nargs="?", default="", help="For example agents.agent or ops.service.")
        parser.add_argument("object", nargs="?", default="", metavar="ID", help="The object's number or key.")
        parser.add_argument("--show", type=int, metavar="VERSION", help="What would change.")
        parser.add_argument("--bring-back", type=int, metavar="VERSION", help="Make the object that again.")
        parser.add_argument("--limit", type=int, default=20, help="So many, the newest first.")
        parser.add_argument("--json", action="store_true", dest="as_json", help="As JSON on standard output.")

    def handle(self, *args: Any, **options: Any) -> None:
        self.as_json = options["as_json"]
        self.console = console_of(self.stdout, plain_width=140)
        if options["bring_back"] is not None:
            self._bring_back(_version(options["bring_back"]))
        elif options["show"] is not None:
            self._show(_version(options["show"]))
        elif not options["kind"]:
            self._kinds()
        elif versioned(options["kind"]) is None:
            names = ", ".join(kind.name for kind in versioned_kinds())
            raise CommandError(
                f"Nothing keeps versions under the name {options['kind']!r}; these do: {names}.", returncode=3
            )
        elif options["object"]:
            self._versions(options["kind"], options["object"], options["limit"])
        else:
            self._deleted(options["kind"], options["limit"])

    def _bring_back(self, version: ObjectVersion) -> None:
        try:
            done = bring_back(version=version, actor=ACTOR)
        except CannotBringBack as error:
            raise CommandError(error.sentence, returncode=2) from error
        if self.as_json:
            self.stdout.write(json.dumps({"sentence": done.sentence, "object_id": done.object_id}))
        else:
            self.stdout.write(f"● {done.sentence}")

    def _show(self, version: ObjectVersion) -> None:
        found = difference(version)
        if self.as_json:
            self.stdout.write(json.dumps({**_plain(version), "difference": [one.to_dict() for one in found]}, indent=2))
            return
        self.console.print(
            Text(f"{version.label}, {version.at:%Y-%m-%d %H:%M:%S} UTC, {version.actor}: {version.action}")
        )
        if not found:
            self.console.print(Text("It is so now."))
        for one in found:
            note = " (its server says so: stays)" if one.observed else ""
            self.console.print(Text(f"  {one.label}: {_short(one.before)} → {_short(one.after)}{note}"))

    def _versions(self, kind: str, key: str, limit: int) -> None:
        rows = with_changes(list(versions_of(kind, key)[:limit]))
        if self.as_json:
            documents = [{**_plain(row), "changed": [one.to_dict() for one in found]} for row, found in rows]
            self.stdout.write(json.dumps(documents, indent=2))
            return
        table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
        for title in ("Version", "When (UTC)", "Who", "What", "Changed"):
            table.add_column(title, no_wrap=title in ("Version", "When (UTC)"))
        for row, found in rows:
            what = f"{row.action} {row.message}".strip()
            table.add_row(
                str(row.pk), f"{row.at:%Y-%m-%d %H:%M:%S}", Text(row.actor), Text(what), Text(_changes(found))
            )
        self.console.print(table if rows else Text("No version of it is kept."))

    def _deleted(self, kind: str, limit: int) -> None:
        rows = list(deleted_objects(kind)[:limit])
        if self.as_json:
            self.stdout.write(json.dumps([_plain(row) for row in rows], indent=2))
            return
        for row in rows:
            self.console.print(Text(f"{row.pk}  {row.at:%Y-%m-%d %H:%M:%S}  {row.label}  ({row.actor})"))
        if not rows:
            self.console.print(Text("Nothing of it was deleted since versions are kept."))

    def _kinds(self) -> None:
        if self.as_json:
            self.stdout.write(json.dumps([{"kind": kind.name, "label": kind.label} for kind in versioned_kinds()]))
            return
        for kind in versioned_kinds():
            self.console.print(Text(f"{kind.name:<20} {kind.label}"))


def _version(number: int) -> ObjectVersion:
    row = ObjectVersion.objects.filter(pk=number).first()
    if row is None:
        raise CommandError(f"There is no version {number}.", returncode=3)
    return row


def _plain(row: ObjectVersion) -> dict[str, Any]:
    return {
        "version": row.pk,
        "kind": row.model,
        "object": row.object_id,
        "label": row.label,
        "at": row.at.isoformat(),
        "actor": row.actor,
        "action": row.action,
        "message": row.message,
        "deleted": row.deleted,
    }


def _changes(found: list[Difference]) -> str:
    return "; ".join(f"{one.label}: {_short(one.before)} → {_short(one.after)}" for one in found)


def _short(value: Any) -> str:
    text = "nothing" if value in (None, "", [], {}) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
