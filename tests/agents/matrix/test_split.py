"""Splitting: every piece fits into an event, and nothing that was written is lost."""

from __future__ import annotations

import json
import random
import re
import unicodedata

import pytest

from agents.matrix.content import content_size, edit_content
from agents.matrix.markdown import clean_text, render
from agents.matrix.split import EVENT_LIMIT, event_size, split_for_events


def ink(text: str) -> str:
    return re.sub(r"\s", "", text)


def check_sizes(pieces: list[str], limit: int) -> None:
    for piece in pieces:
        content = edit_content("$" + "e" * 43, render(piece))
        assert len(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()) <= limit
        assert content_size(content) <= event_size(piece) <= limit


def test_short_and_empty() -> None:
    assert split_for_events("hello\n\n**world** ") == ["hello\n\n**world**"]
    assert split_for_events("") == []
    assert split_for_events(" \n\n ") == []
    assert EVENT_LIMIT < 65_536 - 8_000
    with pytest.raises(ValueError):
        split_for_events("x", 10)


def test_prefers_paragraphs_then_lines_then_sentences_then_words() -> None:
    paragraph = "One sentence here. Another one there.\n"
    by_paragraph = split_for_events((paragraph * 2 + "\n") * 40, 1500)
    assert all(piece.endswith("there.") and piece.startswith("One") for piece in by_paragraph)
    assert not any("\n\n\n" in piece for piece in by_paragraph)
    by_line = split_for_events(paragraph * 100, 1500)
    assert all(piece.endswith("there.") for piece in by_line)
    by_sentence = split_for_events("A few words in a row. " * 200, 1500)
    assert all(piece.endswith("row.") for piece in by_sentence)
    by_word = split_for_events("word " * 1000, 1500)
    assert all(set(piece.split()) == {"word"} for piece in by_word)
    assert "".join(split_for_events("x" * 5000, 1500)) == "x" * 5000


def test_characters_of_several_code_points_stay_whole() -> None:
    for unit in ("e\u0301\u0323", "👩\u200d👩\u200d👧", "🇩🇪", "👍🏽", "☎\ufe0f", "각", "ก็"):
        for limit in (700, 701, 703, 707, 711, 719):
            pieces = split_for_events(unit * 400, limit)
            assert len(pieces) > 1
            assert "".join(pieces) == unit * 400
            assert all(len(piece) % len(unit) == 0 for piece in pieces), unit
            check_sizes(pieces, limit)


def test_endless_combining_sequence_is_cut_anyway() -> None:
    text = "a" + "\u0301" * 5000
    assert "".join(split_for_events(text, 800)) == text


def test_code_blocks_are_closed_and_opened_again() -> None:
    lines = [f"    value_{number} = compute({number})" for number in range(300)]
    text = "Before.\n\n```python\n" + "\n".join(lines) + "\n```\nAfter **it**."
    pieces = split_for_events(text, 2000)
    assert len(pieces) > 5
    for piece in pieces:
        assert piece.count("```") % 2 == 0
    assert pieces[1].startswith("```python\n    value_")
    assert [line for piece in pieces for line in piece.split("\n") if "value_" in line] == lines
    assert ink("".join(pieces).replace("```python", "").replace("```", "")) == ink(
        text.replace("```python", "").replace("```", "")
    )
    assert all("language-python" in (render(piece).formatted_body or "") for piece in pieces[1:-1])
    assert "<strong>it</strong>" in (render(pieces[-1]).formatted_body or "")
    check_sizes(pieces, 2000)


def test_code_block_in_a_list() -> None:
    lines = [f"    line {number}" for number in range(200)]
    text = "1. first\n\n    ```sh\n" + "\n".join(lines) + "\n    ```\n\nAfter **it**."
    pieces = split_for_events(text, 1500)
    assert "<strong>it</strong>" in (render(pieces[-1]).formatted_body or "")
    assert ink("".join(pieces).replace("```sh", "").replace("```", "")) == ink(
        text.replace("```sh", "").replace("```", "")
    )


def test_code_block_in_a_quote() -> None:
    text = "> ```\n" + "\n".join(f"> row {number}" for number in range(300)) + "\n> ```\n\nAfter **it**."
    pieces = split_for_events(text, 1500)
    assert [int(n) for n in re.findall(r"row (\d+)", "\n".join(pieces))] == list(range(300))
    assert "<strong>it</strong>" in (render(pieces[-1]).formatted_body or "")
    check_sizes(pieces, 1500)


@pytest.mark.parametrize("seed", range(12))
def test_random_texts_lose_nothing(seed: int) -> None:
    random.seed(seed)
    words = ["word", "ünïcode", "日本語。", "**bold**", "_it_", "<tag>", "&", '"q"', "\\", "\n", "\n\n", "- item\n", "> q\n", "# h\n",
             "😀", "e\u0301", "x" * 90, ". ", "|a|b|\n|-|-|\n", "\t", "https://e.org/a_b ", "1. n\n", "    code\n"]  # fmt: skip
    text = " ".join(random.choices(words, k=random.randint(50, 900)))
    limit = random.choice([900, 2000, 9000])
    pieces = split_for_events(text, limit)
    assert ink("".join(pieces)) == ink(text)
    check_sizes(pieces, limit)
    for piece in pieces:
        assert not unicodedata.combining(piece[0])


@pytest.mark.parametrize("seed", range(12))
def test_random_code_loses_nothing(seed: int) -> None:
    random.seed(seed)
    parts = [
        "text with words\n",
        "```py\n",
        "```\n",
        "~~~\n",
        "````md\n",
        "  ```\n",
        "\n",
        "x = {1: 2}\n",
        "long " * 30 + "\n",
        "`a`\n",
    ]
    text = "".join(random.choices(parts, k=300))
    pieces = split_for_events(text, random.choice([900, 3000]))
    # Only fence lines may be added, and none of the text is.
    bare = re.compile(r"(?m)^[ >]*(?:`{3,}|~{3,}).*$")
    assert ink(bare.sub("", "\n".join(pieces))) == ink(bare.sub("", text))
    check_sizes(pieces, 3000)


HOSTILE = {
    "many columns": "|" + "a|" * 150 + "\n|" + "-|" * 150 + "\n" + "b\n" * 300,
    "nested quotes": "> " * 3000,
    "entities": "&" * 5000,
    "control characters": "\x00\x01" * 3000 + "end",
    "empty lines": "\n" * 5000 + "end",
    "backslashes": "\\" * 5000,
    "quotation marks": '"' * 5000,
    "backticks": "`" * 6000,
    "tildes": "~" * 100 + "\nx\n" * 500,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_fit_and_lose_nothing(name: str) -> None:
    pieces = split_for_events(HOSTILE[name], 2000)
    check_sizes(pieces, 2000)
    assert ink("".join(pieces)) == ink(clean_text(HOSTILE[name]))


def test_an_endless_language_of_a_code_block_is_not_repeated() -> None:
    pieces = split_for_events("```" + "i" * 5000 + "\ncode\n" * 200, 2000)
    check_sizes(pieces, 2000)
    assert "".join(pieces).count("code") == 200
    assert len(pieces) < 30


def test_real_limit() -> None:
    text = 'Ünïcode ☃ "quoted" \\ **bold** & <tag>\n' * 3000
    pieces = split_for_events(text)
    check_sizes(pieces, EVENT_LIMIT)
    assert ink("".join(pieces)) == ink(text)
    # Few, well filled pieces: the limit is used, not feared.
    assert sum(event_size(piece) for piece in pieces[:-1]) / (len(pieces) - 1) > EVENT_LIMIT * 0.8
