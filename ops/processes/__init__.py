"""The long-running processes of this installation: each reports itself in a row of its own, and ends when it is asked to.

``reporter`` is the thread that does both, ``facts`` and ``usage`` are what it says, ``queries`` is what others read from it, and
``services`` writes on their behalf. The checks and repairs built on it are in ``ops.doctor_services``.
"""
