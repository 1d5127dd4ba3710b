"""What can be wrong with our own keys."""

from __future__ import annotations

from agents.matrix.errors import MatrixError


class KeysUnusable(MatrixError):
    """The account's keys cannot be used; the message says why and what to do. Tried again, since an operator may mend it meanwhile."""

    retryable = True

    @property
    def sentence(self) -> str:
        return self.message
