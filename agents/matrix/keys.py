"""The keys in an event's content that both what we send and what we read know."""

from __future__ import annotations

# What we send carries this key, so that an event of ours is known as ours wherever it comes back from.
MARKER = "switchboard"
# Set by Letta-Matrix on the history it copied into a room: such an event is not something newly said.
HISTORICAL = "m.letta_historical"
HTML_FORMAT = "org.matrix.custom.html"
