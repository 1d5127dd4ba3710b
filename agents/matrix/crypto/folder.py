"""Where the keys lie: ``DATA_DIR/crypto/<server name>/<localpart>.db``, one file for each account, readable by us only.

Whoever backs up the data directory backs these up. A file that is put back from an old backup while its device went on is worse
than none (a ratchet is turned a second time), so it belongs to the same moment as the database.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, unquote

from django.conf import settings

NAME = "crypto"
# Below DATA_DIR: where files are put whose key is lost, in the same order (``agents.losses``).
ASIDE = "lost"
_LONGEST = 150


def root() -> Path:
    """The folder of all accounts' keys."""
    return Path(settings.DATA_DIR) / NAME


def path_of(user_id: str) -> Path:
    """The account's file; it need not exist."""
    localpart, _, server = user_id.removeprefix("@").partition(":")
    return root() / _safe(server) / f"{_safe(localpart)}.db"


def files() -> list[Path]:
    """The files of all accounts, in a stable order."""
    return sorted(root().glob("*/*.db")) if root().is_dir() else []


def accounts() -> list[str]:
    """The user ids of those files, and of files that were put aside since their key is lost (not of names so long that a file cannot bear
    them)."""
    aside = sorted((Path(settings.DATA_DIR) / ASIDE / NAME).glob("*/*.db"))
    names = dict.fromkeys((path.parent.name, path.stem) for path in (*files(), *aside) if "~" not in path.stem)
    found = [(unquote(stem), unquote(parent)) for parent, stem in names]
    return [f"@{localpart}:{server}" for localpart, server in found]


def _safe(name: str) -> str:
    """A name of a file for any part of a Matrix id, two never the same."""
    quoted = quote(name, safe="").replace("~", "%7E")
    if quoted.startswith("."):
        quoted = "%2E" + quoted[1:]
    if len(quoted) <= _LONGEST:
        return quoted or "%"
    # "~" stands in no other name.
    return f"{quoted[:100]}~{hashlib.sha256(name.encode()).hexdigest()[:24]}"


class Busy(Exception):
    """Another process holds the account's keys for longer than anybody should."""


@contextmanager
def held(path: Path, *, patience: float = 30.0) -> Iterator[None]:
    """The only user of the file, in all processes of this machine (and over shared folders that know locks).

    Not reentrant; threads of one process exclude each other as well. Raises ``Busy`` after ``patience`` seconds.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline, pause = time.monotonic() + patience, 0.005
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Busy(f"{path.name} is in use by another process.") from None
                time.sleep(pause)
                pause = min(pause * 1.5, 0.1)
        yield
    finally:
        # Closing it lets go of the lock.
        os.close(handle)
