"""Which settings there are, where their values come from, and whether they can be used.

The settings themselves are described by the app that assembles the others; it hands them over (``schema.register``).
"""
