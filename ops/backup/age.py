"""age (https://age-encryption.org/v1): keys, and encryption of streams in bounded memory. Any ``age`` program opens what is written here."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import BinaryIO, Protocol

import pyrage
from django.conf import settings

from ops.backup.errors import BackupDamaged, BackupError, WrongKey

_BLOCK = 1 << 20
_AHEAD = 8  # decrypted blocks that wait to be read


def new_identity() -> tuple[str, str]:
    """A new key: (``AGE-SECRET-KEY-1…``, ``age1…``)."""
    identity = pyrage.x25519.Identity.generate()
    return str(identity), str(identity.to_public())


def recipients_of(identities: Iterable[str]) -> list[str]:
    """The public halves (``age1…``) of private keys. Raises ``BackupError`` for a text that is no key; the text is not repeated."""
    return [str(_identity(text).to_public()) for text in identities]


def fingerprint(recipient: str) -> str:
    """16 hexadecimal digits that name a key in lists, file headers and messages."""
    return hashlib.sha256(recipient.encode()).hexdigest()[:16]


def machine_identity() -> str:
    """The installation's own key (setting ``BACKUP_MACHINE_KEY``). Raises ``BackupError`` when there is none."""
    key: str = settings.BACKUP_MACHINE_KEY
    if not key:
        raise BackupError(
            "BACKUP_MACHINE_KEY is empty: set it to an age key, or remove it from the environment so that one is generated."
        )
    return key


def _identity(text: str) -> pyrage.x25519.Identity:
    try:
        return pyrage.x25519.Identity.from_str(text.strip())
    except (pyrage.IdentityError, ValueError) as exc:
        raise BackupError(
            "That is no private age key: it begins with AGE-SECRET-KEY-1 and is 74 characters long. "
            "Copy it whole, without the lines around it."
        ) from exc


class Sink(Protocol):
    """What can be written to."""

    def write(self, data: bytes, /) -> object:
        """Take all of it."""


class _Pulled:
    """What pyrage reads from: an iterator of blocks. Keeps the iterator's own exception, which pyrage would turn into a text."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")
        self.error: BaseException | None = None

    def read(self, size: int = -1) -> bytes:
        try:
            while not self._rest:
                self._rest = memoryview(next(self._blocks))
        except StopIteration:
            return b""
        except BaseException as exc:
            self.error = exc
            raise
        size = len(self._rest) if size < 0 else size
        given, self._rest = self._rest[:size], self._rest[size:]
        return bytes(given)


class _Gathered:
    """What pyrage writes to: small pieces become large ones. Keeps the target's own exception."""

    def __init__(self, target: Sink) -> None:
        self._target = target
        self._pieces: list[bytes] = []
        self._size = 0
        self.error: BaseException | None = None

    def write(self, data: bytes) -> int:
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= _BLOCK:
            self.flush()
        return len(data)

    def flush(self) -> None:
        data, self._pieces, self._size = b"".join(self._pieces), [], 0
        try:
            self._target.write(data)
        except BaseException as exc:
            self.error = exc
            raise


def encrypt(blocks: Iterable[bytes], target: Sink, recipients: Iterable[str]) -> None:
    """Write the blocks, encrypted to all recipients, to ``target``. Blocks are asked for as they are needed, in this thread.

    What the iterator or the target raises comes through as it is. Raises ``BackupError`` without recipients.
    """
    keys = [pyrage.x25519.Recipient.from_str(recipient) for recipient in recipients]
    if not keys:
        raise BackupError(
            "A backup without a key that opens it would be no backup: there is neither a machine key nor a recovery key."
        )
    source, sink = _Pulled(iter(blocks)), _Gathered(target)
    try:
        pyrage.encrypt_io(source, sink, keys)
        sink.flush()
    except (pyrage.EncryptError, OSError) as exc:
        raise source.error or sink.error or exc from None


class Decrypted:
    """A stream of what an age file holds, decrypted in a thread a few blocks ahead. Close it, or use it as a context manager.

    ``read`` raises ``WrongKey`` (no key fits) or ``BackupDamaged`` (a byte was changed, or the end is missing): every block is
    authenticated before it is given out.
    """

    def __init__(self, source: BinaryIO, identities: Iterable[str]) -> None:
        self._source = source
        self._identities = [_identity(text) for text in identities]
        if not self._identities:
            raise WrongKey("No key was given. Give the recovery key (AGE-SECRET-KEY-1…) of this backup.")
        self._blocks: queue.Queue[bytes | BaseException | None] = queue.Queue(_AHEAD)
        self._given_up = threading.Event()
        self._block = memoryview(b"")
        self._ended: BaseException | bool = False
        self._pieces: list[bytes] = []
        self._size = 0
        self._thread = threading.Thread(target=self._work, name="backup-decrypt", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            pyrage.decrypt_io(self._source, self, self._identities)
            self._put(b"".join(self._pieces))
            self._put(None)
        except BaseException as exc:
            # Whoever closed it before its end hears nothing more.
            with suppress(BrokenPipeError):
                self._put(exc)

    def _put(self, item: bytes | BaseException | None) -> None:
        while not self._given_up.is_set():
            try:
                return self._blocks.put(item, timeout=0.2)
            except queue.Full:
                continue
        raise BrokenPipeError("nobody reads any more")

    def write(self, data: bytes) -> int:
        """pyrage's side: take a decrypted piece."""
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= _BLOCK:
            block, self._pieces, self._size = b"".join(self._pieces), [], 0
            self._put(block)
        return len(data)

    def flush(self) -> None:
        """pyrage's side: nothing to do."""

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes, fewer only at the end."""
        parts: list[bytes] = []
        wanted = size if size >= 0 else 1 << 62
        while wanted > 0:
            if not self._block:
                self._next()
                if not self._block:
                    break
            given, self._block = self._block[:wanted], self._block[wanted:]
            parts.append(bytes(given))
            wanted -= len(given)
        return b"".join(parts)

    def _next(self) -> None:
        while not self._ended:
            item = self._blocks.get()
            if item is None:
                self._ended = True
            elif isinstance(item, BaseException):
                self._ended = _explained(item)
            elif item:
                self._block = memoryview(item)
                return
        if isinstance(self._ended, BaseException):
            raise self._ended

    def close(self) -> None:
        """End the thread. The source is left open."""
        self._given_up.set()
        self._thread.join(10)

    def __enter__(self) -> Decrypted:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _explained(error: BaseException) -> BaseException:
    """pyrage's errors in our words; others as they are."""
    text = str(error)
    if isinstance(error, pyrage.DecryptError) and "No matching keys" in text:
        return WrongKey("None of the keys at hand opens this backup.")
    if isinstance(error, pyrage.DecryptError) or (isinstance(error, OSError) and error.errno is None):
        return BackupDamaged(
            f"The encrypted part is damaged or cut off ({text}): it is not what was written. Use another copy of this backup."
        )
    return error
