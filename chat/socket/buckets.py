"""How fast somebody may go on."""

from __future__ import annotations

import time


class Bucket:
    """A token bucket: ``rate`` a second without end, ``burst`` at once."""

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst, self._left, self._at = rate, burst, burst, time.monotonic()

    @property
    def is_rested(self) -> bool:
        """Whether half of the burst is there again: whoever was refused has paused since."""
        return self._left * 2 >= self._burst

    def take(self) -> float:
        """0 when one may go on, else the seconds to wait. A refusal takes nothing."""
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left >= 1:
            self._left -= 1
            return 0.0
        return max(0.01, (1 - self._left) / self._rate)
