"""What an import would do, row by row: a function from Portagent's rows and what is known here, without a write.

It is a stream: conversations are told before their messages, and nobody holds more than a few hundred messages at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, Literal, Protocol

from chat.portagent.messages import Draft, FilePart, Grouper, MessageBroken
from chat.portagent.people import Names, PersonPlan, UserBroken, person_plan
from chat.portagent.rows import FILE, IMAGE, INVITE, MESSAGE, STORED, USER, Source, SourceRow, storable, time_of
from ops.findings import Finding, Severity

Action = Literal["create", "unchanged", "changed", "reject", "note"]
_WINDOW = 400
_TITLES_OF_NOBODY = {"", "new conversation", "new chat"}


class Here(Protocol):
    """What is known here; only reads."""

    def known(self, kind: str, keys: Sequence[str]) -> dict[str, str]:
        """Digests of the rows that were imported before, by their keys."""

    def name_taken(self, name: str, *, exact: bool = False) -> bool: ...

    def match(self, name: str, email: str) -> tuple[int, str] | None:
        """(id, user name) of the one person of ours with that name or address."""

    def person_exists(self, user_key: str) -> bool:
        """Whether the person whom an imported user became is still here."""

    def owner_of(self, container: str) -> int | None:
        """The id of the person who was imported with that container, when they are still here."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the operator chose. ``match``: users with the name or address of somebody here are that person. ``operators``: Portagent 2's
    administrators become operators. ``orphans``: the id of a person who gets conversations of nobody."""

    match: bool = False
    operators: bool = False
    orphans: int | None = None


@dataclass(frozen=True, slots=True)
class ConversationPlan:
    """A conversation to be made. The owner is a user's key, or ``owner_id`` a person of ours."""

    owner_key: str
    owner_id: int | None
    title: str
    created: datetime | None
    changed: datetime | None
    kept: dict[str, Any]


@dataclass(frozen=True, slots=True)
class InvitePlan:
    """``used_by``: the key of the user who joined by it."""

    code: str
    created: datetime | None
    created_by: str
    used_by: str
    used_at: datetime | None


@dataclass(frozen=True, slots=True)
class FilePlan:
    """A file whose message is here already."""

    message_key: str
    file: FilePart


Plan = PersonPlan | InvitePlan | ConversationPlan | Draft | FilePlan


@dataclass(frozen=True, slots=True)
class Step:
    """What is done with a row (a message: with the rows that make it up), and the findings that say so."""

    action: Action
    row: SourceRow
    findings: list[Finding] = field(default_factory=list)
    plan: Plan | None = None
    image_key: str = ""
    count: int = 1


def plan(source: Source, here: Here, wishes: Wishes) -> Iterator[Step]:
    """All steps, in the order in which they are applied."""
    owners: dict[str, str] = dict(source.containers()) if hasattr(source, "containers") else {}
    users: set[str] = set()
    yield from _users(source, here, wishes, owners, users)
    yield from _invites(source, here)
    for image in source.images():
        yield from _conversation(source, here, wishes, image, owners, users)
    for row in source.leftovers():
        yield _file(row, here) if row.kind == FILE and row.problem is None else _reject(row)


def _users(source: Source, here: Here, wishes: Wishes, owners: dict[str, str], users: set[str]) -> Iterator[Step]:
    names = Names(here.name_taken)
    emails: dict[str, str] = {}
    for row in source.users():
        container = row.raw.get("containerId")
        owners[f"user-{row.key}"] = row.key
        if isinstance(container, str) and container:
            owners[container] = row.key
        done = _seen_before(row, here.known(USER, [row.key]))
        if done is not None:
            users.add(row.key)
            yield done
            continue
        try:
            made = person_plan(row, names, match=here.match if wishes.match else None, operators=wishes.operators)
        except UserBroken as error:
            yield _reject(row, error.code, error.sentence)
            continue
        users.add(row.key)
        if made.email and made.email in emails:
            what = f"{made.username} and {emails[made.email]} have the same e-mail address; neither can sign in with it until one proves it."
            made.notes.append(("portagent.email_twice", what))
        elif made.email:
            emails[made.email] = made.username
        what = f"{made.username} joins." if made.person_id is None else f"{made.username} is here."
        findings = [_finding("info", "portagent.person", what, row)]
        findings += [_finding(_severity(code), code, sentence, row) for code, sentence in made.notes]
        yield Step("create", row, findings, made)


def _invites(source: Source, here: Here) -> Iterator[Step]:
    for row in source.invites():
        done = _seen_before(row, here.known(INVITE, [row.key]))
        if done is not None:
            yield done
            continue
        code = row.raw.get("code")
        if not isinstance(code, str) or not code.strip():
            yield _reject(row, "portagent.no_code", "An invitation without a code.")
            continue
        used_by, used_at = row.raw.get("used_by"), time_of(row.raw.get("used_at"))
        made = InvitePlan(
            code=code.strip(),
            created=time_of(row.raw.get("created_at")),
            created_by=str(row.raw.get("created_by") or ""),
            used_by=str(used_by or ""),
            used_at=used_at,
        )
        used = bool(used_by or used_at)
        what = f"The invitation {code[:2]}… is kept as {'used' if used else 'open'}."
        findings = [_finding("info", "portagent.invite", what, row)]
        if not used:
            sentence = f"The open invitation {code[:2]}… has 40 random bits only. Revoke it, and send a new one, if it is not needed."
            findings.append(_finding("warning", "portagent.invite_short", sentence, row))
        yield Step("create", row, findings, made)


def _conversation(
    source: Source, here: Here, wishes: Wishes, image: SourceRow, owners: dict[str, str], users: set[str]
) -> Iterator[Step]:
    if image.problem is not None:
        yield _reject(image)
        return
    known = here.known(IMAGE, [image.key])
    bare = set(image.raw) <= {"imageId", "sessionId"}
    if image.key not in known:
        made = _new_conversation(here, wishes, image, owners, users)
        yield made
        if made.action == "reject":
            stored = source.stored_messages(image)
            if stored is not None:
                sentence = f"The messages of {image.key} wait until their conversation can be imported."
                yield _reject(stored, "portagent.no_conversation", sentence)
            return
    else:
        yield (None if bare else _seen_before(image, known)) or Step("unchanged", image)
    yield from _messages(source, here, image)


def _new_conversation(here: Here, wishes: Wishes, image: SourceRow, owners: dict[str, str], users: set[str]) -> Step:
    raw = image.raw
    container = str(raw.get("containerId") or "")
    owner = owners.get(container, "")
    owner_id = None if owner else here.owner_of(container)
    if owner and owner not in users and not here.known(USER, [owner]):
        owner = ""
    if owner and here.known(USER, [owner]) and not here.person_exists(owner):
        return _reject(
            image, "portagent.owner_deleted", f"The person whose conversation {image.key} is was deleted here."
        )
    if not owner and owner_id is None:
        if wishes.orphans is None:
            sentence = (
                f"Nobody has the container {container or '(none)'} of the conversation {image.key}. Correct containerId, or name "
                "somebody who gets such conversations (--orphans)."
            )
            return _reject(image, "portagent.no_owner", sentence)
        owner_id = wishes.orphans
    title = str(storable(raw.get("name") or "")) if isinstance(raw.get("name"), str) else ""
    kept, hidden = _kept(raw)
    made = ConversationPlan(
        owner_key=owner,
        owner_id=owner_id,
        title="" if title.strip().lower() in _TITLES_OF_NOBODY else title.strip()[:255],
        created=time_of(raw.get("createdAt")),
        changed=time_of(raw.get("updatedAt")),
        kept=kept,
    )
    findings = [_finding("info", "portagent.conversation", f"The conversation {title[:60]!r} is kept.", image)]
    if hidden:
        sentence = f"Keys of tool servers of {image.key} are not imported: {', '.join(hidden)[:200]}."
        findings.append(_finding("info", "portagent.secrets_left", sentence, image))
    return Step("create", image, findings, made, image.key)


def _messages(source: Source, here: Here, image: SourceRow) -> Iterator[Step]:
    grouper, seen = Grouper(), set[str]()
    rows = source.messages(image)
    while window := list(islice(rows, _WINDOW)):
        named = [_unlike(row, seen) for row in window]
        known = here.known(MESSAGE, [row.key for row in named if row.kind == MESSAGE])
        for row in named:
            if row.problem is not None or row.kind == STORED:
                yield _reject(row)
                continue
            done = _seen_before(row, known)
            if done is not None:
                for draft in grouper.rest():
                    yield _draft(draft, image)
                yield done
                continue
            try:
                ready = grouper.take(row)
            except MessageBroken as error:
                yield _reject(row, "portagent.message_broken", f"Message {row.key}: {error}.")
                continue
            for draft in ready:
                yield _draft(draft, image)
    for draft in grouper.rest():
        yield _draft(draft, image)


def _unlike(row: SourceRow, seen: set[str]) -> SourceRow:
    """The row under a key that no other of its conversation has."""
    key, number = row.key, 2
    while key in seen:
        key, number = f"{row.key[:245]}~{number}", number + 1
    seen.add(key)
    return row if key == row.key else SourceRow(row.kind, key, row.raw, row.problem)


def _draft(draft: Draft, image: SourceRow) -> Step:
    first = draft.sources[0][0]
    findings = [_finding("info", "portagent.message", f"{row.key} is kept.", row) for row, _ in draft.sources]
    if not draft.text and not draft.parts and not draft.files:
        findings.append(_finding("info", "portagent.message_empty", f"{first.key} is empty, and kept so.", first))
    return Step("create", first, findings, draft, image.key, len(draft.sources))


def _file(row: SourceRow, here: Here) -> Step:
    message, part = str(row.raw.get("message") or ""), row.raw.get("part")
    if not isinstance(part, dict) or not here.known(MESSAGE, [message]):
        return _reject(row, "portagent.file_broken", f"The message of the file {row.key} is not here.")
    done = _seen_before(row, here.known(FILE, [row.key]))
    if done is not None:
        return done
    file = FilePart(
        row.key,
        str(storable(part.get("name") or "file"))[:255],
        str(storable(part.get("mediaType") or ""))[:100],
        str(part.get("data") or ""),
    )
    return Step(
        "create", row, [_finding("info", "portagent.file", f"{file.name} is kept.", row)], FilePlan(message, file)
    )


def _seen_before(row: SourceRow, known: dict[str, str]) -> Step | None:
    if row.key not in known:
        return None
    if known[row.key] == row.digest:
        return Step("unchanged", row)
    sentence = f"{row.kind} {row.key} was changed in Portagent since it was imported. What is here stays as it is."
    return Step("changed", row, [_finding("warning", "portagent.changed", sentence, row)])


def _reject(row: SourceRow, code: str = "", sentence: str = "") -> Step:
    if row.problem is not None and not code:
        code, sentence = row.problem
    code = code or "portagent.unreadable"
    sentence = sentence or f"{row.kind} {row.key} cannot be read."
    return Step("reject", row, [_finding("error", code, sentence, row)])


_INFORMING = {"portagent.matched", "portagent.name_made"}


def _severity(code: str) -> Severity:
    return "info" if code in _INFORMING else "warning"


def _finding(severity: Severity, code: str, sentence: str, row: SourceRow) -> Finding:
    return Finding(severity, code, sentence, target=f"{row.kind}:{row.key}"[:255])


def _kept(raw: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What of an image has no place of its own here, without the secrets of tool servers, and what those were called."""
    names = (
        "imageId",
        "sessionId",
        "containerId",
        "description",
        "systemPrompt",
        "parentImageId",
        "mcpServers",
        "metadata",
    )
    kept = {name: storable(raw[name]) for name in names if raw.get(name) not in (None, "", {}, [])}
    hidden: list[str] = []
    if "mcpServers" in kept:
        kept["mcpServers"] = _without_secrets(kept["mcpServers"], hidden, "mcpServers")
    return kept, hidden


def _without_secrets(value: Any, hidden: list[str], where: str) -> Any:
    if isinstance(value, dict):
        cleaned = {}
        for name, inner in value.items():
            if name in ("env", "headers", "auth", "token", "apiKey", "args") and inner:
                hidden.append(f"{where}.{name}")
                continue
            cleaned[name] = _without_secrets(inner, hidden, f"{where}.{name}")
        return cleaned
    if isinstance(value, list):
        return [_without_secrets(inner, hidden, where) for inner in value]
    if isinstance(value, str) and "://" in value:
        bare = value.partition("?")[0]
        if bare != value or "@" in value:
            hidden.append(where)
            return bare.rpartition("@")[2] if "@" in bare else bare
    return value
