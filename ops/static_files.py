"""Static files: a collected copy in the data directory where there is one of this release, else those of the installation itself.

A copy is wanted where a proxy serves ``/static/`` by itself, or where the installation's own files may be touched while it runs. It is
worth nothing once another release is installed: ``collected.json`` says which it is of, and a process of another release passes it over.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.staticfiles import finders
from django.http import HttpRequest, HttpResponseBase
from whitenoise.middleware import WhiteNoiseMiddleware

STAMP = "collected.json"


def own_files() -> dict[str, Path]:
    """The installation's static files by their name below ``STATIC_URL``."""
    found: dict[str, Path] = {}
    for finder in finders.get_finders():
        for name, storage in finder.list(None):
            prefix = (getattr(storage, "prefix", None) or "").strip("/")
            found.setdefault(f"{prefix}/{name}" if prefix else name, Path(storage.path(name)))
    return found


def release_of(files: dict[str, Path]) -> str:
    """A fingerprint of which files there are, and how long."""
    digest = hashlib.sha256(settings.VERSION.encode())
    for name, path in sorted(files.items()):
        try:
            digest.update(f"\n{name} {path.stat().st_size}".encode())
        except OSError:
            continue
    return digest.hexdigest()


def stamp() -> dict[str, Any]:
    """What the collected copy says of itself; empty when there is none."""
    try:
        found = json.loads((Path(settings.STATIC_ROOT) / STAMP).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def differing(files: dict[str, Path] | None = None) -> Iterator[tuple[str, str]]:
    """(name, what is wrong) of each file whose collected copy is not the installation's own."""
    root = Path(settings.STATIC_ROOT)
    for name, path in sorted((files if files is not None else own_files()).items()):
        copy = root / name
        try:
            content = path.read_bytes()
        except OSError as error:
            yield name, f"cannot be read in the installation: {error.strerror}"
            continue
        try:
            if copy.stat().st_size != len(content) or copy.read_bytes() != content:
                yield name, f"{copy.stat().st_size:,} bytes instead of {len(content):,}"
        except FileNotFoundError:
            yield name, "missing"
        except OSError as error:
            yield name, f"cannot be read: {error.strerror}"


def collect() -> int:
    """Make the collected copy that of this installation, each file replaced at once and whole; returns how many were written."""
    root = Path(settings.STATIC_ROOT)
    files = own_files()
    written = 0
    for name, _ in list(differing(files)):
        copy = root / name
        if copy.is_dir() and not copy.is_symlink():
            shutil.rmtree(copy)
        copy.parent.mkdir(parents=True, exist_ok=True)
        fresh = copy.with_name(f".{copy.name}.{os.getpid()}")
        shutil.copyfile(files[name], fresh)
        fresh.replace(copy)
        written += 1
    text = json.dumps({"release": release_of(files), "files": len(files)})
    fresh = root / f".{STAMP}.{os.getpid()}"
    fresh.write_text(text)
    fresh.replace(root / STAMP)
    return written


def collected_forget() -> None:
    """Remove the collected copy; the installation's own files are served again."""
    root = Path(settings.STATIC_ROOT)
    (root / STAMP).unlink(missing_ok=True)
    for path in root.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


class StaticMiddleware(WhiteNoiseMiddleware):
    """WhiteNoise, with the collected copy of this release in front. Asks the file system twice for each static file."""

    def __init__(self, get_response: Any = None, settings: Any = settings) -> None:
        super().__init__(get_response, settings)
        self._root = os.path.realpath(settings.STATIC_ROOT)
        self._release = ""
        self._stamp_seen: tuple[int, bool] = (0, False)
        self._served: dict[str, tuple[tuple[int, int], Any]] = {}

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path_info.startswith(self.static_prefix) and self._is_of_this_release():
            found = self._collected(request.path_info)
            if found is not None:
                served: HttpResponseBase = self.serve(found, request)
                return served
        if request.path_info == f"{self.static_prefix}{STAMP}":
            passed: HttpResponseBase = self.get_response(request)
            return passed
        response: HttpResponseBase = super().__call__(request)
        return response

    def _is_of_this_release(self) -> bool:
        try:
            changed = os.stat(os.path.join(self._root, STAMP)).st_mtime_ns
        except OSError:
            return False
        if self._stamp_seen[0] != changed:
            self._release = self._release or release_of(own_files())
            self._stamp_seen = (changed, stamp().get("release") == self._release)
        return self._stamp_seen[1]

    def _collected(self, url: str) -> Any:
        name = url[len(self.static_prefix) :]
        path = os.path.realpath(os.path.join(self._root, name))
        if not path.startswith(self._root + os.sep) or name.startswith(".") or name == STAMP:
            return None
        try:
            facts = os.stat(path)
        except OSError:
            return None
        if not os.path.isfile(path):
            return None
        key = (facts.st_mtime_ns, facts.st_size)
        known = self._served.get(url)
        if known is None or known[0] != key:
            known = (key, self.get_static_file(path, url, stat_cache={path: facts}))
            if len(self._served) < 5000:
                self._served[url] = known
        return known[1]
