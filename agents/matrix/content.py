"""The content of the events we send, as plain dictionaries; what reads the events of others is offered here too.

Client-server API: "Instant messaging", "Rich replies", "Event replacements", "Threading", "User and room mentions".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from agents.matrix.incoming import Ignored, InterAgent, Media, ParsedMessage, parse_message, strip_reply_fallback
from agents.matrix.keys import HISTORICAL, HTML_FORMAT, MARKER
from agents.matrix.markdown import Rendered

__all__ = [
    "HISTORICAL",
    "HTML_FORMAT",
    "MARKER",
    "Ignored",
    "InterAgent",
    "Media",
    "ParsedMessage",
    "content_size",
    "edit_content",
    "file_content",
    "mentions",
    "notice_content",
    "parse_message",
    "reply_to",
    "strip_reply_fallback",
    "text_content",
]


def text_content(
    rendered: Rendered, *, msgtype: str = "m.text", extra: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A message. ``extra`` adds keys (our marker, ``m.mentions``); it cannot replace the message itself.

    An empty ``m.mentions`` says that nobody is meant to be alerted, even if a name occurs in the text.
    """
    content: dict[str, Any] = {"m.mentions": {}, **(extra or {}), "msgtype": msgtype, "body": rendered.body}
    if rendered.formatted_body is not None:
        content["format"] = HTML_FORMAT
        content["formatted_body"] = rendered.formatted_body
    return content


def notice_content(rendered: Rendered | str, *, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A notice: what a machine says about itself. Bots must not answer it."""
    return text_content(Rendered(rendered) if isinstance(rendered, str) else rendered, msgtype="m.notice", extra=extra)


def edit_content(
    event_id: str, rendered: Rendered, *, msgtype: str = "m.text", extra: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The replacement of ``event_id``: the new content, and a copy marked with ``* `` for clients that know no edits."""
    new = text_content(rendered, msgtype=msgtype, extra=extra)
    markup = rendered.formatted_body
    fallback = Rendered(f"* {rendered.body}", None if markup is None else f"* {markup}")
    content = text_content(fallback, msgtype=msgtype, extra=extra)
    # A mention in an edit alerts again; the new content says who is meant, the copy alerts nobody.
    content["m.mentions"] = {}
    content["m.new_content"] = new
    content["m.relates_to"] = {"rel_type": "m.replace", "event_id": event_id}
    return content


def file_content(
    name: str,
    media_type: str,
    size: int,
    place: Mapping[str, Any],
    *,
    width: int | None = None,
    height: int | None = None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A file that was uploaded (``place``: ``{"url"}``, or ``{"file"}`` with its key): an image, sound or film where clients can show it as one, else a file."""
    kinds = {"image": "m.image", "audio": "m.audio", "video": "m.video"}
    info: dict[str, Any] = {"mimetype": media_type, "size": size}
    if width and height:
        info |= {"w": width, "h": height}
    return {
        "m.mentions": {},
        **(extra or {}),
        "msgtype": kinds.get(media_type.partition("/")[0], "m.file"),
        "body": name,
        "filename": name,
        **place,
        "info": info,
    }


def reply_to(content: Mapping[str, Any], event_id: str, *, thread_root: str | None = None) -> dict[str, Any]:
    """``content`` as a reply to ``event_id``, inside the thread of ``thread_root`` when there is one.

    Without a thread it is a rich reply; in a thread the reply is only the fallback of clients that know no threads.
    """
    relation: dict[str, Any] = {"m.in_reply_to": {"event_id": event_id}}
    if thread_root:
        relation = {"rel_type": "m.thread", "event_id": thread_root, "is_falling_back": True, **relation}
    return {**content, "m.relates_to": relation}


def mentions(user_ids: Iterable[str]) -> dict[str, Any]:
    """The value of ``m.mentions`` for these users."""
    ids = sorted(set(user_ids))
    return {"user_ids": ids} if ids else {}


def content_size(content: Mapping[str, Any]) -> int:
    """The bytes that a content takes in an event (canonical JSON: UTF-8, no spaces)."""
    return len(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(errors="replace"))
