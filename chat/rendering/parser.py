"""The parser: CommonMark with tables, strikethrough, bare links, task lists and formulas; HTML in it is shown, not obeyed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.rules_block.table import table as parse_table
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

from chat.rendering.highlight import highlighted

# Deeper than this the parser drops what it reads.
MAX_NESTING = 40
_LONGEST_FORMULA = 1_000
# Missing cells of a table are made up: two characters a row could become hundreds of cells.
_MOST_CELLS = 4_000
_MOST_CELLS_IN_ALL = 20_000
_LANGUAGE = re.compile(r"[A-Za-z0-9_+#.-]{1,40}")
_TASK = re.compile(r"\[([ xX])\][ \t]")
_FORMULA_ENDS = {"$$": "$$", "\\(": "\\)", "\\[": "\\]"}


def _formula(state: StateInline, silent: bool) -> bool:
    r"""``$$…$$``, ``\(…\)``, ``\[…\]``, and ``$…$`` when no blank stands inside the signs and no digit after them (so that prices are prices)."""
    begin, source = state.pos, state.src
    opening = source[begin : begin + 2]
    if opening not in _FORMULA_ENDS:
        opening = source[begin : begin + 1]
        if opening != "$":
            return False
    closing = _FORMULA_ENDS.get(opening, "$")
    inside = begin + len(opening)
    end = source.find(closing, inside, min(state.posMax, inside + _LONGEST_FORMULA))
    if end <= inside:
        return False
    content = source[inside:end]
    after = source[end + len(closing) : end + len(closing) + 1]
    if opening == "$" and (content[0].isspace() or content[-1].isspace() or after.isdigit() or content[0] == "$"):
        return False
    if not content.strip():
        return False
    if not silent:
        token = state.push("formula", "code", 0)
        token.content = content.strip()
    state.pos = end + len(closing)
    return True


def _table(state: StateBlock, begin: int, end: int, silent: bool) -> bool:
    """A table of a size that somebody could read; larger ones stay text."""
    if begin + 2 > end:
        return False
    rule = state.src[state.bMarks[begin + 1] : state.eMarks[begin + 1]]
    if "-" not in rule or rule.strip("-:| \t"):
        return False
    columns = rule.count("|") + 1
    last = begin
    while last < end and not state.isEmpty(last) and (last - begin) * columns <= _MOST_CELLS:
        last += 1
    cells = (last - begin) * columns
    so_far = state.env.get("cells", 0)
    if cells > _MOST_CELLS or so_far + cells > _MOST_CELLS_IN_ALL:
        return False
    place = len(state.tokens)
    if not parse_table(state, begin, end, silent):
        return False
    if not silent:
        state.env["cells"] = so_far + cells
        state.tokens[place].meta["cells"] = cells
    return True


def _render_formula(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    return f'<code class="formula">{escape(tokens[index].content)}</code>'


def _render_image(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    """A picture from elsewhere would tell a stranger who reads here: it becomes a link."""
    token = tokens[index]
    source = str(token.attrs.get("src", ""))
    label = renderer.renderInlineAsText(token.children, options, env) or source
    if not source.lower().startswith(("https:", "http:")):
        return escape(label)
    return f'<a class="picture" href="{escape(source)}">{escape(label)}</a>'


def _render_fence(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    token = tokens[index]
    words = token.info.split()
    match = _LANGUAGE.fullmatch(words[0]) if words else None
    language = match.group() if match else ""
    code = token.content
    # While a fence is open its code may be long and change four times a second: it is coloured when it is finished.
    body = escape(code) if env.get("open") and len(code) > 4_000 else highlighted(code, language)
    return f'<div class="code" data-language="{escape(language)}"><pre tabindex="0"><code>{body}</code></pre></div>\n'


def _render_code_block(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    return f'<div class="code" data-language=""><pre tabindex="0"><code>{escape(tokens[index].content)}</code></pre></div>\n'


def _render_heading(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    """Headings of a message stand below those of the page."""
    token = tokens[index]
    level = int(token.tag[1])
    tag = f"h{min(level + 2, 6)}"
    return f'<{tag} class="h{level}">' if token.nesting == 1 else f"</{tag}>\n"


def _render_table(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    return '<div class="table-scroll" tabindex="0"><table>\n' if tokens[index].nesting == 1 else "</table></div>\n"


def _render_cell(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    token = tokens[index]
    if token.nesting != 1:
        return f"</{token.tag}>"
    side = str(token.attrs.get("style", "")).removeprefix("text-align:")
    name = f' class="{side}"' if side in {"center", "right"} else ""
    scope = ' scope="col"' if token.tag == "th" else ""
    return f"<{token.tag}{name}{scope}>"


def mark_tasks(tokens: Sequence[Token]) -> None:
    """``- [ ] …`` and ``- [x] …`` become items with a box."""
    for index in range(2, len(tokens)):
        here = tokens[index]
        if here.type != "inline" or tokens[index - 2].type != "list_item_open" or not here.children:
            continue
        first = here.children[0]
        match = _TASK.match(first.content) if first.type == "text" else None
        if match is None:
            continue
        done = match.group(1) != " "
        tokens[index - 2].attrSet("class", "task done" if done else "task")
        first.content = first.content[match.end() :]
        box = Token("task_box", "span", 0)
        box.content = "☑" if done else "☐"
        here.children.insert(0, box)


def _render_box(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    return f'<span class="box">{tokens[index].content}</span>'


def make_parser() -> MarkdownIt:
    """A new parser. It is not changed any more afterwards and may be used by several threads."""
    parser = MarkdownIt(
        "commonmark", {"html": False, "linkify": True, "breaks": True, "typographer": False, "maxNesting": MAX_NESTING}
    ).enable(["table", "strikethrough", "linkify"])
    if parser.linkify is not None:
        # Guessing would make links of file names: "main.py" and "README.md" end like the domains of countries.
        parser.linkify.set({"fuzzy_link": False, "fuzzy_email": False, "fuzzy_ip": False})
    parser.inline.ruler.before("escape", "formula", _formula)
    parser.block.ruler.at("table", _table, {"alt": ["paragraph", "reference"]})
    rules = {
        "formula": _render_formula,
        "image": _render_image,
        "fence": _render_fence,
        "code_block": _render_code_block,
        "heading_open": _render_heading,
        "heading_close": _render_heading,
        "table_open": _render_table,
        "table_close": _render_table,
        "th_open": _render_cell,
        "td_open": _render_cell,
        "th_close": _render_cell,
        "td_close": _render_cell,
        "task_box": _render_box,
    }
    for name, rule in rules.items():
        parser.add_render_rule(name, rule)
    return parser
