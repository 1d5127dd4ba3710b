"""Types of what callers send."""

from __future__ import annotations

from typing import Annotated

from ninja import Path, Schema
from pydantic import AfterValidator, ConfigDict

LARGEST_ID = 2**63 - 1


def _storable(text: str) -> str:
    if "\x00" in text:
        raise ValueError("The character NUL cannot be stored; leave it out.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("The text holds half of a surrogate pair; send valid Unicode.") from None
    return text


# Text that every database can hold.
Text = Annotated[str, AfterValidator(_storable)]
# A row's number in an address.
Id = Annotated[int, Path(ge=1, le=LARGEST_ID)]


class Body(Schema):
    """Base of all bodies: an unknown field is an error, so that a misspelt one is not silently ignored."""

    model_config = ConfigDict(extra="forbid")
