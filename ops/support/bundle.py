"""Makes a support bundle: a zip of parts that apps register, each redacted, the whole of it searched for secrets before it is given
out."""

from __future__ import annotations

import io
import json
import time
import traceback
import uuid
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.utils import timezone

from ops.models import Service
from ops.redaction import HIDDEN, add_secret, forget_secret, hide_known, holds_secret, redact, redact_text

LINES = 200
# A part that would be larger is cut; the bundle has to fit into a mail.
LARGEST_PART = 4 * 1024 * 1024
_MOST_MESSAGES = 50


class BundleUnsafe(Exception):
    """A secret is readable in what was made; nothing is given out. The text names the files."""


@dataclass(frozen=True, slots=True)
class BundleWish:
    """What somebody wants in it. ``messages`` are ids whose traces are added; ``texts``: with what was said in them."""

    messages: tuple[int, ...] = ()
    texts: bool = False
    lines: int = LINES
    note: str = ""


PartMaker = Callable[[BundleWish], Any]


@dataclass(frozen=True, slots=True)
class Part:
    """One or more files. ``make(wish)`` returns text, JSON, or ``{file name: text or JSON}`` when ``many``."""

    name: str
    what: str
    make: PartMaker
    many: bool = False


@dataclass(slots=True)
class Bundle:
    """What was made: ``files`` by name, ``failed`` parts with the reason."""

    files: dict[str, str] = field(default_factory=dict)
    what: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def leaks(self) -> list[str]:
        """Files in which a known secret is readable."""
        return [name for name, text in self.files.items() if holds_secret(text)]

    def to_zip(self) -> bytes:
        """Raises ``BundleUnsafe``."""
        if self.leaks:
            raise BundleUnsafe(
                f"A secret would be readable in {', '.join(self.leaks)}: no bundle was made. Tell the makers of Switchboard, "
                "without the bundle."
            )
        memory = io.BytesIO()
        with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as file:
            for name, text in self.files.items():
                file.writestr(f"switchboard-support/{name}", text.encode("utf-8", "replace"))
        return memory.getvalue()


@dataclass(frozen=True, slots=True)
class SelfTest:
    """What a bundle made in memory was like."""

    files: list[str]
    size: int
    failed: dict[str, str]
    leaks: list[str]
    ms: int


_parts: dict[str, Part] = {}


def register_part(name: str, *, what: str, many: bool = False) -> Callable[[PartMaker], PartMaker]:
    """Decorator: the function makes the file ``name`` (``agents/mappings.json``), or several below the folder ``name``."""

    def register(make: PartMaker) -> PartMaker:
        known = _parts.get(name)
        if known is not None and known.make.__module__ != make.__module__:
            raise ValueError(f"The part {name!r} is already made by {known.make.__module__}.")
        _parts[name] = Part(name, what, make, many)
        return make

    return register


def parts() -> list[Part]:
    """All parts, by name."""
    return [_parts[name] for name in sorted(_parts)]


def make(wish: BundleWish | None = None, *, also: Sequence[Part] = ()) -> Bundle:
    """All parts, and those in ``also``, redacted. One that fails leaves a file that says why; the others are not affected."""
    wish = wish or BundleWish()
    _know_secrets()
    bundle = Bundle()
    for part in (*parts(), *also):
        try:
            made = part.make(wish)
            for name, content in made.items() if part.many else ((part.name, made),):
                path = f"{part.name.rstrip('/')}/{name}" if part.many else part.name
                bundle.files[path] = _text(content)
                bundle.what[path] = part.what
        except Exception as error:
            reason = redact_text(f"{type(error).__name__}: {error}")[:500]
            bundle.failed[part.name] = reason
            path = f"failed/{part.name.strip('/').replace('/', '-')}.txt"
            bundle.files[path] = redact_text(traceback.format_exc()[-8000:])
            bundle.what[path] = "A part that could not be made, and why."
    bundle.files = {"README.txt": redact_text(_readme(bundle, wish)), **bundle.files}
    bundle.what["README.txt"] = "What is in here."
    return bundle


def _text(content: Any) -> str:
    if isinstance(content, bytes):
        content = content.decode("utf-8", "replace")
    if isinstance(content, str):
        return redact_text(content)[:LARGEST_PART]
    plain = json.loads(json.dumps(content, cls=DjangoJSONEncoder, default=str))
    # Names of fields are no values, and are not redacted: a known value must not stand there either.
    return hide_known(json.dumps(redact(plain), indent=1, ensure_ascii=False))[:LARGEST_PART]


def _know_secrets() -> None:
    """Credentials of services become known when they are first opened: here they are, whatever this process has done so far."""
    for service in Service.objects.all():
        try:
            values: Iterable[Any] = dict(service.credentials or {}).values()
        except Exception:  # noqa: S112 - the key is missing: nobody can read them, and nothing can leak
            continue
        for value in values:
            if isinstance(value, str):
                add_secret(str.__str__(value))


def _readme(bundle: Bundle, wish: BundleWish) -> str:
    names = "\n".join(f"  {name:<34} {bundle.what[name]}" for name in sorted(bundle.files))
    failed = "".join(f"\n  {name}: {reason}" for name, reason in bundle.failed.items())
    texts = (
        "What was said in the chosen messages is in it." if wish.texts else "What people and agents said is not in it."
    )
    return (
        f"Support bundle of Switchboard {settings.VERSION}, made {timezone.now():%Y-%m-%d %H:%M} UTC\n\n"
        "Passwords, tokens and keys are hidden. Names and ids of agents, rooms, people and hosts are readable.\n"
        f"{texts}\n"
        + (f"\nNote: {wish.note}\n" if wish.note else "")
        + f"\nFiles\n{names}\n"
        + (f"\nParts that failed{failed}\n" if failed else "")
    )


def parse_messages(given: Iterable[Any]) -> tuple[int, ...]:
    """Ids of messages out of what was typed. Raises ``ValueError`` with a sentence."""
    found: list[int] = []
    for one in given:
        for text in str(one).replace(",", " ").split():
            if not text.isdigit() or not 0 < int(text) < 2**63:
                raise ValueError(f"{text!r} is no message's id; ids are numbers.")
            found.append(int(text))
    if len(found) > _MOST_MESSAGES:
        raise ValueError(f"Choose at most {_MOST_MESSAGES} messages.")
    return tuple(dict.fromkeys(found))


def file_name() -> str:
    """A name that sorts by time and cannot be guessed."""
    return f"switchboard-support-{timezone.now():%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:8]}.zip"


def self_test() -> SelfTest:
    """Make a bundle in memory with a canary among the secrets and in one of its parts, and look whether it can be read anywhere."""
    started = time.monotonic()
    canary = f"canary{uuid.uuid4().hex}"
    probe = Part("canary.json", "Tests the redaction.", lambda wish: {"note": f"a{canary}z", "password": canary})
    add_secret(canary)
    try:
        bundle = make(also=(probe,))
        content = bundle.to_zip() if not bundle.leaks else b""
        leaks = list(bundle.leaks)
        if HIDDEN not in bundle.files.get("canary.json", ""):
            leaks.append("canary.json")
    finally:
        forget_secret(canary)
    names = sorted(name for name in bundle.files if name != "canary.json")
    return SelfTest(names, len(content), bundle.failed, leaks, round((time.monotonic() - started) * 1000))


def read_zip(content: bytes) -> list[tuple[str, int, str]]:
    """(name, size, beginning of the text) of each file, for a preview."""
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        return [
            (info.filename.partition("/")[2], info.file_size, file.read(info).decode("utf-8", "replace")[:20_000])
            for info in file.infolist()
        ]
