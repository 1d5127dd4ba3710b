"""Blocks of a growing text: however it is cut into pieces, the end is the same as of the whole text."""

from __future__ import annotations

import random

import pytest

from chat.rendering.markdown import blocks_of
from chat.rendering.stream import Blocks

BITS = [
    *[
        "a",
        "b c",
        "1",
        "2",
        ". ",
        "1. x\n",
        "2. y\n",
        "- ",
        "* ",
        "\n",
        "\n\n",
        "> ",
        "```\n",
        "```py\ncode\n",
        "# h\n",
        "===\n",
    ],
    *[
        "---\n",
        "|a|b|\n|-|-|\n",
        "|1|2|\n",
        "    ",
        "  ",
        "\t",
        "[r]",
        "[r]: /u\n",
        "[q]: http://x 't'\n",
        "[q]",
        " **b** ",
    ],
    *["`", "~~", "$x$", "\r\n", "\\", "<i>", "&amp;", "![i](http://x)", "- [ ] t\n", "_", "ü", "\U0001f600"],
]


@pytest.mark.parametrize("seed", range(8))
def test_any_pieces_end_like_the_whole(seed: int):
    chance = random.Random(seed)
    for _ in range(400):
        text = "".join(chance.choice(BITS) for _ in range(chance.randint(1, 25)))
        blocks = Blocks(interval=0, clock=lambda: 0.0)
        seen: dict[int, str] = {}
        position = 0
        while position < len(text):
            position += chance.randint(1, 6)
            seen.update({index: html for index, html, _ in blocks.feed(text[:position])})
        seen.update({index: html for index, html, _ in blocks.feed(text, final=True)})
        assert [seen[index] for index in sorted(seen) if seen[index]] == blocks_of(text), text
        assert [one.html for one in blocks.all()] == blocks_of(text)
        assert all(one.done for one in blocks.all())


def test_what_is_done_is_not_given_out_again():
    blocks = Blocks(interval=0, clock=lambda: 0.0)
    text = ""
    done: set[int] = set()
    for number in range(60):
        for piece in (f"Paragraph {number} ", "goes on.\n", "\n"):
            text += piece
            for index, _, is_done in blocks.feed(text):
                assert index not in done
                if is_done:
                    done.add(index)
    assert done == set(range(59))


def test_the_open_block_is_rendered_a_few_times_a_second_only():
    now = [0.0]
    blocks = Blocks(clock=lambda: now[0])
    text, updates = "", 0
    for _ in range(200):  # ten seconds, twenty pieces a second
        text += "word "
        updates += len(blocks.feed(text))
        now[0] += 0.05
    assert 35 <= updates <= 41
    assert blocks.feed(text, final=True)[-1].html == blocks_of(text)[0]


def test_a_tool_call_ends_a_block():
    blocks = Blocks(interval=0, clock=lambda: 0.0)
    blocks.feed("Let me look")
    assert [one.done for one in blocks.cut()] == [True]
    updates = blocks.feed("Let me lookIt is **three**.", final=True)
    assert updates == [(1, "<p>It is <strong>three</strong>.</p>\n", True)]


def test_another_text_begins_anew():
    blocks = Blocks(interval=0, clock=lambda: 0.0)
    blocks.feed("one\n\ntwo\n\nthree")
    updates = blocks.feed("other")
    assert [(one.number, one.html) for one in updates] == [(0, "<p>other</p>\n"), (1, ""), (2, "")]


def test_a_reference_defined_later_reaches_back():
    blocks = Blocks(interval=0, clock=lambda: 0.0)
    seen: dict[int, str] = {}
    for text in (
        "See [here].\n\n",
        "See [here].\n\nMore.\n\n",
        "See [here].\n\nMore.\n\n[here]: https://example.org\n",
    ):
        seen.update({index: html for index, html, _ in blocks.feed(text)})
    assert 'href="https://example.org"' in seen[0]
