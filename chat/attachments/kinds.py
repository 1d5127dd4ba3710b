"""Which kinds of files are taken, and what a file is: from its content, never from its name.

Markup that a browser would run (HTML, SVG, XML) is text like any other here, and is only ever sent as something to be saved.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import BinaryIO

import filetype

TEXT = "text/plain"
PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")
# Pictures of these kinds are taken too, and kept as one of those above.
CONVERTED = ("image/bmp", "image/tiff", "image/avif")
# More than filetype's longest signature.
HEAD_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of files that is taken. ``suffixes`` are for the page's file dialog."""

    media_type: str
    label: str
    suffixes: tuple[str, ...]


_OFFICE = "application/vnd.openxmlformats-officedocument."
_OPEN = "application/vnd.oasis.opendocument."
KINDS: tuple[Kind, ...] = (
    Kind("image/png", "PNG", (".png",)),
    Kind("image/jpeg", "JPEG", (".jpg", ".jpeg")),
    Kind("image/gif", "GIF", (".gif",)),
    Kind("image/webp", "WebP", (".webp",)),
    Kind("image/bmp", "BMP", (".bmp",)),
    Kind("image/tiff", "TIFF", (".tif", ".tiff")),
    Kind("image/avif", "AVIF", (".avif",)),
    Kind("application/pdf", "PDF", (".pdf",)),
    Kind(
        TEXT, "Text", (".txt", ".md", ".csv", ".json", ".log", ".yaml", ".xml", ".html", ".svg", ".py", ".js", ".css")
    ),
    Kind(f"{_OFFICE}wordprocessingml.document", "Word", (".docx",)),
    Kind(f"{_OFFICE}spreadsheetml.sheet", "Excel", (".xlsx",)),
    Kind(f"{_OFFICE}presentationml.presentation", "PowerPoint", (".pptx",)),
    Kind(f"{_OPEN}text", "OpenDocument text", (".odt",)),
    Kind(f"{_OPEN}spreadsheet", "OpenDocument table", (".ods",)),
    Kind(f"{_OPEN}presentation", "OpenDocument slides", (".odp",)),
    Kind("application/zip", "ZIP", (".zip",)),
    Kind("audio/mpeg", "MP3", (".mp3",)),
    Kind("audio/ogg", "Ogg", (".ogg", ".oga", ".opus")),
    Kind("audio/wav", "WAV", (".wav",)),
    Kind("audio/flac", "FLAC", (".flac",)),
    Kind("audio/mp4", "M4A", (".m4a",)),
    Kind("video/mp4", "MP4", (".mp4",)),
    Kind("video/webm", "WebM", (".webm",)),
    Kind("video/quicktime", "QuickTime", (".mov",)),
)
_TAKEN = frozenset(kind.media_type for kind in KINDS)
# Names that filetype has for the same.
_SAME = {"audio/x-wav": "audio/wav", "audio/x-flac": "audio/flac", "audio/m4a": "audio/mp4", "video/x-m4v": "video/mp4"}


def kind_of(file: BinaryIO) -> str | None:
    """The media type of a file of a kind that is taken; ``None`` for any other. Reads all of it when it may be text."""
    file.seek(0)
    found = filetype.guess(file.read(HEAD_BYTES))
    file.seek(0)
    if found is not None:
        media_type = _SAME.get(found.mime, found.mime)
        return media_type if media_type in _TAKEN else None
    return TEXT if _is_text(file) else None


def _is_text(file: BinaryIO) -> bool:
    """UTF-8 (or UTF-16 with its mark) without the bytes that no text has."""
    head = file.read(2)
    file.seek(0)
    encoding = "utf-16" if head in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8"
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        while chunk := file.read(64 * 1024):
            if "\x00" in decoder.decode(chunk):
                return False
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    finally:
        file.seek(0)
    return True
