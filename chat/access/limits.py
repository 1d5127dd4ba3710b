"""How often somebody may try: for each address, for each account, and for all together.

Counters of fixed windows in Django's cache, raised atomically, so that all processes that share the cache count as one. An attempt is
counted before it is made and given back when it succeeds. The counter for all comes first: once it is full, no counters of new
addresses and accounts are made any more, so that a flood from a million addresses fills no memory.

A browser in which this person signed in before (``chat.access.devices``) has counters of its own, so that nobody is locked out of
their account by other people's guesses at it.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field

from django.core.cache import cache

from chat.access.client import network_of


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``amount`` in ``seconds``."""

    amount: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Rates:
    """The limits of one action; an account may be anything that is guessed at: a name, an e-mail, a person's id."""

    all: Rate
    address: Rate
    account: Rate
    # For each browser that the account knows.
    known: Rate = Rate(10, 600)


RATES: dict[str, Rates] = {
    "sign_in": Rates(all=Rate(600, 60), address=Rate(30, 300), account=Rate(10, 600)),
    "code": Rates(all=Rate(300, 60), address=Rate(20, 300), account=Rate(6, 600)),
    "invite": Rates(all=Rate(300, 60), address=Rate(20, 600), account=Rate(20, 600)),
    "register": Rates(all=Rate(200, 60), address=Rate(100, 3600), account=Rate(20, 3600)),
    "reset": Rates(all=Rate(100, 60), address=Rate(20, 3600), account=Rate(4, 3600)),
}


class Limited(Exception):
    """Too many attempts. ``retry_after`` is in seconds, ``scope`` what was full: ``all``, ``address``, ``account`` or ``known``."""

    code = "access.limited"

    def __init__(self, retry_after: int, scope: str = "all") -> None:
        super().__init__(f"Too many attempts. Try again in {retry_after} seconds.")
        self.retry_after = retry_after
        self.scope = scope


@dataclass(slots=True)
class Taken:
    """An attempt that was counted; ``give_back`` when it was none (it succeeded)."""

    keys: list[str] = field(default_factory=list)

    def give_back(self) -> None:
        """Count it no longer. Counters that ended meanwhile stay ended."""
        for key in self.keys:
            try:
                cache.decr(key)
            except ValueError:
                continue
        self.keys.clear()


def take(action: str, *, address: str = "", account: str = "", device: str = "") -> Taken:
    """Count one attempt. Raises ``Limited`` when any of its counters is full; then nothing of it stays counted.

    ``address`` is an IP address, ``account`` what is guessed at (compared without regard to case), ``device`` the id of a browser that
    this account knows: only its own counter counts then.
    """
    rates = RATES[action]
    if device:
        wanted = [("known", f"{account.casefold()}|{device}", rates.known)]
    else:
        wanted = [("all", "", rates.all)]
        if address:
            wanted.append(("address", network_of(address), rates.address))
        if account:
            wanted.append(("account", account.casefold(), rates.account))
    taken = Taken()
    for scope, value, rate in wanted:
        key, left = _window(action, scope, value, rate)
        if _raise(key, rate.seconds) > rate.amount:
            taken.keys.append(key)
            taken.give_back()
            raise Limited(left, scope)
        taken.keys.append(key)
    return taken


def _window(action: str, scope: str, value: str, rate: Rate) -> tuple[str, int]:
    """(the counter's key, seconds until its window ends)."""
    now = time.time()
    number = int(now // rate.seconds)
    digest = hashlib.sha256(value.encode(errors="replace")).hexdigest()[:32] if value else ""
    return f"limit:{action}:{scope}:{digest}:{number}", max(1, int((number + 1) * rate.seconds - now) + 1)


def _raise(key: str, seconds: int) -> int:
    # The key names its window, so a counter may outlive it: only a late clock would notice one that went too early.
    kept = 2 * seconds + 60
    cache.add(key, 0, timeout=kept)
    try:
        return int(cache.incr(key))
    except ValueError:
        # It went between the two calls: the window ended, or the cache was emptied.
        cache.add(key, 0, timeout=kept)
        return int(cache.incr(key))
