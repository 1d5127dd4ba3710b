"""Markdown as HTML: what it shows, what it never lets through, and that hostile texts take no time."""

from __future__ import annotations

import time
from html.parser import HTMLParser

import pytest

from chat.rendering.markdown import _TAGS, html_of


class Reader(HTMLParser):
    """Collects tags and attributes as a browser would see them."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(markup)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]


def test_code_is_coloured_by_class_and_never_by_style():
    markup = html_of("```python\ndef f():  # why\n    return 'x'\n```")
    assert '<div class="code" data-language="python">' in markup
    assert '<span class="k">def </span><span class="n">f</span>' in markup
    assert '<span class="c"># why</span>' in markup
    assert "style=" not in markup


def test_tables_tasks_formulas_and_links():
    markup = html_of(
        "| a | b |\n|---|--:|\n| 1 | 2 |\n\n- [ ] open\n- [x] done\n\n$x^2$ costs $5 and $6, \\(a<b\\)\n\nhttps://example.org main.py"
    )
    assert '<th class="right" scope="col">b</th>' in markup
    assert '<li class="task"><span class="box">☐</span>open</li>' in markup
    assert '<li class="task done"><span class="box">☑</span>done</li>' in markup
    assert '<code class="formula">x^2</code> costs $5 and $6, <code class="formula">a&lt;b</code>' in markup
    assert 'href="https://example.org" target="_blank" rel="noopener noreferrer nofollow"' in markup
    assert "main.py</p>" in markup


def test_headings_stand_below_those_of_the_page():
    assert html_of("# One\n\n#### Four") == '<h3 class="h1">One</h3>\n<h6 class="h4">Four</h6>\n'


def test_pictures_from_elsewhere_become_links():
    markup = html_of("![cat](https://example.org/cat.png) ![x](data:image/png;base64,AA)")
    assert "<img" not in markup
    assert '<a class="picture" href="https://example.org/cat.png"' in markup


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    "[x](vbscript:x)",
    '[x](https://a.b "onmouseover=alert(1)")',
    '[x](https://a.b/"onmouseover="alert(1))',
    "<https://a.b/\"onclick='x'>",
    '```"><script>alert(1)</script>\nx\n```',
    "```html onload=alert(1)\n<script>alert(1)</script>\n```",
    "<svg/onload=alert(1)>",
    "<a href='javascript:alert(1)'>x</a>",
    '!["onerror=alert(1) x="](https://a.b/\'onerror=alert(1))',
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "[r]\n\n[r]: javascript:alert(1)",
    "<style>*{display:none}</style>",
    "<math><mtext></mtext><mglyph><style><img src onerror=alert(1)></style></mglyph></math>",
    "<form action=/account/logout/><button>x</button></form>",
    "<div id=main class=composer>x</div>",
    "$<img src=x onerror=alert(1)>$",
    "| <b onclick=x>a</b> |\n|---|\n| <script>x</script> |",
    "- [x] <iframe src=//evil>",
    "\u202e\u2066<script>\x00alert(1)</script>",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_and_does_nothing(text: str):
    read = Reader(html_of(text))
    assert set(read.tags) <= _TAGS
    for tag, name, value in read.attributes:
        assert name in {"href", "target", "rel", "class", "data-language", "tabindex", "scope", "start"}, (tag, name)
        if name == "href":
            assert value.startswith(("https:", "http:", "mailto:", "matrix:"))
        if name == "class":
            assert value not in {"composer", "card", "button"}


N = 100_000
SLOW = {
    "stars": "*" * N,
    "brackets": "[" * N,
    "links": "[a](" * (N // 4),
    "ticks": " ".join("`" * (number % 500 + 1) for number in range(400)),
    "quotes": ">" * N,
    "lists": "- " * (N // 2),
    "dollars": "$a " * (N // 3),
    "tables": ("|a" * 60 + "\n" + "|-" * 60 + "\n" + "|x\n" * 60 + "\n") * 280,
    "wide": "|a" * 20000 + "\n" + "|-" * 20000 + "\n",
    "paragraphs": "a\n\n" * (N // 3),
    "headings": "# a\n" * (N // 4),
    "references": "\n".join(f"[a{number}]: x" for number in range(10000)),
    "code": "```python\n" + "'" * N,
    "addresses": "http://a " * (N // 9),
}


@pytest.mark.parametrize("name", SLOW)
def test_hostile_texts_take_bounded_time_and_room(name: str):
    # A fine processor needs less than a second for each; what is guarded against takes minutes.
    begun = time.process_time()
    markup = html_of(SLOW[name])
    assert time.process_time() - begun < 15
    assert len(markup) < 2_000_000


def test_what_was_rendered_is_remembered():
    text = "remembered **once**"
    assert html_of(text) is html_of("remembered " + "**once**")
