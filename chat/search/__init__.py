"""Finding what was said: titles and texts of a person's own conversations, on SQLite and PostgreSQL alike.

A term is found wherever it stands, within words too, in any alphabet, whatever its case. ``wish`` reads what somebody typed, ``index`` keeps
the databases' indexes of parts of words, ``find`` looks, ``snippets`` shows the place.
"""
