"""Rows written to a file before they are removed, and read back from it.

One JSON object a line. ``{"batch": 1, "model", "pk", "fields"}`` is a row, as Django's serialisers write it; ``{"batch": 1, "unset":
{"model", "pk", "field", "value"}}`` is a reference that another row lost with it. Batches are read back last first: what a row of one
batch refers to was there when it was removed.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import serializers
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DEFAULT_DB_ALIAS, models, transaction
from django.db.models.deletion import Collector

# Files that belong to removed rows, below the folder of the exports.
FILES = "files"


class Writer:
    """Removes rows batch by batch: exported, on the disk, and only then gone."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.path = path
        self.counts: dict[str, int] = {}
        self._file = os.fdopen(descriptor, "a", encoding="utf-8")
        self._batch = 0

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def remove(self, rows: Sequence[models.Model]) -> int:
        """Export these rows and all that goes with them, then delete them; returns how many rows went."""
        self._batch += 1
        with transaction.atomic():
            collector = Collector(using=DEFAULT_DB_ALIAS)
            collector.collect(rows)
            found: dict[tuple[str, Any], models.Model] = {}
            for instances in collector.data.values():
                found |= {(one._meta.label, one.pk): one for one in instances}
            fast_deletes: Sequence[Any] = collector.fast_deletes
            for rest in fast_deletes:
                found |= {(one._meta.label, one.pk): one for one in rest}
            for data in serializers.serialize("python", found.values()):
                self._write(data)
                self.counts[data["model"]] = self.counts.get(data["model"], 0) + 1
            updates: dict[Any, Any] = collector.field_updates
            for (field, _), groups in updates.items():
                for one in (instance for group in groups for instance in group):
                    if (one._meta.label, one.pk) not in found:
                        place = {"model": one._meta.label_lower, "pk": one.pk, "field": field.attname}
                        self._write({"unset": {**place, "value": getattr(one, field.attname)}})
            self._file.flush()
            os.fsync(self._file.fileno())
            collector.delete()
        return len(found)

    def _write(self, data: dict[str, Any]) -> None:
        self._file.write(json.dumps({"batch": self._batch, **data}, cls=DjangoJSONEncoder, ensure_ascii=False) + "\n")


def read_back(path: Path) -> int:
    """Bring the rows of a file back, in the caller's transaction; returns how many. Raises ``IntegrityError`` when one is there already, or
    what it belongs to is not."""
    count = 0
    for rows, unset in _batches(path):
        for one in serializers.deserialize("python", rows):
            one.save(force_insert=True)
            count += 1
        for place in unset:
            model = apps.get_model(place["model"])
            model._default_manager.filter(pk=place["pk"], **{f"{place['field']}__isnull": True}).update(
                **{place["field"]: place["value"]}
            )
    return count


def _batches(path: Path) -> Iterator[tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
    """(rows, lost references) of each batch, the last first; one batch at a time in memory."""
    starts: list[int] = []
    with path.open("rb") as file:
        number, at = None, 0
        for line in file:
            batch = _batch_of(line)
            if batch is not None and batch != number:
                starts.append(at)
                number = batch
            at += len(line)
        for start, end in reversed(list(zip(starts, [*starts[1:], at], strict=True))):
            file.seek(start)
            lines = [json.loads(line) for line in file.read(end - start).splitlines()]
            yield (
                [{name: line[name] for name in ("model", "pk", "fields")} for line in lines if "model" in line],
                [line["unset"] for line in lines if "unset" in line],
            )


def _batch_of(line: bytes) -> int | None:
    """The number at the beginning of a line; None for a line that a crash cut short."""
    if not line.endswith(b"\n"):
        return None
    return int(line[len(b'{"batch": ') :].split(b",", 1)[0])


def keep_files(files: Iterable[Path], folder: Path) -> int:
    """Keep files of the data directory beside an export, at their own places below it: linked, or copied where that cannot be. Returns how
    many were there."""
    root = Path(settings.DATA_DIR)
    kept = 0
    for path in files:
        place = folder / FILES / path.relative_to(root)
        if place.exists() or not path.is_file():
            continue
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            os.link(path, place)
        except OSError:
            shutil.copy2(path, place)
        kept += 1
    return kept


def bring_files_back(folder: Path) -> int:
    """Put kept files back where they lay; those that are there stay as they are. Returns how many came back."""
    root, kept = Path(settings.DATA_DIR), folder / FILES
    back = 0
    for path in kept.rglob("*") if kept.is_dir() else ():
        place = root / path.relative_to(kept)
        if not path.is_file() or place.exists():
            continue
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.copy2(path, place)
        back += 1
    return back
