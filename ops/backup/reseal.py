"""After a restore every secret is written with this installation's newest key, and what cannot be opened is named.

Rows of another installation's backup come with its keys, which are added to the ring (``controlplane.backup_files``); processes that run
know theirs only. Encrypted fields, second factors and the stores of encrypted rooms alike: whatever ``ops.secret_rotation.rotate`` reaches.
"""

from __future__ import annotations

from typing import Any

from ops.backup.hooks import Reconcile, register_reconcile
from ops.findings import Finding
from ops.secret_rotation import rotate
from ops.words import counted, verb


def reseal(work: Reconcile) -> dict[str, Any]:
    """Returns ``{"sentence", "rewritten", "unreadable": {field: [primary keys]}}``."""
    work.progress("Looking through secrets")
    counts = rotate()
    rewritten = sum(count.rotated for count in counts)
    broken = {count.label: list(count.broken) for count in counts if count.unreadable}
    for label, keys in broken.items():
        shown = ", ".join(keys[:10]) + (" …" if len(keys) > 10 else "")
        work.say(
            Finding(
                "warning",
                "restore.secret_unreadable",
                f"{counted(len(keys), 'secret')} of {label} cannot be opened ({shown}): the key that wrote {verb(len(keys), 'it', 'them')} is not among "
                "FIELD_ENCRYPTION_KEYS. Put that key back behind the newest one, or enter the secrets again.",
                label,
                {"rows": keys[:200]},
            )
        )
    unreadable = sum(len(keys) for keys in broken.values())
    sentence = (
        f"{counted(rewritten, 'secret')} written anew with the newest key."
        if rewritten
        else "All secrets are written with the newest key."
    )
    if unreadable:
        sentence += f" {counted(unreadable, 'secret')} cannot be opened."
    return {"sentence": sentence, "rewritten": rewritten, "unreadable": broken}


register_reconcile("Secrets", reseal)
