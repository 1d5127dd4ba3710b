"""Building contents, and reading other people's events, well-formed or not."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest

from agents.matrix import content
from agents.matrix.content import Ignored, ParsedMessage, parse_message
from agents.matrix.markdown import Rendered, render


def event(body: str = "hi", **more: Any) -> dict[str, Any]:
    return {
        "type": "m.room.message",
        "event_id": "$e",
        "room_id": "!r",
        "sender": "@u:h",
        "origin_server_ts": 1700000000000,
        "content": {"msgtype": "m.text", "body": body, **more},
    }


def parsed(value: object) -> ParsedMessage:
    found = parse_message(value)
    assert isinstance(found, ParsedMessage), found
    return found


def test_text_and_notice() -> None:
    assert content.text_content(Rendered("a")) == {"msgtype": "m.text", "body": "a", "m.mentions": {}}
    rich = content.text_content(
        render("**a**"), extra={"switchboard": {"turn": 1}, "body": "evil", "m.mentions": {"room": True}}
    )
    assert rich["formatted_body"] == "<p><strong>a</strong></p>"
    assert rich["format"] == "org.matrix.custom.html"
    assert (rich["body"], rich["switchboard"], rich["m.mentions"]) == ("**a**", {"turn": 1}, {"room": True})
    assert content.notice_content("n")["msgtype"] == "m.notice"
    assert content.mentions(["@b:h", "@a:h", "@b:h"]) == {"user_ids": ["@a:h", "@b:h"]}


def test_edit_reads_back() -> None:
    made = content.edit_content("$old", render("**new**"), extra={"switchboard": {"turn": 2}})
    assert made["body"] == "* **new**"
    assert made["formatted_body"].startswith("* <p>")
    assert made["m.new_content"]["body"] == "**new**"
    read = parsed({**event(), "content": made})
    assert read.is_edit
    assert (read.edits, read.body, read.html) == ("$old", "**new**", "<p><strong>new</strong></p>")
    assert read.marker == {"turn": 2}


def test_replies_and_threads_read_back() -> None:
    plain = content.text_content(Rendered("x"))
    reply = parsed({**event(), "content": content.reply_to(plain, "$q")})
    assert (reply.reply_to, reply.thread_root) == ("$q", None)
    thread = parsed({**event(), "content": content.reply_to(plain, "$last", thread_root="$root")})
    assert (thread.reply_to, thread.thread_root) == (None, "$root")
    real = content.reply_to(plain, "$q", thread_root="$root")
    real["m.relates_to"]["is_falling_back"] = False
    assert parsed({**event(), "content": real}).reply_to == "$q"
    assert "m.relates_to" not in plain


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("> <@a:b> old\n> more\n\nnew\nlines", "new\nlines"),
        ("> * <@a:b> waves\n\nnew", "new"),
        ("> <@a:b> old\nnew", "new"),
        ("> <@a:b> old", ""),
        ("> by hand\n\nmine", "> by hand\n\nmine"),
        ("plain", "plain"),
    ],
)
def test_reply_fallback(body: str, expected: str) -> None:
    relation = {"m.in_reply_to": {"event_id": "$q"}}
    assert parsed(event(body, **{"m.relates_to": relation})).body == expected
    assert parsed(event(body)).body == body


def test_html_fallback_and_pills() -> None:
    markup = (
        '<mx-reply><blockquote><a href="https://matrix.to/#/@quoted:h">q</a></blockquote></mx-reply>'
        "<a href=\"https://matrix.to/#/%40bot:h\">Bot</a> <a class=x href='matrix:u/two:h'>2</a> "
        '<a href="https://matrix.to/#/!room:h">r</a> <a href="https://evil/#/@no:h">n</a>'
    )
    read = parsed(
        event(
            "Bot",
            format="org.matrix.custom.html",
            formatted_body=markup,
            **{"m.mentions": {"user_ids": ["@m:h", 5, "x"]}},
        )
    )
    assert read.mentions == {"@bot:h", "@two:h", "@m:h"}
    assert "quoted" not in (read.html or "")
    assert parsed(event(**{"m.mentions": {"room": True}})).mentions_room


def test_flags_of_the_predecessor() -> None:
    read = parsed(
        event(
            **{
                "m.letta_historical": True,
                "m.letta.from_agent_id": "agent-1",
                "m.letta.type": "async_inter_agent_request",
            }
        )
    )
    assert read.historical
    assert read.inter_agent is not None
    assert (read.inter_agent.from_agent_id, read.inter_agent.type) == ("agent-1", "async_inter_agent_request")
    assert parsed(event()).inter_agent is None
    assert not parsed(event(**{"m.letta_historical": "true"})).historical


def test_media() -> None:
    image = event("p.png", url="mxc://h/1", info={"mimetype": "image/png", "size": 5})
    image["content"]["msgtype"] = "m.image"
    media = parsed(image).media
    assert media is not None
    assert (media.url, media.mimetype, media.size, media.filename, media.encrypted) == (
        "mxc://h/1",
        "image/png",
        5,
        "p.png",
        False,
    )
    image["content"]["file"] = {"url": "mxc://h/2"}
    assert (parsed(image).media or media).encrypted
    image["content"] = {"msgtype": "m.image", "body": "x", "url": "https://track.org/x"}
    assert parsed(image).media is None


def test_room_id_and_transaction_id() -> None:
    bare = event()
    del bare["room_id"]
    bare["unsigned"] = {"transaction_id": "t1"}
    read = parse_message(bare, room_id="!opaque")
    assert isinstance(read, ParsedMessage)
    assert (read.room_id, read.transaction_id, read.ts) == ("!opaque", "t1", 1700000000000)
    assert parsed({**event(), "origin_server_ts": "x"}).ts == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"type": "m.room.encrypted"}, "encrypted"),
        ({"type": "m.reaction"}, "m.reaction"),
        ({"type": None}, "no type"),
        ({"state_key": ""}, "not a message"),
        ({"event_id": 5}, "no id"),
        ({"sender": "nobody"}, "sender"),
        ({"sender": None}, "sender"),
        ({"content": {}}, "removed"),
        ({"content": []}, "no content"),
        ({"content": {"msgtype": "m.text"}}, "no body"),
        ({"content": {"msgtype": 5, "body": "x"}}, "no body"),
        ({"content": {"msgtype": "m.text", "body": ["x"]}}, "no body"),
        ({"unsigned": {"redacted_because": {}}}, "removed"),
    ],
)
def test_what_is_no_message_says_why(change: dict[str, Any], reason: str) -> None:
    found = parse_message({**event(), **change})
    assert isinstance(found, Ignored)
    assert reason in found.reason


@pytest.mark.parametrize("value", [None, 5, "x", [], [{}], {}, {"event_id": "$x"}, float("nan"), b"x"])
def test_no_event_at_all(value: object) -> None:
    assert isinstance(parse_message(value), Ignored)


def test_an_edit_without_new_content_uses_the_copy() -> None:
    relation = {"rel_type": "m.replace", "event_id": "$old"}
    assert parsed(event("* new", **{"m.relates_to": relation})).body == "new"
    assert parsed(event("* new", **{"m.relates_to": relation, "m.new_content": "x"})).body == "new"
    assert not parsed(event("x", **{"m.relates_to": {"rel_type": "m.replace", "event_id": 5}})).is_edit


def test_anything_anywhere_never_raises() -> None:
    """Every value in a rich event is replaced by every kind of rubbish; also several at once."""
    random.seed(3)
    full = event("> <@a:b> q\n\nx", format="org.matrix.custom.html", formatted_body="<mx-reply>", url="mxc://a/b", info={"size": 1},
                 file={"url": "mxc://a/b"}, switchboard={"a": 1})  # fmt: skip
    full["content"] |= {"m.relates_to": {"rel_type": "m.thread", "event_id": "$r", "m.in_reply_to": {"event_id": "$q"}}}
    full["content"] |= {
        "m.mentions": {"user_ids": ["@a:b"]},
        "m.new_content": {"body": "n", "msgtype": "m.text"},
        "msgtype": "m.image",
    }
    full["unsigned"] = {"transaction_id": "t"}
    rubbish: list[Any] = [
        None,
        True,
        -1,
        2**80,
        1.5,
        float("inf"),
        "",
        "\ud800",
        "x" * 100_000,
        [],
        [[]],
        {},
        {"": None},
        [{"a": []}],
    ]

    def paths(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        found = [path] if path else []
        if isinstance(value, dict):
            for key in value:
                found += paths(value[key], (*path, key))
        return found

    def put(target: Any, path: tuple[str, ...], value: Any) -> None:
        for key in path[:-1]:
            target = target.get(key) if isinstance(target, dict) else None
        if isinstance(target, dict):
            target[path[-1]] = value

    everywhere = paths(full)
    for path in everywhere:
        for value in rubbish:
            changed = copy.deepcopy(full)
            put(changed, path, value)
            assert isinstance(parse_message(changed), (ParsedMessage, Ignored))
    for _ in range(500):
        changed = copy.deepcopy(full)
        for path in random.choices(everywhere, k=4):
            put(changed, path, random.choice(rubbish))
        found = parse_message(changed)
        assert isinstance(found, (ParsedMessage, Ignored))
        if isinstance(found, ParsedMessage):
            json.dumps(found.body)
