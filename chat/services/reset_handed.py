"""Notes that an operator has seen to somebody who could not get in."""

from __future__ import annotations

from chat.models import AccessAttempt, AttemptKind, Person

HANDED = "handed"


def reset_handed(*, person: Person) -> AccessAttempt:
    """From now on earlier failures of this person count no longer for the doctor. The link itself is in the audit log, unread."""
    return AccessAttempt.objects.create(
        kind=AttemptKind.RESET, outcome=HANDED, name=person.get_username(), person=person
    )
