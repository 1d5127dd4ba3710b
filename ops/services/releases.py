"""Which releases ran here, and the way back to an earlier one. The backup before each upgrade: ``ops.services.upgrades``."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.migrations.loader import MigrationLoader
from django.utils import timezone

from ops.git_revision import git_sha
from ops.locks import LockHeld, named_lock
from ops.logs import get_logger
from ops.models import Backup, Release
from ops.services.audit import record

log = get_logger(__name__)

_LOCK = "release.note"


@dataclass(frozen=True, slots=True)
class Facts:
    """What distinguishes one release from another: the columns of ``Release``."""

    version: str
    git_sha: str
    migrations: dict[str, str]
    config_hash: str
    config: dict[str, str]
    python: str
    packages_digest: str

    @property
    def key(self) -> tuple[Any, ...]:
        return (
            self.version,
            self.git_sha,
            sorted(self.migrations.items()),
            self.config_hash,
            self.python,
            self.packages_digest,
        )


def newest_migrations() -> dict[str, str]:
    """The newest migration that the database has had, by app."""
    loader = MigrationLoader(connections[DEFAULT_DB_ALIAS])
    newest: dict[str, str] = {}
    for app, name in sorted(loader.applied_migrations):
        if app in loader.migrated_apps:
            newest[app] = name
    return newest


def facts() -> Facts:
    """What runs now. Of settings only digests, keyed with SECRET_KEY."""
    import platform

    from ops.processes.facts import packages_digest, settings_seen

    seen = settings_seen()
    digest = hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()
    return Facts(
        version=str(settings.VERSION)[:50],
        git_sha=git_sha(),
        migrations=newest_migrations(),
        config_hash=digest,
        config=seen,
        python=platform.python_version()[:50],
        packages_digest=packages_digest(),
    )


def _facts_of(row: Release) -> Facts:
    return Facts(
        row.version,
        row.git_sha,
        dict(row.migrations),
        row.config_hash,
        dict(row.config),
        row.python,
        row.packages_digest,
    )


def current() -> Release | None:
    """The release that started last."""
    return Release.objects.order_by("-id").first()


def previous(row: Release | None = None) -> Release | None:
    """The last one before it (the current one when none is given) that had another version, commit or schema."""
    row = row or current()
    if row is None:
        return None
    mine = (row.version, row.git_sha, row.migrations)
    for one in Release.objects.filter(pk__lt=row.pk).order_by("-id")[:200]:
        if (one.version, one.git_sha, one.migrations) != mine:
            return one
    return None


def note_release(*, backup: Backup | None = None) -> Release | None:
    """Called at every start: writes a row when this is another release than the last, else only that it was seen. Never twice at once.

    None while another process does the same.
    """
    mine = facts()
    try:
        with named_lock(_LOCK, ttl=30, wait=10):
            row = current()
            if row is not None and _facts_of(row).key == mine.key:
                Release.objects.filter(pk=row.pk).update(last_seen_at=timezone.now())
                return row
            return _write(mine, row, backup)
    except LockHeld:
        return None


def _write(mine: Facts, before: Release | None, backup: Backup | None) -> Release:
    with transaction.atomic():
        row = Release.objects.create(
            version=mine.version,
            git_sha=mine.git_sha,
            migrations=mine.migrations,
            config_hash=mine.config_hash,
            config=mine.config,
            python=mine.python,
            packages_digest=mine.packages_digest,
            last_seen_at=timezone.now(),
            backup=backup,
        )
        record(
            actor="system",
            action="release.started",
            target=row,
            message=" ".join(Difference.between(before, row).sentences) if before is not None else "The first start.",
            after={"version": row.version, "git_sha": row.git_sha},
        )
    return row


@dataclass(slots=True)
class Difference:
    """What is different in ``after``, against ``before``. ``reverse`` are migrations (app, name) that the way back to ``before`` reverses."""

    sentences: list[str] = field(default_factory=list)
    settings: list[str] = field(default_factory=list)
    reverse: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def between(cls, before: Release, after: Release) -> Difference:
        found = cls()
        if before.version != after.version:
            found.sentences.append(f"Version {before.version} became {after.version}.")
        if before.git_sha != after.git_sha:
            found.sentences.append(
                f"Commit {before.git_sha[:10] or 'unknown'} became {after.git_sha[:10] or 'unknown'}."
            )
        changed = sorted(
            app
            for app in {*before.migrations, *after.migrations}
            if before.migrations.get(app) != after.migrations.get(app)
        )
        found.sentences += [
            f"Tables of {app}: {before.migrations.get(app, 'none')} became {after.migrations.get(app, 'none')}."
            for app in changed
        ]
        if before.python != after.python:
            found.sentences.append(f"Python {before.python} became {after.python}.")
        if before.packages_digest != after.packages_digest:
            found.sentences.append("Installed packages are others.")
        found.settings = sorted(
            name for name in {*before.config, *after.config} if before.config.get(name) != after.config.get(name)
        )
        if found.settings:
            shown = ", ".join(found.settings[:8])
            found.sentences.append(f"Settings that changed: {shown}{' …' if len(found.settings) > 8 else ''}.")
        found.reverse = to_reverse(dict(before.migrations))
        return found

    def to_dict(self) -> dict[str, Any]:
        """JSON shape: ``{sentences, settings, reverse: ["app.name"]}``."""
        return {
            "sentences": self.sentences,
            "settings": self.settings,
            "reverse": [f"{app}.{name}" for app, name in self.reverse],
        }


def to_reverse(target: dict[str, str]) -> list[tuple[str, str]]:
    """Applied migrations that are not part of a schema whose newest migrations are ``target``, the last applied first."""
    loader = MigrationLoader(connections[DEFAULT_DB_ALIAS])
    keep: set[tuple[str, str]] = set()
    for app, name in target.items():
        if (app, name) in loader.graph.nodes:
            keep.update(loader.graph.forwards_plan((app, name)))
    nodes = [
        node for node in loader.applied_migrations if node in loader.graph.nodes and node[0] in loader.migrated_apps
    ]
    plan: list[tuple[str, str]] = []
    for node in nodes:
        for one in loader.graph.forwards_plan(node):
            if one in loader.applied_migrations and one not in keep and one not in plan:
                plan.append(one)
    return plan[::-1]


def irreversible(nodes: list[tuple[str, str]]) -> list[str]:
    """Those of the migrations that cannot be reversed, as ``app.name``."""
    loader = MigrationLoader(connections[DEFAULT_DB_ALIAS])
    found = []
    for app, name in nodes:
        migration = loader.graph.nodes[(app, name)]
        if migration is None or not all(operation.reversible for operation in migration.operations):
            found.append(f"{app}.{name}")
    return found
