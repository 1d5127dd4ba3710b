"""End-to-end encryption of our accounts in client mode: each has a device of its own, whose keys lie in ``DATA_DIR/crypto``.

Why it is built like this:

* **nio's Olm machine, no ``AsyncClient``.** :class:`nio.crypto.Olm` (over vodozemac) is the protocol without any input or output. Our
  transport is synchronous, has the sessions of all accounts, and is what deliveries already retry over; an ``AsyncClient`` for each
  account would bring a second session, a second sync loop and an event loop into each worker.
* **A store of our own** (:mod:`.vault`) in place of nio's. Nio's binds its tables to one database for the whole process, so two
  accounts in two threads would write into each other's files; it reads every key into memory when it is opened; and it forgets, at
  each start, the sessions that we encrypt with and whose devices are known. Ours is one SQLite file for each account, read as
  needed, and written in one transaction an operation: a killed process leaves it as it was before.
* **One at a time.** A ratchet that two processes turn is broken, so every operation holds an exclusive lock on a file beside the
  store (``flock``: released by the kernel when its holder dies, and held inside transactions as well, where a lock on a row cannot be).
  Who comes next sees that the file changed and forgets what it remembered.
* **Trust on first use.** Every device of every member is encrypted to, and its signing key is pinned when it is first seen: a key
  that changes under the same device is not believed. Nothing is verified by hand: there is nobody on our side to compare
  emoji with.

The operator's account is in every room: its device reads. Each agent's own device encrypts what the agent says.
"""
