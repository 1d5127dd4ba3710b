"""Whoever watches a backup being made, read or tried reads words, not names of the program."""

from __future__ import annotations

import io
import json
import re

from ops.backup import age
from ops.backup.drill_inside import Telling
from ops.backup.probes import probes
from ops.backup.said import STEPS, called, step_called
from ops.backup.verify import verify_backup
from ops.backup.write import write_backup

OF_THE_PROGRAM = re.compile(r"\b[a-z_]+\.[A-Z]\w+")


def test_what_is_said_while_a_backup_is_made_and_read(db, tmp_path, settings):
    settings.DATA_DIR = tmp_path
    said: list[str] = []
    target = io.BytesIO()
    write_backup(
        target=target,
        made_by={"id": "one", "installation": "test", "version": "0"},
        recipients=age.recipients_of([age.machine_identity()]),
        progress=lambda done, total, text: said.append(text),
    )
    assert "Writing content types" in said
    path = tmp_path / "one.sbk"
    path.write_bytes(target.getvalue())
    verify_backup(path, progress=lambda done, total, text: said.append(text))
    assert "Reading content types" in said
    assert [text for text in said if OF_THE_PROGRAM.search(text)] == []


def test_every_step_of_a_drill_has_words():
    out = io.StringIO()
    for name in [*STEPS, *probes()]:
        Telling(out).step(name, lambda: "Done.")
    told = [json.loads(line) for line in out.getvalue().splitlines()]
    progress = [one["progress"][2] for one in told if "progress" in one]
    assert "Reading the file" in progress
    assert not set(progress) & {*STEPS, *probes()}


def test_names_of_things():
    assert (called("chat.Message"), called("keys"), called("of.Another")) == (
        "messages",
        "Keys and settings",
        "of.Another",
    )
    assert step_called("of another version") == "of another version"
