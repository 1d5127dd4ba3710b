"""Reading message events that others sent: everything in them may be missing, wrong or hostile.

A malformed event must never stop the intake of the others, so nothing here raises: it returns a :class:`ParsedMessage`, or an
:class:`Ignored` that says why there is none.
"""

from __future__ import annotations

import html as html_entities
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from agents.matrix.crypto.files import has_key
from agents.matrix.keys import HISTORICAL, HTML_FORMAT, MARKER
from agents.matrix.markdown import clean_text
from agents.matrix.names import valid_user_id

_MEDIA = frozenset({"m.image", "m.file", "m.audio", "m.video"})
_FALLBACK = re.compile(r"> (?:\* )?<@[^>\n]{1,255}>")
_PILL = re.compile(
    r"""<a\s[^>]{0,400}?href\s*=\s*["']?(?:https?://matrix\.to/#/|matrix:u/)([^"'\s>?]{1,400})""", re.IGNORECASE
)
_MAX_MENTIONS = 200


@dataclass(frozen=True, slots=True)
class Ignored:
    """An event that holds no message for us, and why (``reason`` is for logs and traces)."""

    reason: str
    event_id: str = ""


@dataclass(frozen=True, slots=True)
class Media:
    """A file in a message. ``url`` is ``mxc://…``; ``size`` in bytes or ``None``; ``encrypted`` files need the event's key."""

    url: str
    mimetype: str = ""
    size: int | None = None
    filename: str = ""
    encrypted: bool = False
    # The event's ``file`` where it holds the key.
    key: dict[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class InterAgent:
    """What one agent's bridge says about a message from agent to agent (keys ``m.letta.*``)."""

    from_agent_id: str = ""
    from_agent_name: str = ""
    tracking_id: str = ""
    type: str = ""


@dataclass(frozen=True, slots=True)
class ParsedMessage:
    """A readable message. ``body`` and ``html`` are without the quote of a reply; for an edit they are the new text."""

    event_id: str
    sender: str
    body: str
    room_id: str = ""
    ts: int = 0
    msgtype: str = "m.text"
    html: str | None = None
    edits: str | None = None
    reply_to: str | None = None
    thread_root: str | None = None
    mentions: frozenset[str] = frozenset()
    mentions_room: bool = False
    historical: bool = False
    inter_agent: InterAgent | None = None
    marker: dict[str, Any] | None = None
    media: Media | None = None
    transaction_id: str = ""
    content: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_edit(self) -> bool:
        """Whether it replaces an earlier message (``edits``)."""
        return self.edits is not None

    @property
    def is_notice(self) -> bool:
        """Whether a machine said it about itself; such messages are not answered."""
        return self.msgtype == "m.notice"


def parse_message(event: object, *, room_id: str = "") -> ParsedMessage | Ignored:
    """Read an event as it comes from a transaction, ``/messages`` or ``/sync`` (where ``room_id`` is known from outside)."""
    try:
        return _parse(event, room_id)
    except (TypeError, ValueError, AttributeError, KeyError, IndexError, RecursionError) as error:
        known = event.get("event_id") if isinstance(event, dict) else ""
        return Ignored(f"the event cannot be read ({type(error).__name__})", known if isinstance(known, str) else "")


def _parse(event: object, room_id: str) -> ParsedMessage | Ignored:
    if not isinstance(event, dict):
        return Ignored("the event is not an object")
    event_id = _string(event, "event_id")
    if not event_id:
        return Ignored("the event has no id")
    kind = _string(event, "type")
    if kind == "m.room.encrypted":
        return Ignored("the message is encrypted", event_id)
    if kind != "m.room.message" or "state_key" in event:
        return Ignored(f"not a message ({kind[:80] or 'no type'})", event_id)
    sender = _string(event, "sender")
    if not valid_user_id(sender):
        return Ignored("the sender is not a user id", event_id)
    content = event.get("content")
    if not isinstance(content, dict):
        return Ignored("the event has no content", event_id)
    unsigned = _mapping(event.get("unsigned"))
    if not content or "redacted_because" in unsigned:
        return Ignored("the message was removed", event_id)
    relation = _mapping(content.get("m.relates_to"))
    edits = _string(relation, "event_id") or None if relation.get("rel_type") == "m.replace" else None
    shown = _mapping(content.get("m.new_content")) if edits else {}
    replaced = bool(shown)
    shown = shown or content
    msgtype, body = shown.get("msgtype"), shown.get("body")
    if not isinstance(msgtype, str) or not isinstance(body, str):
        return Ignored("the message has no body or no msgtype", event_id)
    if edits and not replaced:
        body = body.removeprefix("* ")
    reply, thread = _relations(relation)
    body = clean_text(body)
    if reply or "m.in_reply_to" in relation:
        body = strip_reply_fallback(body)
    markup = shown.get("formatted_body") if shown.get("format") == HTML_FORMAT else None
    markup = _strip_html_fallback(markup) if isinstance(markup, str) else None
    asked = _mapping(shown.get("m.mentions")) or _mapping(content.get("m.mentions"))
    room = event.get("room_id")
    return ParsedMessage(
        event_id=event_id,
        sender=sender,
        body=body,
        room_id=room if isinstance(room, str) and room else room_id,
        ts=_whole(event.get("origin_server_ts")) or 0,
        msgtype=msgtype,
        html=markup,
        edits=edits,
        reply_to=reply,
        thread_root=thread,
        mentions=_mentions(asked, markup),
        mentions_room=asked.get("room") is True,
        historical=content.get(HISTORICAL) is True,
        inter_agent=_inter_agent(content),
        marker=_mapping(content.get(MARKER)) or None,
        media=_media(shown, msgtype, body),
        transaction_id=_string(unsigned, "transaction_id"),
        content=content,
    )


def strip_reply_fallback(body: str) -> str:
    """Remove the quote that older clients put before a reply (``> <@a:b> …`` and the quoted lines that follow).

    Only a quote that names its author is one; what somebody quotes by hand stays.
    """
    if not _FALLBACK.match(body):
        return body
    lines = body.split("\n")
    index = next((number for number, line in enumerate(lines) if not line.startswith(">")), len(lines))
    if index < len(lines) and not lines[index].strip():
        index += 1
    return "\n".join(lines[index:])


def _strip_html_fallback(markup: str) -> str:
    if not markup.lstrip().lower().startswith("<mx-reply>"):
        return markup
    end = markup.lower().find("</mx-reply>")
    return markup[end + len("</mx-reply>") :] if end >= 0 else markup


def _relations(relation: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The event replied to and the root of the thread. In a thread, a reply may be a mere fallback: then it is none."""
    thread = _string(relation, "event_id") or None if relation.get("rel_type") == "m.thread" else None
    reply = _string(_mapping(relation.get("m.in_reply_to")), "event_id") or None
    if thread and relation.get("is_falling_back") is True:
        reply = None
    return reply, thread


def _mentions(asked: Mapping[str, Any], markup: str | None) -> frozenset[str]:
    found: set[str] = set()
    named = asked.get("user_ids")
    if isinstance(named, list):
        found.update(one for one in named[:_MAX_MENTIONS] if valid_user_id(one))
    if markup:
        for match in _PILL.finditer(markup):
            target = unquote(html_entities.unescape(match.group(1)))
            if match.group(0).lower().find("matrix:u/") >= 0 and not target.startswith("@"):
                target = f"@{target}"
            if valid_user_id(target):
                found.add(target)
            if len(found) >= _MAX_MENTIONS:
                break
    return frozenset(found)


def _inter_agent(content: Mapping[str, Any]) -> InterAgent | None:
    values = {
        "from_agent_id": _string(content, "m.letta.from_agent_id"),
        "from_agent_name": _string(content, "m.letta.from_agent_name"),
        "tracking_id": _string(content, "m.letta.tracking_id"),
        "type": _string(content, "m.letta.type"),
    }
    return InterAgent(**values) if any(values.values()) else None


def _media(content: Mapping[str, Any], msgtype: str, body: str) -> Media | None:
    if msgtype not in _MEDIA:
        return None
    sealed = _mapping(content.get("file"))
    url = _string(sealed, "url") if sealed else _string(content, "url")
    if not url.startswith("mxc://"):
        return None
    info = _mapping(content.get("info"))
    name = _string(content, "filename") or body
    key = {part: sealed[part] for part in ("key", "iv", "hashes")} if has_key(sealed) else None
    return Media(url, _string(info, "mimetype"), _whole(info.get("size")), clean_text(name)[:255], bool(sealed), key)


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _string(mapping: Mapping[str, Any], key: str) -> str:
    value = mapping.get(key)
    return value if isinstance(value, str) else ""


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None
