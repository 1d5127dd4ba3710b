"""Names of files, as people's computers gave them and as they are kept: one line, no folders, nothing that turns the writing round."""

from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath

LONGEST = 150
_RESERVED = '<>:"|?*'


def clean_name(given: str, *, suffix: str = "") -> str:
    """A name that is safe in headers, archives and on any disk. ``suffix`` replaces its ending when the content became another kind."""
    text = unicodedata.normalize("NFC", given.encode(errors="replace").decode()).replace("\\", "/")
    text = text.rsplit("/", 1)[-1]
    # Control characters, and those that order the text otherwise than it is read (U+202E and its like).
    kept = "".join(
        char for char in text if unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    )
    kept = " ".join("".join("_" if char in _RESERVED else char for char in kept).split()).strip(". ")
    if not kept:
        return f"file{suffix}"
    path = PurePosixPath(kept)
    stem, ending = (path.stem, path.suffix) if len(path.suffix) <= 20 else (kept, "")
    if suffix and ending.lower() not in _same(suffix):
        ending = suffix
    return f"{stem[: LONGEST - len(ending)]}{ending}"


def _same(suffix: str) -> tuple[str, ...]:
    return (".jpg", ".jpeg") if suffix == ".jpg" else (suffix,)
