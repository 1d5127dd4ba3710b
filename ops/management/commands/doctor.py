"""Runs checks, says what is wrong and what to do, and does it when asked."""

from __future__ import annotations

import sys
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ops.choices import CheckStatus, RepairClass, RepairRunState
from ops.doctor import catalogue, report
from ops.doctor.render import run_dict
from ops.doctor.repairs import RepairRefused
from ops.locks import LockHeld
from ops.logs import only_errors
from ops.models import Issue
from ops.registry import get_check
from ops.runner import CheckRun, run_checks
from ops.services.repairs import repair_plan, repair_start
from ops.terminal import console_of

CLEAN, WARNINGS, FAILURES, USAGE, FIX_FAILED = 0, 1, 2, 3, 4


class Command(BaseCommand):
    help = (
        "Examine this installation. Exit codes: 0 clean, 1 warnings only (with --strict), 2 failures, 3 usage, "
        "4 a repair was tried and failed."
    )
    # It has to run when something is wrong.
    requires_system_checks = []

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        plain = parser.error

        def error(message: str) -> Any:
            if getattr(self, "_called_from_command_line", False):
                parser.print_usage(sys.stderr)
                parser.exit(USAGE, f"{parser.prog}: {message}\n")
            return plain(message)

        parser.error = error  # type: ignore[method-assign]
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("ids", nargs="*", help="Checks, or known failures by id or number; all when none is given.")
        parser.add_argument("--tag", action="append", default=[], dest="tags", help="Only checks with this tag.")
        parser.add_argument(
            "--target", default="", help="Only what is about this, for example agent:42 or service:letta."
        )
        parser.add_argument("--format", choices=("table", "json", "yaml", "junit"), default="table", dest="form")
        parser.add_argument(
            "--json", action="store_const", const="json", dest="form", help="The same as --format json."
        )
        parser.add_argument("--spotlight", action="store_true", help="Only what is not well.")
        parser.add_argument("--strict", action="store_true", help="Exit code 1 when there are warnings.")
        parser.add_argument(
            "--live", action="store_true", help="Also checks that act on the world, such as test messages."
        )
        parser.add_argument("--fix", action="store_true", help="Run the repairs that are proposed.")
        parser.add_argument("--yes", action="store_true", help="With --fix: also those that ask first, without asking.")
        parser.add_argument("--dry-run", action="store_true", help="With --fix: show the plans and change nothing.")
        parser.add_argument(
            "--explain", metavar="ID", default="", help="Explain a check, with its remedy for this installation."
        )
        parser.add_argument("--watch", nargs="?", type=float, const=10.0, metavar="SECONDS", help="Again and again.")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["explain"]:
            self._explain(options["explain"], options["target"])
            return
        ids = [id for wanted in options["ids"] for id in self._resolve(wanted)]
        if options["watch"]:
            self._watch(ids, options)
            return
        runs = self._run(ids, options)
        repairs: list[dict[str, Any]] = []
        failed = False
        if options["fix"]:
            repairs, failed = self._fix(runs, options)
            if not options["dry_run"] and repairs:
                runs = self._run(ids, options)
        self._print(runs, repairs, options)
        code = FIX_FAILED if failed else self._code(runs, strict=options["strict"])
        if code:
            sys.exit(code)

    def _run(self, ids: list[str], options: dict[str, Any]) -> list[CheckRun]:
        # What the log would say about it is printed below, in words.
        with only_errors("ops.runner", "ops.doctor.issues"):
            return run_checks(ids or None, tags=options["tags"], target=options["target"], live=options["live"])

    def _print(self, runs: list[CheckRun], repairs: list[dict[str, Any]], options: dict[str, Any]) -> None:
        form = options["form"]
        if form == "json":
            self.stdout.write(report.as_json(report.document(runs, repairs)))
        elif form == "yaml":
            self.stdout.write(report.as_yaml(report.document(runs, repairs)))
        elif form == "junit":
            self.stdout.write(report.as_junit(runs))
        else:
            report.print_runs(console_of(self.stdout, plain_width=100), runs, spotlight=options["spotlight"])

    def _watch(self, ids: list[str], options: dict[str, Any]) -> None:
        console = console_of(self.stdout, plain_width=100)
        try:
            while True:
                runs = self._run(ids, options)
                if console.is_terminal:
                    console.clear()
                console.print(f"{time.strftime('%H:%M:%S')}, again in {options['watch']:g} s")
                report.print_runs(console, runs, spotlight=options["spotlight"])
                self.stdout.flush()
                time.sleep(max(1.0, options["watch"]))
        except KeyboardInterrupt:
            return

    def _fix(self, runs: list[CheckRun], options: dict[str, Any]) -> tuple[list[dict[str, Any]], bool]:
        """Run what the bad outcomes propose, one after another. True: one of them was tried and failed."""
        console = console_of(self.stderr, plain_width=100)
        done: list[dict[str, Any]] = []
        failed = False
        asked: set[tuple[str, str]] = set()
        for run in report.worst_first(runs):
            following = report.next_of(run)
            if not following.repair or (following.repair, following.target) in asked:
                continue
            asked.add((following.repair, following.target))
            params = dict(run.fix.params) if run.fix is not None else {}
            try:
                planned = repair_plan(
                    repair_id=following.repair, target=following.target, params=params, actor="command"
                )
                console.print()
                report.print_plan(console, planned)
                if options["dry_run"] or not planned.plan.changes:
                    done.append(planned.to_dict())
                    continue
                if planned.confirm_word:
                    console.print(f"  Not done here: manage.py repair {following.repair} asks for a typed word.")
                    continue
                if planned.repair.repair_class is not RepairClass.AUTOMATIC and not (
                    options["yes"] or self._agreed("Do it?")
                ):
                    continue
                row = repair_start(
                    repair_id=following.repair,
                    target=following.target,
                    params=params,
                    actor="command",
                    trigger="command",
                    issue=Issue.objects.filter(check_id=run.check.id, target=run.target)
                    .exclude(state="resolved")
                    .first(),
                )
            except (RepairRefused, LockHeld) as error:
                console.print(f"  {error}")
                continue
            done.append(run_dict(row))
            failed = failed or row.state in (RepairRunState.FAILED, RepairRunState.UNPROVEN)
            console.print(f"  {row.get_state_display()}. {row.error}".rstrip())
        return done, failed

    def _agreed(self, question: str) -> bool:
        if not sys.stdin.isatty():
            self.stderr.write("  Not done: it asks first. Add --yes to agree beforehand.")
            return False
        self.stderr.write(f"{question} [y/N] ", ending="")
        self.stderr.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def _explain(self, wanted: str, target: str) -> None:
        impossible = report.impossible_sentence(wanted)
        if impossible:
            self.stdout.write(impossible)
            return
        console = console_of(self.stdout, plain_width=100)
        for id in self._resolve(wanted):
            check = get_check(id)
            if check is not None:
                report.print_explanation(console, check, target)

    def _resolve(self, wanted: str) -> list[str]:
        try:
            return catalogue.resolve(wanted)
        except ValueError as error:
            raise CommandError(str(error), returncode=USAGE) from None

    def _code(self, runs: list[CheckRun], *, strict: bool) -> int:
        if any(run.status in (CheckStatus.FAIL, CheckStatus.BLOCKED) for run in runs):
            return FAILURES
        if strict and any(run.status == CheckStatus.WARN for run in runs):
            return WARNINGS
        return CLEAN
