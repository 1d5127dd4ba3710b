"""Error texts in words: known ones by a dictionary (shipped, and the operators' own), unknown ones grouped by what they have in common."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path

from django.utils import timezone

from ops.logbook.rows import STATUS_LOGGER
from ops.models import ErrorSignature, LogLine

_FILE = Path(__file__).with_name("signatures.toml")
LONGEST_PATTERN = 300
# So much of a line is looked at.
_LOOKED_AT = 6000
_READ = 5000


@dataclass(frozen=True, slots=True)
class Signature:
    """One known error. ``own``: an operator added it. ``lines`` are examples that it must recognise."""

    id: str
    pattern: str
    meaning: str
    remedy: str = ""
    check: str = ""
    lines: tuple[str, ...] = ()
    own: bool = False
    compiled: re.Pattern[str] | None = field(default=None, compare=False, repr=False)

    def matches(self, text: str) -> bool:
        """Whether the text is this error."""
        return self.compiled is not None and self.compiled.search(text) is not None


@dataclass(slots=True)
class Group:
    """Errors that are the same but for names and numbers. ``sample`` is the newest line's text, ``line_id`` its row."""

    fingerprint: str
    sample: str
    line_id: int
    count: int
    first_at: datetime
    last_at: datetime
    loggers: set[str] = field(default_factory=set)
    signature: Signature | None = None


@lru_cache(maxsize=1)
def shipped() -> tuple[Signature, ...]:
    """The dictionary that comes with Switchboard, in the order in which it is asked."""
    return tuple(
        Signature(
            id=row["id"],
            pattern=row["pattern"],
            meaning=row["meaning"],
            remedy=row["remedy"],
            check=row["check"],
            lines=tuple(row["lines"]),
            compiled=compile_pattern(row["pattern"]),
        )
        for row in tomllib.loads(_FILE.read_text("utf-8"))["signatures"]
    )


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Raises ``ValueError`` with a sentence for one that cannot be used."""
    if not pattern.strip():
        raise ValueError("The pattern is empty.")
    if len(pattern) > LONGEST_PATTERN * 2:
        raise ValueError(f"The pattern is longer than {LONGEST_PATTERN} characters.")
    try:
        found = re.compile(pattern, re.IGNORECASE)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"The pattern is no regular expression: {error}.") from None
    if found.search(""):
        raise ValueError("The pattern fits every line, also an empty one.")
    # A repetition of a repetition can take hours on one line.
    if re.search(r"\([^()]*[+*][^()]*\)[+*{]", pattern):
        raise ValueError("The pattern repeats something that repeats itself; write it more simply.")
    return found


def own_signatures() -> list[Signature]:
    """Those that operators added; one that cannot be compiled (any more) fits nothing."""
    found = []
    for row in ErrorSignature.objects.all():
        try:
            compiled = compile_pattern(row.pattern)
        except ValueError:
            compiled = None
        found.append(
            Signature(f"own-{row.pk}", row.pattern, row.meaning, row.remedy, row.check_id, own=True, compiled=compiled)
        )
    return found


class Dictionary:
    """All signatures, read once for a page or a sweep: the operators' own come first."""

    def __init__(self) -> None:
        self.signatures: tuple[Signature, ...] = (*own_signatures(), *shipped())
        self._known: dict[str, Signature | None] = {}

    def recognise(self, text: str) -> Signature | None:
        """The first signature that fits, None for an unknown error."""
        text = text[:_LOOKED_AT]
        if text not in self._known:
            if len(self._known) > 2000:
                self._known.clear()
            self._known[text] = next((one for one in self.signatures if one.matches(text)), None)
        return self._known[text]

    def of_line(self, line: LogLine) -> Signature | None:
        """For a warning or an error; lower levels need no explanation."""
        return self.recognise(text_of(line)) if line.level in ("warning", "error") else None


def text_of(line: LogLine) -> str:
    """What a signature is matched against: the event, what came with it, and the end of the traceback."""
    extra = line.extra or {}
    said = " ".join(
        str(extra[name])
        for name in ("whole", "error", "sentence", "reason", "note")
        if isinstance(extra.get(name), str)
    )
    return f"{line.event} {said} {line.trace[-2000:]}".strip()


_VARIABLE = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.I), "<id>"),
    (re.compile(r"[@!#$][^\s:'\"]+:[\w.-]+(:\d+)?"), "<matrix>"),
    (re.compile(r"https?://[^\s'\"]+"), "<url>"),
    (re.compile(r"'[^']{1,200}'|\"[^\"]{1,200}\"|`[^`]{1,200}`"), "<text>"),
    (re.compile(r"\b[0-9a-f]{12,}\b", re.I), "<id>"),
    (re.compile(r"0x[0-9a-f]+", re.I), "<id>"),
    (re.compile(r"/[\w.\-/]{3,}"), "<path>"),
    (re.compile(r"\d+"), "<n>"),
)


def normalised(text: str) -> str:
    """The text without what differs from case to case: ids, addresses, quoted words, numbers."""
    for pattern, word in _VARIABLE:
        text = pattern.sub(word, text)
    return " ".join(text.split())[:400]


def fingerprint(line: LogLine) -> str:
    """The same for errors that are the same but for names and numbers: from logger, event, and the traceback's last line."""
    last = line.trace.strip().splitlines()[-1] if line.trace.strip() else str((line.extra or {}).get("error", ""))
    return hashlib.sha256(f"{line.logger}|{normalised(line.event)}|{normalised(last)}".encode()).hexdigest()[:16]


def groups_since(since: timedelta, *, dictionary: Dictionary | None = None, most: int = _READ) -> list[Group]:
    """Errors of the last while in groups, unknown ones first, then by how often; reads at most ``most`` lines."""
    dictionary = dictionary or Dictionary()
    rows = LogLine.objects.filter(level="error", at__gt=timezone.now() - since).exclude(logger=STATUS_LOGGER)
    return grouped(rows.order_by("-id")[:most].iterator(chunk_size=500), dictionary)


def grouped(lines: Iterable[LogLine], dictionary: Dictionary) -> list[Group]:
    """``lines`` newest first."""
    found: dict[str, Group] = {}
    for line in lines:
        key = fingerprint(line)
        group = found.get(key)
        if group is None:
            sample = sample_of(line)
            group = found[key] = Group(key, sample, line.pk, 0, line.at, line.at)
            group.signature = dictionary.recognise(text_of(line))
        group.count += 1
        group.first_at = min(group.first_at, line.at)
        if len(group.loggers) < 5:
            group.loggers.add(line.logger)
    return sorted(found.values(), key=lambda one: (one.signature is not None, -one.count, one.fingerprint))


def sample_of(line: LogLine) -> str:
    """One line that says what happened: the event and the end of the traceback or the error that came with it."""
    last = line.trace.strip().splitlines()[-1] if line.trace.strip() else str((line.extra or {}).get("error", ""))
    return " ".join(f"{line.event}: {last}".split() if last else line.event.split())[:500]


def pattern_for(text: str) -> str:
    """A pattern that recognises the text and others like it: what differs from case to case may be anything."""
    marked = normalised(text)[:160]
    return re.sub(r"<(?:id|matrix|url|text|path|n)>", r"\\S+", re.escape(marked).replace(r"\ ", " "))
