"""Markdown: what agents write looks right, and nothing they write is obeyed."""

from __future__ import annotations

import random
from html.parser import HTMLParser

import pytest

from agents.matrix.markdown import clean_text, render, sanitise


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a **b** c", "<p>a <strong>b</strong> c</p>"),
        ("*e* and `c`", "<p><em>e</em> and <code>c</code></p>"),
        ("~~x~~", "<p><s>x</s></p>"),
        ("# T\ntext", "<h1>T</h1>\n<p>text</p>"),
        ("```py\nx = 1 < 2\n```", '<pre><code class="language-py">x = 1 &lt; 2\n</code></pre>'),
        ("[n](https://e.org/?a=1&b=2)", '<p><a href="https://e.org/?a=1&amp;b=2">n</a></p>'),
        ("![pic](https://e.org/x.png)", '<p><a href="https://e.org/x.png">pic</a></p>'),
        ("![pic](data:image/png;base64,AA)*x*", "<p>pic<em>x</em></p>"),
        ("> q", "<blockquote>\n<p>q</p>\n</blockquote>"),
        ("3. c\n4. d", '<ol start="3">\n<li>c</li>\n<li>d</li>\n</ol>'),
        (r"\*not\*", "<p>*not*</p>"),
        ("a\n**b**", "<p>a<br>\n<strong>b</strong></p>"),
        ("see https://e.org **now**", '<p>see <a href="https://e.org">https://e.org</a> <strong>now</strong></p>'),
        ("main.py **x** README.md", "<p>main.py <strong>x</strong> README.md</p>"),
    ],
)
def test_html(text: str, expected: str) -> None:
    assert render(text).formatted_body == expected
    assert render(text).body == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "two\nlines\n\nand a paragraph",
        "snake_case and 5 < 6 & 7 > 2",
        "see https://e.org/a_b?c=1&d=2 now",
        "main.py, README.md, e.org",
        "<script>alert(1)</script>",
        "<b>x</b>",
        "[x](javascript:alert(1))",
        "ünï ☃ 日本",
    ],
)
def test_no_html_where_the_text_looks_the_same(text: str) -> None:
    assert render(text).formatted_body is None
    assert render(text).body == text


def test_tables() -> None:
    markup = render("|a|b|\n|-|-:|\n|1|**2**|").formatted_body or ""
    assert "<table>" in markup
    assert "<td><strong>2</strong></td>" in markup
    assert "style" not in markup


class Inspector(HTMLParser):
    """Fails on anything that Matrix's list does not allow."""

    TAGS = frozenset(
        [
            "del",
            "h1",
            "h2",
            "h3",
            "h4",
            "h5",
            "h6",
            "blockquote",
            "p",
            "a",
            "ul",
            "ol",
            "sup",
            "sub",
            "li",
            "b",
            "i",
            "u",
            "strong",
            "em",
            "s",
            "code",
            "hr",
            "br",
            "div",
            "table",
            "thead",
            "tbody",
            "tr",
            "th",
            "td",
            "caption",
            "pre",
            "span",
            "img",
            "details",
            "summary",
        ]
    )
    ATTRIBUTES = frozenset({("a", "href"), ("ol", "start"), ("code", "class")})

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.TAGS
        for name, value in attrs:
            assert (tag, name) in self.ATTRIBUTES, (tag, name)
            if name == "href":
                assert (value or "").lower().startswith(("http:", "https:", "ftp:", "mailto:", "magnet:", "matrix:")), (
                    value
                )


HOSTILE = [
    "**x** <script>alert(1)</script>",
    "**x** <img src=x onerror=alert(1)>",
    "*x* [a](javascript:alert(1)) [b](JaVaScRiPt:alert(1)) [c](java\nscript:x) [d](&#106;avascript:x)",
    "*x* [a](data:text/html;base64,PHNjcmlwdD4=) [b](vbscript:x) [c](file:///etc/passwd)",
    '*x* [a](https://e.org "t\\" onclick=alert(1)")',
    "*x* <https://e.org/\"onmouseover='x'> <javascript:alert(1)>",
    '```"><script>alert(1)</script>\ncode\n```',
    '```a b c" onload=x\ncode\n```',
    '![" onerror=alert(1) x="](https://e.org/"onerror=x)',
    "[![a](javascript:x)](javascript:y)**z**",
    "*x* <svg/onload=alert(1)> <iframe src=//e> <style>*{}</style> <mx-reply>q</mx-reply>",
    "*x*\n\n<div style='position:fixed'>\n\n</div>",
    "*x* &lt;script&gt; &#60;script&#62;",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_within_the_list(text: str) -> None:
    markup = render(text).formatted_body
    assert markup is not None
    Inspector().feed(markup)
    assert "<script" not in markup


def test_random_soup_stays_within_the_list() -> None:
    random.seed(11)
    parts = ["<", ">", "[", "](", ")", "javascript:x", "https://e.org", "`", "```", "\n", "**", "_", '"', "'", "onload=", "<img ",
             "src=", "![", "|", "-|-", "> ", "- ", "&#106;", "\\", "é", "\x00", "~~", "    ", "<script>", "1. "]  # fmt: skip
    for _ in range(400):
        Inspector().feed(render("".join(random.choices(parts, k=40))).formatted_body or "")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("unit", ["[", "*a_ ", "![[", "> ", "- ", "`", "<", "\\", "|a", "[a](<", "&", "_*"])
def test_pathological_text_ends(unit: str) -> None:
    text = unit * 9000
    assert render(text).body == text


def test_deep_nesting_is_sent_as_text_rather_than_cut() -> None:
    text = "> " * 200 + "deep **x**"
    assert render(text).formatted_body is None
    assert render("> " * 5 + "deep **x**").formatted_body is not None


def test_sanitise_foreign_html() -> None:
    dirty = (
        '<mx-reply>quote</mx-reply><span data-mx-color="#FF0000" data-mx-bg-color="red" style="x" onclick="y">a</span>'
        '<img src="https://t.org/x.png" alt="p"><img src="mxc://h/1" width="5" height="9e9">'
        '<code class="x language-c++ y">c</code><code class="evil">d</code><a href="/rel">r</a><!-- c --><style>b{}</style>'
    )
    assert sanitise(dirty) == (
        '<span data-mx-color="#FF0000">a</span><img alt="p"><img src="mxc://h/1" width="5">'
        '<code class="language-c++">c</code><code>d</code><a>r</a>'
    )


def test_clean_text() -> None:
    assert clean_text("a\r\nb\rc\x00\x1b[0m\ud83d\td\x7f") == "a\nb\nc[0m\ufffd\td"
    assert render("\ud800**x**").body == "\ufffd**x**"
    assert render("a" * 70_000 + "**x**").formatted_body is None
