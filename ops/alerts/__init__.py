"""Alerts: operators are told of issues where they are, once each, and again when it is over.

Rows are the truth here too: what is to be told follows from the issues and from what was told already, so whoever dies in between
loses nothing. ``rules`` decides (pure), ``queue`` writes the messages down, ``send`` sends them, ``transports`` knows how,
``outward`` pings a dead-man switch, ``watch`` stands in for the workers while there are none.
"""
