"""``backup key``: the keys that open backups."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError

from ops.backup import report
from ops.management.talking import TalkingCommand, read_secret
from ops.models.backup import BackupKey
from ops.services import backup_keys

ACTOR = "command"


class KeyCommands(TalkingCommand):
    """List, make, add, confirm and retire keys."""

    def key_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("action", nargs="?", default="list", choices=("list", "new", "add", "confirm", "retire"))
        parser.add_argument("key", nargs="?", default="", help="Label (new), age1… (add), label or fingerprint.")
        parser.add_argument("--label", default="", help="For add.")
        parser.add_argument(
            "--secret-file", default="", help="For confirm: read the secret key from here (- standard in)."
        )
        parser.add_argument(
            "--unconfirmed",
            action="store_true",
            help="For new: do not ask for it at once; it counts only when confirmed.",
        )

    def do_key(self, options: dict[str, Any]) -> None:
        action, word = options["action"], options["key"]
        if action == "list":
            rows = list(BackupKey.objects.all())
            if options["as_json"]:
                self.json_out([report.key_dict(row) for row in rows])
            else:
                report.print_keys(self.console, rows)
                self.warn()
            return
        if action == "new":
            self._key_new(word or options["label"] or "recovery key", options)
            return
        if action == "add":
            key = backup_keys.key_add(label=options["label"] or "added key", recipient=word, actor=ACTOR)
            self.console.print(
                f"{key.label} ({key.fingerprint}) is known. It counts when it is confirmed: backup key confirm {key.fingerprint}"
            )
            return
        key = self._find_key(word)
        if action == "confirm":
            secret = read_secret(options["secret_file"]) if options["secret_file"] else self.ask("Secret key: ")
            backup_keys.key_confirm(key=key, secret=secret, actor=ACTOR)
            self.console.print(f"{key.label} opens backups from now on ({key.fingerprint}).")
            return
        backup_keys.key_retire(key=key, actor=ACTOR)
        self.console.print(f"{key.label} is retired. {backup_keys.kept_after_retiring(key)}")
        self.warn()

    def _key_new(self, label: str, options: dict[str, Any]) -> None:
        key, secret = backup_keys.key_new(label=label, actor=ACTOR)
        self.stderr.write(
            "This key opens every backup that is made from now on. It is shown once and kept nowhere here: write it down, away from this machine."
        )
        if options["as_json"]:
            self.json_out({**report.key_dict(key), "secret": secret})
        else:
            # Standard out carries the key alone, for whoever pipes it into a safe.
            self.stdout.write(secret)
        if options["unconfirmed"] or not sys.stdin.isatty():
            self.stderr.write(f"It counts when it was typed back: manage.py backup key confirm {key.fingerprint}")
            return
        for _ in range(3):
            try:
                backup_keys.key_confirm(key=key, secret=self.ask("Type it back: "), actor=ACTOR)
            except ValidationError as error:
                self.stderr.write(" ".join(error.messages))
            else:
                self.stderr.write(f"It opened a test file: {key.label} ({key.fingerprint}) counts from now on.")
                return
        raise CommandError(
            f"It is not confirmed. Try again: manage.py backup key confirm {key.fingerprint}", returncode=2
        )

    def _find_key(self, word: str) -> BackupKey:
        rows = [
            key for key in BackupKey.objects.all() if word and (key.label == word or key.fingerprint.startswith(word))
        ]
        if len(rows) != 1:
            raise ValueError(f"{len(rows)} keys are called {word!r}: give the fingerprint (backup key list).")
        return rows[0]

    def warn(self) -> None:
        if sentence := backup_keys.warning():
            self.stderr.write(sentence)
