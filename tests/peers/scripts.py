"""What the stand-in servers answer: decided by words in square brackets in the last user message.

``[slow]``  stream word by word with 100 ms between words (``[slow 20]``: 20 ms)
``[long N]``  N words
``[tool]``  call a tool first, if tools are offered
``[think]``  some reasoning first, where the protocol has it
``[error 500]``  that status with the protocol's error body; ``[error 429 retry 2]`` adds ``Retry-After: 2``
``[error 500 after 3]``  fail once three words have been streamed
``[garbage]``  a body that is not the protocol;  ``[truncate]``  close in the middle of the stream
``[empty]``  a well-formed answer without text;  ``[hang]``  accept and never answer
``[say TEXT]``  exactly that text

Without any of them the answer is ``echo: `` and the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_WORD = re.compile(r"\[(slow|long|tool|think|error|garbage|truncate|empty|hang|say)((?:\s[^\]]*)?)\]")
_SLOW_MS = 100.0


@dataclass(frozen=True)
class Script:
    """One answer. ``pause_ms`` is the time before each word, ``error_after`` the number of words before the error."""

    text: str
    pause_ms: float = 0.0
    tool: bool = False
    think: bool = False
    error: int = 0
    retry_after: str = ""
    error_after: int | None = None
    garbage: bool = False
    truncate: bool = False
    hang: bool = False

    @property
    def words(self) -> list[str]:
        """The answer cut as a model streams it: each piece keeps the blank in front of it."""
        return re.findall(r"\s*\S+|\s+$", self.text)


def read_script(text: str) -> Script:
    """The answer that ``text`` asks for."""
    found = {match[1]: match[2].strip() for match in _WORD.finditer(text)}
    answer = f"echo: {text}"
    if "long" in found:
        answer = " ".join(f"word{number}" for number in range(1, int(found["long"] or 100) + 1))
    if "say" in found:
        answer = found["say"]
    if "empty" in found:
        answer = ""
    error = (
        re.fullmatch(r"(\d{3})(?: retry (\S+))?(?: after (\d+))?", found.get("error", "")) if "error" in found else None
    )
    return Script(
        text=answer,
        pause_ms=float(found["slow"] or _SLOW_MS) if "slow" in found else 0.0,
        tool="tool" in found,
        think="think" in found,
        error=int(error[1]) if error else (500 if "error" in found else 0),
        retry_after=(error[2] or "") if error else "",
        error_after=int(error[3]) if error and error[3] else None,
        garbage="garbage" in found,
        truncate="truncate" in found,
        hang="hang" in found,
    )


def plain_text(content: object) -> str:
    """The text of a message's content: a string, a list of parts with ``text``, or nothing."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return ""
