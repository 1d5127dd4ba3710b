"""The Matrix protocol layer: plain values in and out, no database, no settings.

``client`` speaks to a homeserver as an appservice, ``markdown``/``split``/``content`` turn an agent's text into events and read
events back, ``names`` and ``registration`` say which accounts and aliases are ours, ``admin`` looks after users and rooms of a server.
"""
