from __future__ import annotations

import pytest

from ops.words import counted, verb


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0 messages"),
        (1, "1 message"),
        (2, "2 messages"),
        (1204, "1,204 messages"),
        (1_000_001, "1,000,001 messages"),
    ],
)
def test_a_number_stands_before_the_right_form_of_its_noun(number: int, words: str) -> None:
    assert counted(number, "message") == words


def test_a_plural_of_its_own_is_used_for_everything_but_one() -> None:
    assert counted(1, "copy", "copies") == "1 copy"
    assert counted(0, "copy", "copies") == "0 copies"
    assert counted(3, "more channel fails", "more channels fail") == "3 more channels fail"


def test_a_verb_agrees_with_its_number() -> None:
    assert [verb(number, "is", "are") for number in (0, 1, 2)] == ["are", "is", "are"]
