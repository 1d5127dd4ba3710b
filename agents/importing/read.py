"""From files to records. What a file is, is seen from what is in it: names of files are changed, ``.backup`` is appended to them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from agents.importing import relational
from agents.importing.formats import rejects, spaces
from agents.importing.loose_json import Broken, Entry, Places, entries, outer
from agents.importing.records import BROKEN, Raw, Reading, Record
from agents.importing.registry import understand
from ops.findings import Finding
from ops.words import counted

# Larger than a hundred thousand mappings; beyond that somebody has picked a wrong file.
MOST_BYTES = 64 * 1024 * 1024
_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
# Answers of the predecessor's interface keep the map below one of these.
_WRAPPERS = frozenset({"mappings", "agents", "identities", "dm_rooms", "data"})


def read_file(name: str, data: bytes) -> Reading:
    """Everything that can be read of a file; what cannot is a finding with line and column, and a broken record. Never raises."""
    reading = Reading(name[:255], size=len(data), sha256=hashlib.sha256(data).hexdigest())
    if len(data) > MOST_BYTES:
        _say(
            reading,
            "error",
            "import.too_large",
            f"{name} is larger than {MOST_BYTES // 2**20} MB. Is it the right file?",
        )
    elif data.startswith(relational.SQLITE_MAGIC):
        relational.read_sqlite(reading, data)
    else:
        _read_text(reading, data)
    kinds = Counter(record.kind for record in reading.records)
    reading.kind = reading.kind or (kinds.most_common(1)[0][0] if kinds else "unknown")
    return reading


def _read_text(reading: Reading, data: bytes) -> None:
    text, bad = _decode(data)
    places = Places(text)
    if bad is not None:
        line, column = places.of(bad)
        _say(
            reading, "warning", "import.not_utf8",
            f"{reading.name}, line {line}, column {column}: bytes that are no UTF-8. They were replaced.", line, column,
        )  # fmt: skip
    begins = outer(text)
    if not begins:
        _say(reading, "warning", "import.empty", f"{reading.name} is empty. Use an older copy of it (.backup).", 1, 1)
        return
    if begins not in "{[":
        _say(
            reading,
            "error",
            "import.not_json",
            f"{reading.name}, line 1: this is neither JSON nor an SQLite database.",
            1,
            1,
        )
        return
    found = list(entries(text))
    if not found:
        _say(
            reading, "warning", "import.empty",
            f"{reading.name} holds nothing ({{}}), as after a crash. Use an older copy of it (.backup).", 1, 1,
        )  # fmt: skip
        return
    if begins == "{" and _whole_object(reading, text, found):
        return
    last: dict[str, int] = {}
    raws: list[Raw] = []
    for one in found:
        line, column = places.of(one.start)
        if isinstance(one, Broken):
            _broken(reading, one, line, places.of(one.at))
            continue
        if one.key:
            if one.key in last:
                raws[last[one.key]] = replace(raws[last[one.key]], twice=line)
            last[one.key] = len(raws)
        raws.append(Raw(one.key, one.value, reading.name, line, column, garbled=bad is not None))
    take(reading, raws)
    reading.records.sort(key=lambda record: record.raw.line or 0)


def _decode(data: bytes) -> tuple[str, int | None]:
    """The text, and the offset in it of the first byte that is none."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding, "replace"), None
    try:
        return data.decode("utf-8"), None
    except UnicodeDecodeError as error:
        return data.decode("utf-8", "replace"), len(data[: error.start].decode("utf-8", "replace"))


def _whole_object(reading: Reading, text: str, found: list[Any]) -> bool:
    """Files whose outermost object is one record, or wraps the records. True: it was one of these."""
    whole = {one.key: one.value for one in found if not isinstance(one, Broken)}
    broken = [one for one in found if isinstance(one, Broken)]
    if rejects.is_rejects(whole.get(rejects.MARK)):
        records = whole["records"] if isinstance(whole.get("records"), list) else _cut_records(text)
        _rejects(reading, [one.value if isinstance(one, Entry) else one for one in records])
        for one in [one for one in broken if not one.text.startswith('"records"')]:
            _broken(reading, one, None, Places(text).of(one.at))
        return True
    if "space_id" in whole or ("space_id" in text[:2000] and broken and not whole):
        return _space(reading, text, whole, broken)
    if broken:
        return False
    if set(whole) == {"version", "updatedAt"}:
        _say(
            reading, "info", "import.nothing_to_take", f"{reading.name} only counts versions; nothing in it is needed."
        )
        reading.kind = "metadata"
        return True
    line, column = Places(text).of(found[0].start if len(found) == 1 else 0)
    if "matrix_user_id" in whole or "mxid" in whole or {"roomId", "participants"} <= set(whole):
        take(reading, [Raw("", whole, reading.name, 1, 1)])
        return True
    inner = [whole[key] for key in whole if key in _WRAPPERS and isinstance(whole[key], (dict, list))]
    if len(inner) == 1 and all(not isinstance(value, dict) or value is inner[0] for value in whole.values()):
        pairs = inner[0].items() if isinstance(inner[0], dict) else (("", value) for value in inner[0])
        take(reading, [Raw(key, value, reading.name, line, column) for key, value in pairs])
        return True
    return False


def _space(reading: Reading, text: str, whole: dict[str, Any], broken: list[Broken]) -> bool:
    """The space's configuration, mended where a hand has broken it."""
    try:
        json.loads(text.lstrip("\ufeff"), strict=False)
    except json.JSONDecodeError as error:
        line, column = Places(text).of(broken[0].at if broken else error.pos)
    else:
        take(reading, [Raw("", whole, reading.name, 1, 1)])
        return True
    mended = spaces.mended(text)
    if mended is None:
        return False
    _say(
        reading, "warning", "import.repaired",
        f"{reading.name} is broken at line {line}, column {column}, and was put right: {' '.join(mended.changes)}", line, column,
    )  # fmt: skip
    take(reading, [Raw("", mended.value, reading.name, 1, 1)])
    return True


def _cut_records(text: str) -> list[Any]:
    """The whole records of a file of rejects that is itself broken, and what is broken."""
    begin = text.find("[", text.find('"records"'))
    return list(entries(text, begin)) if begin >= 0 else []


def _rejects(reading: Reading, records: list[Any]) -> None:
    raws: list[Raw] = []
    for number, record in enumerate(records, start=1):
        if isinstance(record, Broken) or not isinstance(record, dict):
            words = record if isinstance(record, Broken) else Broken(str(record), 0, 0, "This is no record")
            _broken(
                reading,
                words,
                None,
                Places(words.text).of(max(0, words.at - words.start)),
                f"{reading.name}, record {number}",
            )
            continue
        for one in rejects.raws(record, reading.name, None, None):
            if isinstance(one, Broken):
                place = Places(one.text).of(one.at)
                _broken(reading, one, None, place, f"{reading.name}, record {number}")
            else:
                raws.append(one)
    take(reading, raws)
    reading.kind = "rejects"
    if not records:
        _say(reading, "info", "import.empty", f"{reading.name} holds no records any more.")


def take(reading: Reading, raws: Iterable[Raw]) -> None:
    """Understand entries; those of no known kind are counted, and told of once."""
    strange: list[Raw] = []
    for raw in raws:
        record = understand(raw)
        if record is not None:
            reading.records.append(record)
        else:
            strange.append(raw)
    if not strange:
        return
    if not reading.records and any(
        isinstance(raw.value, dict) and "document" in str(raw.value.keys()) for raw in strange
    ):
        reading.kind = "documents"
        _say(
            reading,
            "info",
            "import.nothing_to_take",
            f"{reading.name} is an index of documents; nothing in it is needed.",
        )
        return
    first = strange[0]
    where = f", line {first.line}" if first.line else ""
    _say(
        reading, "error" if not reading.records else "warning", "import.unknown_records",
        f"{reading.name}{where}: {counted(len(strange), 'entry is', 'entries are')} of no known kind, the first under "
        f"{(first.key or 'no name')[:80]!r}.", first.line, first.column,
    )  # fmt: skip
    for raw in strange[:1000]:
        reading.records.append(
            Record("unknown", (raw.key or f"entry {raw.line or 0}")[:255], raw, label=raw.key[:255]).refused(
                "import.unknown_record", "This is none of the records that are known here."
            )
        )


def _broken(reading: Reading, one: Broken, line: int | None, place: tuple[int, int], where: str = "") -> None:
    """What could not be read, as a finding and as a record that goes into the file of rejects."""
    at_line, column = place
    where = where or reading.name
    sentence = f"{where}, line {at_line}, column {column}: {one.reason[0].lower()}{one.reason[1:]}."
    if one.cut_off:
        sentence += " Whole entries before it are taken."
    _say(reading, "error", "import.truncated" if one.cut_off else "import.broken", sentence, at_line, column)
    if not one.text.strip():
        return
    key = _key_of(one.text) or f"line {at_line}"
    raw = Raw(key, one.text, reading.name, at_line if line is None else line, column)
    reading.records.append(Record(BROKEN, key[:255], raw, label=key[:255]).refused("import.broken", sentence))


def _key_of(text: str) -> str:
    """The name under which a broken entry stands, where that can still be read."""
    if not text.startswith('"'):
        return ""
    key = text[1:].partition('"')[0]
    return key if 0 < len(key) <= 255 and "\n" not in key else ""


def _say(
    reading: Reading, severity: Any, code: str, sentence: str, line: int | None = None, column: int | None = None
) -> None:
    evidence: dict[str, Any] = {"file": reading.name}
    if line is not None:
        evidence |= {"line": line, "column": column}
    reading.findings.append(Finding(severity, code, sentence, reading.name, evidence))
