"""Keys that open backups: made, proven by whoever keeps them, retired. The private halves are kept nowhere here.

A backup can be opened by the keys that were confirmed when it was made, and by the machine key. A key that is confirmed later, or retired,
changes nothing about backups that lie somewhere already.
"""

from __future__ import annotations

import io

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from ops.models.backup import BackupKey
from ops.redaction import add_secret
from ops.services import audit

_TEST = b"This is a test file of Switchboard. Whoever reads it has the right key.\n"


def key_new(*, label: str, actor: str) -> tuple[BackupKey, str]:
    """Make a key; returns the row and the private half (``AGE-SECRET-KEY-1…``), which is shown once and must be confirmed."""
    from pyrage import x25519

    identity = x25519.Identity.generate()
    secret = str(identity)
    add_secret(secret)
    return _add(label, str(identity.to_public()), actor, "backupkey.made"), secret


def key_add(*, label: str, recipient: str, actor: str) -> BackupKey:
    """Take a public half (``age1…``) that somebody made elsewhere (``age-keygen``). It counts only when confirmed."""
    return _add(label, recipient.strip(), actor, "backupkey.added")


def _add(label: str, recipient: str, actor: str, action: str) -> BackupKey:
    from pyrage import RecipientError, x25519

    label = label.strip()
    problems: dict[str, list[str]] = {}
    if not label:
        problems["label"] = ["Say whose key it is, or where it is kept."]
    if len(label) > 100:
        problems["label"] = ["A label has at most 100 characters."]
    try:
        x25519.Recipient.from_str(recipient)
    except RecipientError:
        hint = " This is the secret half: keep it to yourself, and give the half that begins with age1." * (
            recipient.upper().startswith("AGE-SECRET-KEY")
        )
        problems["recipient"] = [f"That is no public key of age (age1…).{hint}"]
    if problems:
        raise ValidationError(problems)
    from ops.backup import age

    with transaction.atomic():
        if BackupKey.objects.filter(recipient=recipient).exists():
            raise ValidationError({"recipient": ["This key is known already."]})
        key = BackupKey.objects.create(
            label=label, recipient=recipient, fingerprint=age.fingerprint(recipient), created_by=actor[:255]
        )
        audit.record(actor=actor, action=action, target=key, after={"fingerprint": key.fingerprint})
    return key


def key_confirm(*, key: BackupKey, secret: str, actor: str) -> BackupKey:
    """Prove that somebody has the private half: a test file is encrypted to the key and opened with what was typed.

    Raises ``ValidationError`` when it does not open it. The secret is kept nowhere.
    """
    import pyrage
    from pyrage import x25519

    secret = "".join(secret.split()).upper()
    add_secret(secret)
    sealed, opened = io.BytesIO(), io.BytesIO()
    pyrage.encrypt_io(io.BytesIO(_TEST), sealed, [x25519.Recipient.from_str(key.recipient)])
    sealed.seek(0)
    try:
        pyrage.decrypt_io(sealed, opened, [x25519.Identity.from_str(secret)])
    except pyrage.IdentityError:
        raise ValidationError(
            {"secret": ["That is no secret key of age (AGE-SECRET-KEY-1…, 74 characters)."]}
        ) from None
    except pyrage.DecryptError:
        raise ValidationError(
            {"secret": [f"This key does not open what is sealed for {key.label} ({key.fingerprint})."]}
        ) from None
    if opened.getvalue() != _TEST:
        raise ValidationError({"secret": ["The test file came out as something else. Make another key."]})
    with transaction.atomic():
        row = BackupKey.objects.select_for_update().get(pk=key.pk)
        if row.retired_at is not None:
            raise ValidationError({"secret": [f"{row.label} is retired. Make another key."]})
        if row.confirmed_at is None:
            row.confirmed_at = timezone.now()
            row.save(update_fields=["confirmed_at"])
            audit.record(actor=actor, action="backupkey.confirmed", target=row, after={"fingerprint": row.fingerprint})
    key.confirmed_at = row.confirmed_at
    return row


def key_retire(*, key: BackupKey, actor: str) -> BackupKey:
    """No new backup is made for it. Those that lie somewhere already it still opens: only removing them changes that."""
    with transaction.atomic():
        row = BackupKey.objects.select_for_update().get(pk=key.pk)
        if row.retired_at is None:
            row.retired_at = timezone.now()
            row.save(update_fields=["retired_at"])
            audit.record(actor=actor, action="backupkey.retired", target=row, after={"fingerprint": row.fingerprint})
    key.retired_at = row.retired_at
    return row


def usable_keys() -> list[BackupKey]:
    """Keys for which the next backup is made: confirmed and not retired."""
    return list(BackupKey.objects.filter(confirmed_at__isnull=False, retired_at=None).order_by("id"))


def recipients() -> list[str]:
    """Public keys for the next backup: this machine's own, and those of everybody who keeps a recovery key."""
    from ops.backup import age

    machine = age.recipients_of([age.machine_identity()])
    return list(dict.fromkeys([*machine, *(key.recipient for key in usable_keys())]))


def warning() -> str:
    """What to say while nobody keeps a key; "" when somebody does."""
    if usable_keys():
        return ""
    if BackupKey.objects.filter(retired_at=None).exists():
        return "No recovery key is confirmed: if this machine is lost, nobody can open its backups. Type back the key that was made."
    return "There is no recovery key: if this machine is lost, nobody can open its backups. Make one: python manage.py backup key new"


def kept_after_retiring(key: BackupKey) -> str:
    """What becomes of older backups when a key is retired, for the page that asks."""
    from ops.models.backup import Backup
    from ops.words import counted

    # A list in JSON: looked through here, since not every database can search in it.
    count = sum(
        1 for known in Backup.objects.values_list("recipients", flat=True).iterator() if key.fingerprint in known
    )
    if not count:
        return "No backup is known that it opens."
    return f"It still opens {counted(count, 'backup')} that were made for it. To end that as well, make a new backup and remove the older ones."
