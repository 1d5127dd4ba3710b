"""Files that come with a message, said in the ways that model servers take them.

Texts are written into the message; pictures and documents go beside it, base64, where the server takes them. A file that cannot be passed
on is named, so that agent and person both know that its content was not seen.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agents.backends.base import AttachedFile, Traits

IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
DOCUMENTS = frozenset({"application/pdf"})
TEXTS = frozenset({"application/json", "application/xml", "application/x-yaml"})
TEXT_CHARACTERS = 200_000
# What providers take: Anthropic 5 MB for a picture after base64; documents and all together 32 MB.
IMAGE_BYTES = 3_750_000
DOCUMENT_BYTES = 20_000_000


def takes(traits: Traits, options: Mapping[str, Any], media_type: str, size: int) -> bool:
    """Whether a server is given the content. Options ``images`` and ``files`` of its service overrule what its kind can."""
    if is_text(media_type):
        return True
    if media_type in IMAGES:
        return bool(options.get("images", traits.takes_images)) and size <= IMAGE_BYTES
    if media_type in DOCUMENTS:
        return bool(options.get("files", traits.takes_files)) and size <= DOCUMENT_BYTES
    return False


def is_text(media_type: str) -> bool:
    return media_type.startswith("text/") or media_type in TEXTS


@dataclass(slots=True)
class Given:
    """What a message becomes: its text with texts and remarks in it, and what goes beside it as (file, base64)."""

    text: str
    images: list[tuple[AttachedFile, str]] = field(default_factory=list)
    documents: list[tuple[AttachedFile, str]] = field(default_factory=list)

    @property
    def is_plain(self) -> bool:
        """Whether the text is all there is."""
        return not self.images and not self.documents


def given(text: str, files: Sequence[AttachedFile], traits: Traits, options: Mapping[str, Any]) -> Given:
    """Sort the files of a message. A content that cannot be read any more is said in the text."""
    if not files:
        return Given(text)
    found = Given("")
    pieces = [text] if text.strip() else []
    for file in files:
        if not takes(traits, options, file.media_type, file.size):
            pieces.append(f"[{described(file)} came with this message; its content cannot be passed on to you.]")
            continue
        try:
            content = file.read()
        except OSError:
            pieces.append(f"[{described(file)} came with this message; its content is not there any more.]")
            continue
        if is_text(file.media_type):
            pieces.append(_inlined(file, content))
        else:
            beside = found.images if file.media_type in IMAGES else found.documents
            beside.append((file, base64.b64encode(content).decode()))
            pieces.append(f"[{described(file)}]")
    found.text = "\n\n".join(pieces)
    return found


def described(file: AttachedFile) -> str:
    """A file in words: what it is called, what it is, how large."""
    return f"The file “{file.name}” ({file.media_type}, {file.size:,} bytes)"


def remark(file: AttachedFile) -> str:
    """A file of an earlier message, in words."""
    return f"[file “{file.name}” ({file.media_type})]"


def _inlined(file: AttachedFile, content: bytes) -> str:
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = content.decode(encoding, "replace").strip()
    cut = ""
    if len(text) > TEXT_CHARACTERS:
        text, cut = text[:TEXT_CHARACTERS], f"\n[cut after {TEXT_CHARACTERS:,} of {len(text):,} characters]"
    return f"{described(file)}:\n<file>\n{text}{cut}\n</file>"
