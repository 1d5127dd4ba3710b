"""A text as HTML for the page: block by block, sanitised, remembered.

Whatever an agent or a person wrote, the result holds only the tags and attributes named here, links that open elsewhere, and nothing that
loads by itself. Time is bounded: long paragraphs, deep nesting and very long texts are shown as they are.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

import nh3
from markdown_it.rules_core import StateCore
from markdown_it.token import Token

from agents.matrix.markdown import clean_text
from chat.rendering.highlight import CLASSES
from chat.rendering.parser import MAX_NESTING, make_parser, mark_tasks

# Longer texts are shown as they are.
MAX_LENGTH = 200_000
_MOST_TOKENS = 40_000
# A longer paragraph is no prose; reading its emphasis could take long.
_LONGEST_INLINE = 20_000
_MOST_REFERENCES = 200
_CACHE_BYTES = 16 * 1024 * 1024

_PARSER = make_parser()
# What the parser does after blocks and inlines: bare addresses, escaped characters.
_AFTER = _PARSER.core.ruler.getRules("")[3:]
_CLASS_SETS = {
    "span": CLASSES | {"box"},
    "code": {"formula"},
    "a": {"picture"},
    "li": {"task", "task done"},
    "div": {"code", "table-scroll"},
    "pre": {"plain"},
    "th": {"center", "right"},
    "td": {"center", "right"},
    **{f"h{number}": {f"h{level}" for level in range(1, 7)} for number in range(3, 7)},
}
_TAGS = frozenset(
    {"h3", "h4", "h5", "h6", "blockquote", "p", "a", "ul", "ol", "li", "strong", "em", "s", "code", "hr", "br", "div"}
    | {"table", "thead", "tbody", "tr", "th", "td", "pre", "span"}
)


def _allow(tag: str, attribute: str, value: str) -> str | None:
    """nh3's filter for attributes that are allowed with some values only."""
    if attribute == "class":
        return value if value in _CLASS_SETS.get(tag, ()) else None
    if attribute == "href":
        return value if value.lower().startswith(("https:", "http:", "mailto:", "matrix:")) else None
    if attribute == "start":
        return value if value.isascii() and value.isdecimal() and len(value) <= 9 else None
    if attribute == "tabindex":
        return "0" if value == "0" else None
    if attribute == "scope":
        return "col" if value == "col" else None
    return value


_CLEANER = nh3.Cleaner(
    tags=set(_TAGS),
    clean_content_tags={"script", "style"},
    attributes={
        "*": set(),  # without this nh3 allows "title" and "lang" everywhere
        **{tag: {"class"} for tag in _CLASS_SETS},
        "a": {"href", "class"},
        "ol": {"start"},
        "div": {"class", "data-language", "tabindex"},
        "pre": {"class", "tabindex"},
        "th": {"class", "scope"},
    },
    attribute_filter=_allow,
    set_tag_attribute_values={"a": {"target": "_blank"}},
    url_schemes={"https", "http", "mailto", "matrix"},
    strip_comments=True,
    link_rel="noopener noreferrer nofollow",
)


def html_of(text: str) -> str:
    """Sanitised HTML of a text. Never raises. The same as the blocks of ``chat.rendering.stream`` put together."""
    found = _remembered.get(text)
    if found is None:
        found = "".join(blocks_of(text))
        _remembered.put(text, found)
    return found


def blocks_of(text: str) -> list[str]:
    """The HTML of each block (paragraph, list, code, table, …) of a whole text."""
    return [block.html for block in parse(text, {})]


class Block:
    """One block: the lines it stands on (from, to, counted from 0 in the parsed text), rendered when it is asked for."""

    __slots__ = ("_env", "_html", "_tokens", "begin", "cells", "end")

    def __init__(self, tokens: Sequence[Token], begin: int, end: int, env: dict[str, Any]) -> None:
        self._tokens = tokens
        self._env = env
        self._html: str | None = None
        self.begin = begin
        self.end = end
        self.cells = sum(token.meta.get("cells", 0) for token in tokens)

    @property
    def html(self) -> str:
        if self._html is None:
            self._html = self.rendered()
        return self._html

    def rendered(self, *, is_open: bool = False) -> str:
        """HTML of the block; ``is_open``: it is still growing, so long code is not coloured yet."""
        markup = _PARSER.renderer.render(self._tokens, _PARSER.options, {**self._env, "open": is_open})
        return _CLEANER.clean(markup)


class PlainBlock(Block):
    """A text that is shown as it is."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        super().__init__((), 0, text.count("\n") + 1, {})
        self._text = text

    def rendered(self, *, is_open: bool = False) -> str:
        return f'<pre class="plain">{escape(self._text)}</pre>\n'


def parse(text: str, references: dict[str, Any], cells: int = 0) -> list[Block]:
    """The blocks of a text. ``references`` (what ``[label]: address`` lines define) is read and added to.

    ``cells``: how many cells of tables stand before this text. Lines are those of the text after ``clean_text``.
    """
    if len(text) > MAX_LENGTH:
        return [PlainBlock(clean_text(text))]
    env: dict[str, Any] = {"references": references, "cells": cells}
    try:
        tokens = _tokens(clean_text(text), env)
        while len(references) > _MOST_REFERENCES:
            references.popitem()
        if any(token.level >= MAX_NESTING - 2 for token in tokens):
            return [PlainBlock(clean_text(text))]
        return list(_grouped(tokens, env))
    except Exception:  # a bug of the parser must not hide an answer
        return [PlainBlock(clean_text(text))]


def _tokens(text: str, env: dict[str, Any]) -> list[Token]:
    """As ``MarkdownIt.parse``, except that overlong paragraphs stay plain."""
    state = StateCore(text, _PARSER, env)
    _PARSER.block.parse(text, _PARSER, env, state.tokens)
    if len(state.tokens) > _MOST_TOKENS:
        raise ValueError("That is no prose.")
    for token in state.tokens:
        if token.type != "inline":
            continue
        token.children = []
        if len(token.content) > _LONGEST_INLINE:
            plain = Token("text", "", 0)
            plain.content = token.content
            token.children.append(plain)
        else:
            _PARSER.inline.parse(token.content, _PARSER, env, token.children)
    for rule in _AFTER:
        rule(state)
    mark_tasks(state.tokens)
    return state.tokens


def _grouped(tokens: list[Token], env: dict[str, Any]) -> Iterator[Block]:
    begin = 0
    for index, token in enumerate(tokens):
        if token.level == 0 and token.nesting <= 0 and (token.nesting == -1 or begin == index):
            lines = tokens[begin].map or [0, 0]
            yield Block(tokens[begin : index + 1], lines[0], lines[1], env)
            begin = index + 1


class _Memory:
    """What was rendered lately, up to so many bytes in all. Threads share it."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[str, str] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, text: str) -> str | None:
        with self._lock:
            found = self._kept.get(text)
            if found is not None:
                self._kept.move_to_end(text)
            return found

    def put(self, text: str, markup: str) -> None:
        size = len(text) + len(markup)
        if size > self._limit // 8:
            return
        with self._lock:
            if text in self._kept:
                return
            self._kept[text] = markup
            self._size += size
            while self._size > self._limit:
                old, old_markup = self._kept.popitem(last=False)
                self._size -= len(old) + len(old_markup)


_remembered = _Memory(_CACHE_BYTES)
