"""What can be wrong with our own keys."""

from __future__ import annotations

from agents.matrix.errors import HomeserverUnreachable, MatrixError


class KeysUnusable(MatrixError):
    """The account's keys cannot be used; the message says why and what to do. Tried again, since an operator may mend it meanwhile."""

    retryable = True

    @property
    def sentence(self) -> str:
        return self.message


class KeysBusy(HomeserverUnreachable):
    """Another process uses the account's keys just now, or knows newer ones. Nothing is wrong with them; the same call works in a moment."""

    @property
    def sentence(self) -> str:
        return self.message
