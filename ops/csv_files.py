"""Cells of CSV files that spreadsheets open: text that would run as a formula is made plain."""

from __future__ import annotations

_STARTS = ("=", "+", "-", "@", "\t", "\r")


def safe_cell(value: object) -> str:
    """The value as text. One that a spreadsheet would calculate gets an apostrophe in front; numbers stay numbers."""
    text = str(value)
    if isinstance(value, int | float):
        return text
    return f"'{text}" if text.startswith(_STARTS) else text
