"""An agent's Markdown as a Matrix message: the text itself, and HTML where that shows more than the text does.

The HTML holds only what the specification allows (client-server API, "m.room.message msgtypes", ``org.matrix.custom.html``),
whatever the agent wrote; the same sanitiser serves HTML that other people sent.
"""

from __future__ import annotations

import html as html_entities
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

# Deeper than this markdown-it drops what it reads; clients give up at about 100 as well.
_MAX_NESTING = 60
# Nothing longer fits into one event; the parser is slow on some hostile texts.
_MAX_LENGTH = 64_000

_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# Characters and line beginnings without which Markdown changes nothing. A bare address is linked by every client itself.
_MARKED = re.compile(r"[*_~`#\[\]<>|\\&]|^[ \t]*(?:[-+=]|\d{1,9}[.)])|^(?: {4}|\t)|  $", re.MULTILINE)
_SAME_ANYWAY = re.compile(r'</?p>|<br ?/?>|<a href="([^"]*)">\1</a>')

_TAGS = (
    "del h1 h2 h3 h4 h5 h6 blockquote p a ul ol sup sub li b i u strong em s code hr br div table thead tbody tr th td caption pre "
    "span img details summary"
)
_ATTRIBUTES: dict[str, set[str]] = {
    "*": set(),  # without this nh3 allows "title" and "lang" everywhere
    "span": {"data-mx-bg-color", "data-mx-color", "data-mx-spoiler", "data-mx-maths"},
    "a": {"href", "target"},
    "img": {"width", "height", "alt", "title", "src"},
    "ol": {"start"},
    "code": {"class"},
    "div": {"data-mx-maths"},
}
_LINK_SCHEMES = ("https:", "http:", "ftp:", "mailto:", "magnet:", "matrix:")
_LANGUAGE = re.compile(r"language-[A-Za-z0-9_+#.-]{1,40}")
_COLOUR = re.compile(r"#[0-9A-Fa-f]{6}")


@dataclass(frozen=True, slots=True)
class Rendered:
    """``body`` is the plain text, ``formatted_body`` sanitised HTML, or ``None`` when the text alone looks the same."""

    body: str
    formatted_body: str | None = None


def clean_text(text: str) -> str:
    """Text that every homeserver and database can store: no lone surrogates, no control characters, ``\\n`` as line end."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROL.sub("", _SURROGATE.sub("\ufffd", text))


@lru_cache(maxsize=64)
def render(text: str) -> Rendered:
    """Render Markdown (CommonMark with tables, strikethrough and bare links; HTML in it is shown, not obeyed).

    Line breaks stay line breaks. Images become links, since a message cannot show pictures from elsewhere. Never raises: what
    cannot be rendered is sent as it is.
    """
    body = clean_text(text)
    if len(body) > _MAX_LENGTH or not _MARKED.search(body):
        return Rendered(body)
    try:
        tokens = _PARSER.parse(body)
        if any(token.level >= _MAX_NESTING - 2 for token in tokens):
            return Rendered(body)
        markup = sanitise(_PARSER.renderer.render(tokens, _PARSER.options, {})).strip()
    except Exception:  # a bug of the parser must not silence an agent
        return Rendered(body)
    return Rendered(body, None if not markup or _looks_the_same(body, markup) else markup)


def sanitise(markup: str) -> str:
    """HTML reduced to Matrix's tags and attributes; the content of ``script``, ``style`` and old reply quotes goes too."""
    return _CLEANER.clean(markup)


def _looks_the_same(body: str, markup: str) -> bool:
    text = _SAME_ANYWAY.sub(lambda match: match.group(1) or " ", markup)
    return "<" not in text and html_entities.unescape(text).split() == body.split()


def _allow(tag: str, attribute: str, value: str) -> str | None:
    """nh3's filter for attributes that are allowed with some values only."""
    if tag == "a" and attribute == "href":
        return value if value.lower().startswith(_LINK_SCHEMES) else None
    if tag == "img" and attribute == "src":
        return value if value.startswith("mxc://") else None
    if tag == "code" and attribute == "class":
        match = next(filter(None, map(_LANGUAGE.fullmatch, value.split())), None)
        return match.group() if match else None
    if attribute in {"data-mx-color", "data-mx-bg-color"}:
        return value if _COLOUR.fullmatch(value) else None
    if attribute in {"width", "height", "start"}:
        return value if value.isascii() and value.isdecimal() and len(value) <= 9 else None
    return value


def _render_image(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    token = tokens[index]
    source = str(token.attrs.get("src", ""))
    label = renderer.renderInlineAsText(token.children, options, env) or source
    if not source.lower().startswith(("https:", "http:")):
        return html_entities.escape(label)
    return f'<a href="{html_entities.escape(source)}">{html_entities.escape(label)}</a>'


def _parser() -> MarkdownIt:
    parser = MarkdownIt(
        "commonmark", {"html": False, "linkify": True, "breaks": True, "typographer": False, "maxNesting": _MAX_NESTING}
    ).enable(["table", "strikethrough", "linkify"])
    if parser.linkify is not None:
        # Guessing would make links of file names: "main.py" and "README.md" end like the domains of countries.
        parser.linkify.set({"fuzzy_link": False, "fuzzy_email": False, "fuzzy_ip": False})
    parser.add_render_rule("image", _render_image)
    return parser


_PARSER = _parser()
_CLEANER = nh3.Cleaner(
    tags=set(_TAGS.split()),
    clean_content_tags={"script", "style", "mx-reply"},
    attributes=_ATTRIBUTES,
    attribute_filter=_allow,
    url_schemes={"https", "http", "ftp", "mailto", "magnet", "matrix", "mxc"},
    strip_comments=True,
    link_rel=None,
)
