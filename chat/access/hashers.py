"""Passwords that came from Portagent: checked as it stored them, and stored in Django's own way at the next sign-in.

The password hash in the database is Portagent's text behind our algorithm's name; nothing is hashed again while it is imported.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from typing import Any

import bcrypt
from django.contrib.auth.hashers import BasePasswordHasher, mask_hash
from django.utils.crypto import pbkdf2
from django.utils.encoding import force_bytes

BCRYPT = "portagent_bcrypt"
PBKDF2 = "portagent_pbkdf2"

_BCRYPT_FORM = re.compile(r"\$2[abxy]?\$(?P<cost>\d\d)\$[./A-Za-z0-9]{53}\Z")
# What bcrypt looks at; the library refuses anything longer.
_BCRYPT_BYTES = 72
_ITERATIONS = 100_000
_SALT_BYTES, _KEY_BYTES = 16, 32
# Above this a hostile database could keep a processor busy for minutes at each sign-in.
_MOST_COST = 15


class PortagentBcryptHasher(BasePasswordHasher):
    """Portagent 1.9: bcrypt with cost 10. Stored as ``portagent_bcrypt$<bcrypt's own text>``.

    Bun, on which Portagent ran, gives bcrypt the SHA-512 of a password longer than 72 bytes; bcryptjs cuts it there. Both count.
    """

    algorithm = BCRYPT

    def encode(self, password: str, salt: Any) -> str:
        """``salt`` is bcrypt's (``$2b$10$…``), as text or bytes."""
        hashed = bcrypt.hashpw(_cut(password.encode()), force_bytes(salt))
        return f"{self.algorithm}${hashed.decode('ascii')}"

    def salt(self) -> str:
        return bcrypt.gensalt(10).decode("ascii")

    def verify(self, password: str, encoded: str) -> bool:
        stored = _standard(encoded.partition("$")[2])
        given = password.encode()
        candidates = [_cut(given)]
        if len(given) > _BCRYPT_BYTES:
            candidates.append(hashlib.sha512(given).digest())
        try:
            return any(hmac.compare_digest(bcrypt.hashpw(one, stored), stored) for one in candidates)
        except ValueError:
            return False

    def decode(self, encoded: str) -> dict[str, Any]:
        algorithm, _, stored = encoded.partition("$")
        _, version, cost, rest = stored.split("$", 3)
        return {
            "algorithm": algorithm,
            "algostr": version,
            "work_factor": int(cost),
            "salt": rest[:22],
            "checksum": rest[22:],
        }

    def safe_summary(self, encoded: str) -> dict[Any, Any]:
        parts = self.decode(encoded)
        return {
            "algorithm": parts["algorithm"],
            "work factor": parts["work_factor"],
            "salt": mask_hash(parts["salt"]),
            "checksum": mask_hash(parts["checksum"]),
        }

    def must_update(self, encoded: str) -> bool:
        return True

    def harden_runtime(self, password: str, encoded: str) -> None:
        """Nothing to even out: such a password is checked once, and then stored in Django's own way."""


class PortagentPBKDF2Hasher(BasePasswordHasher):
    """Portagent 2.x: PBKDF2-SHA256, 100,000 rounds. Stored as ``portagent_pbkdf2$<base64 salt>$<base64 hash>``."""

    algorithm = PBKDF2

    def encode(self, password: str, salt: Any) -> str:
        """``salt`` is base64 text."""
        key = pbkdf2(password, base64.b64decode(salt), _ITERATIONS, dklen=_KEY_BYTES, digest=hashlib.sha256)
        return f"{self.algorithm}${salt}${base64.b64encode(key).decode('ascii')}"

    def salt(self) -> str:
        return base64.b64encode(secrets.token_bytes(_SALT_BYTES)).decode("ascii")

    def verify(self, password: str, encoded: str) -> bool:
        parts = self.decode(encoded)
        try:
            return hmac.compare_digest(self.encode(password, parts["salt"]), encoded)
        except binascii.Error:
            return False

    def decode(self, encoded: str) -> dict[str, Any]:
        algorithm, salt, key = encoded.split("$", 2)
        return {"algorithm": algorithm, "salt": salt, "hash": key, "iterations": _ITERATIONS}

    def safe_summary(self, encoded: str) -> dict[Any, Any]:
        parts = self.decode(encoded)
        return {
            "algorithm": parts["algorithm"],
            "iterations": parts["iterations"],
            "salt": mask_hash(parts["salt"]),
            "hash": mask_hash(parts["hash"]),
        }

    def must_update(self, encoded: str) -> bool:
        return True

    def harden_runtime(self, password: str, encoded: str) -> None:
        """Nothing to add, see above."""


def of_portagent(stored: str) -> str | None:
    """Portagent's stored hash as a password of ours; ``None`` when it has neither of its two forms."""
    bcrypt_form = _BCRYPT_FORM.match(stored)
    if bcrypt_form is not None:
        return f"{BCRYPT}${stored}" if 4 <= int(bcrypt_form["cost"]) <= _MOST_COST else None
    salt, colon, key = stored.partition(":")
    try:
        fits = (
            len(base64.b64decode(salt, validate=True)) > 0 and len(base64.b64decode(key, validate=True)) == _KEY_BYTES
        )
    except (binascii.Error, ValueError):
        return None
    return f"{PBKDF2}${salt}${key}" if colon and fits else None


def _cut(password: bytes) -> bytes:
    return password[:_BCRYPT_BYTES]


def _standard(stored: str) -> bytes:
    """bcrypt's text with a prefix that the library takes: those of other makers mean the same."""
    return re.sub(r"^\$2[xy]?\$", "$2b$", stored).encode("ascii", "replace")
