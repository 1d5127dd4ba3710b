"""Which commit runs here: what the image was built with (``GIT_SHA``), or what the checkout says. Without calling git."""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path

from django.conf import settings

_SHA = re.compile(r"[0-9a-f]{40}")


@functools.lru_cache(maxsize=1)
def git_sha() -> str:
    """The commit's 40 hex digits, "" when nobody knows."""
    given = os.environ.get("GIT_SHA", "").strip().lower()
    if _SHA.fullmatch(given):
        return given
    try:
        return _of(Path(settings.BASE_DIR) / ".git")
    except OSError:
        return ""


def _of(place: Path) -> str:
    # A file in place of the folder names where the folder is (git worktree).
    folder = (
        place.parent / place.read_text(encoding="utf-8").partition("gitdir:")[2].strip() if place.is_file() else place
    )
    head = (folder / "HEAD").read_text(encoding="ascii").strip()
    if _SHA.fullmatch(head):
        return head
    ref = head.partition("ref:")[2].strip()
    common = folder / "commondir"
    shared = folder / common.read_text(encoding="utf-8").strip() if common.is_file() else folder
    for base in (folder, shared):
        loose = base / ref
        if loose.is_file() and _SHA.fullmatch(found := loose.read_text(encoding="ascii").strip()):
            return found
    packed = shared / "packed-refs"
    for line in packed.read_text(encoding="utf-8").splitlines() if packed.is_file() else ():
        sha, _, name = line.partition(" ")
        if name == ref and _SHA.fullmatch(sha):
            return sha
    return ""
