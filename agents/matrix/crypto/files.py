"""Files of encrypted rooms: the homeserver stores what it cannot read, the event holds the key (client-server API, "Sending encrypted
attachments")."""

from __future__ import annotations

from typing import Any

from agents.matrix.errors import Refused


def sealed(data: bytes) -> tuple[bytes, dict[str, Any]]:
    """What to upload in place of a file, and what the event says of it besides the address."""
    from nio.crypto.attachments import encrypt_attachment

    return encrypt_attachment(data)


def opened(data: bytes, file: dict[str, Any]) -> bytes:
    """The file that was sealed with what an event's ``file`` says. Raises ``Refused`` when it is not the one that was sent."""
    from nio.crypto.attachments import decrypt_attachment
    from nio.exceptions import EncryptionError

    try:
        return bytes(decrypt_attachment(data, file["key"]["k"], file["hashes"]["sha256"], file["iv"]))
    except (EncryptionError, KeyError, TypeError, ValueError) as error:
        raise Refused(
            "it cannot be decrypted with the key that came with it", action="open an encrypted file"
        ) from error


def has_key(file: object) -> bool:
    """Whether an event's ``file`` holds all that is needed to open it."""
    if not isinstance(file, dict):
        return False
    key, hashes = file.get("key"), file.get("hashes")
    return (
        isinstance(key, dict)
        and isinstance(key.get("k"), str)
        and isinstance(hashes, dict)
        and isinstance(hashes.get("sha256"), str)
        and isinstance(file.get("iv"), str)
    )
