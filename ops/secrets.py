"""Secrets at rest: model fields that are encrypted in the database. All of them at once: ``ops.secret_columns``, ``ops.secret_rotation``.

Format of a stored value: ``enc1:`` and a Fernet token made with the newest of ``settings.FIELD_ENCRYPTION_KEYS``; an empty
value is stored as an empty text and needs no key. A value is decrypted when it is read from the row, not when the row is loaded:
a list of rows stays readable when one of them was written with a key that is gone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import FieldError, ImproperlyConfigured
from django.db import models
from django.db.models.query_utils import DeferredAttribute

from ops.logs import add_secret
from ops.redaction import SHORTEST_SECRET, is_secret_name

MARK = "enc1:"


class SecretUnreadable(Exception):
    """A stored secret cannot be decrypted. The text names the row and the field, never the value."""


class SecretDict(dict[str, Any]):
    """A dict that does not show its values in ``repr`` and ``str``."""

    def __repr__(self) -> str:
        return f"<{len(self)} secret values>" if self else "{}"

    __str__ = __repr__


class SecretStr(str):
    """A text that does not show itself in ``repr``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<secret text>" if self else "''"


@dataclass(frozen=True, slots=True, repr=False)
class Sealed:
    """A value as it lies in the database: not decrypted yet."""

    stored: str

    def __repr__(self) -> str:
        return "<encrypted>"


@lru_cache(maxsize=4)
def _cipher(keys: tuple[str, ...]) -> MultiFernet:
    if not keys:
        raise ImproperlyConfigured("FIELD_ENCRYPTION_KEYS is empty: secrets can be neither written nor read.")
    return MultiFernet([Fernet(key) for key in keys])


def cipher() -> MultiFernet:
    """The cipher for the present ``settings.FIELD_ENCRYPTION_KEYS``, newest key first."""
    return _cipher(tuple(settings.FIELD_ENCRYPTION_KEYS))


def _seal(plain: str) -> str:
    return MARK + cipher().encrypt(plain.encode()).decode()


def _open(stored: str) -> str:
    return cipher().decrypt(stored.removeprefix(MARK).encode()).decode()


def can_open(stored: str) -> bool:
    """Whether a present key opens a stored text."""
    try:
        _open(stored)
    except InvalidToken:
        return False
    return True


def seal_text(plain: str) -> str:
    """The encrypted form of a text that lies inside a value that somebody else's model keeps. Who uses it registers a rotation."""
    return _seal(plain)


def unseal_text(stored: str) -> str:
    """The text that ``seal_text`` encrypted. Raises ``SecretUnreadable`` when no present key fits."""
    try:
        return _open(stored)
    except InvalidToken:
        raise SecretUnreadable(
            "A secret was written with a key that is missing from FIELD_ENCRYPTION_KEYS. Put that key back behind the newest one."
        ) from None


class _SecretAttribute(DeferredAttribute):
    """Decrypts when the attribute is read, when the row's identity is at hand for the error."""

    field: EncryptedField

    def __get__(self, instance: models.Model | None, cls: Any = None) -> Any:
        if instance is None:
            return self
        value = super().__get__(instance, cls)
        if isinstance(value, Sealed):
            value = self.field.unseal(value, instance)
            instance.__dict__[self.field.attname] = value
        return value

    def __set__(self, instance: models.Model, value: Any) -> None:
        instance.__dict__[self.field.attname] = self.field.wrap(value)


class EncryptedField(models.TextField):
    """Base of the encrypted fields: stored as text, opaque to filters and orderings."""

    descriptor_class = _SecretAttribute
    # Whether everything in it is a secret that logs must hide, or only what is named like one.
    all_secret = True

    def wrap(self, value: Any) -> Any:
        """The value in a form that does not show itself."""
        raise TypeError(f"{type(self).__name__} must say how a value is kept.")

    def dump(self, value: Any) -> str:
        """The text to encrypt, "" for an empty value."""
        raise TypeError(f"{type(self).__name__} must say how a value becomes text.")

    def load(self, text: str) -> Any:
        """The value that ``dump`` made into text."""
        raise TypeError(f"{type(self).__name__} must say how a text becomes a value.")

    def unseal(self, sealed: Sealed, instance: models.Model) -> Any:
        """Raises ``SecretUnreadable`` when no present key fits."""
        try:
            value = self.wrap(self.load(_open(sealed.stored)))
        except InvalidToken:
            where = f"{instance._meta.label} {instance.pk}, field {self.name}"
            raise SecretUnreadable(
                f"{where}: the key that wrote it is missing from FIELD_ENCRYPTION_KEYS. "
                "Put that key back behind the newest one, or enter the secret again."
            ) from None
        remember(value, all_secret=self.all_secret)
        return value

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> Any:
        if value is None:
            return None
        return Sealed(value) if value.startswith(MARK) else self.wrap(self.load(value))

    def to_python(self, value: Any) -> Any:
        if isinstance(value, str) and value.startswith(MARK):
            return Sealed(value)
        return self.wrap(value)

    def get_prep_value(self, value: Any) -> Any:
        if value is None:
            return None
        if isinstance(value, Sealed):
            return value.stored
        remember(value, all_secret=self.all_secret)
        text = self.dump(value)
        return _seal(text) if text else ""

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        # Not through the descriptor: saving a row must work although a secret in it, untouched, cannot be read.
        if self.attname in model_instance.__dict__:
            return model_instance.__dict__[self.attname]
        return super().pre_save(model_instance, add)

    def value_from_object(self, obj: models.Model) -> Any:
        return getattr(obj, self.attname)

    def value_to_string(self, obj: models.Model) -> str:
        """What serializers (``dumpdata``) get: the encrypted text."""
        stored = self.get_prep_value(obj.__dict__.get(self.attname, self.get_default()))
        return stored or ""

    def get_lookup(self, lookup_name: str) -> Any:
        if lookup_name != "isnull":
            raise FieldError(f"{self.name} is encrypted: it cannot be searched or compared in the database.")
        return super().get_lookup(lookup_name)


class EncryptedTextField(EncryptedField):
    """A text that is encrypted in the database. ``all_secret=False``: a document that holds secrets, which is none as a whole."""

    def __init__(self, *args: Any, all_secret: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.all_secret = all_secret

    def wrap(self, value: Any) -> Any:
        if value is None or isinstance(value, (Sealed, SecretStr)) or not isinstance(value, str):
            return value
        return SecretStr(value)

    def dump(self, value: Any) -> str:
        return str.__str__(value)

    def load(self, text: str) -> str:
        return text


class EncryptedJSONField(EncryptedField):
    """A JSON object that is encrypted in the database as a whole.

    ``all_secret=False``: it may hold secrets among ordinary words (the parameters of a repair). Of these only what is named like
    a secret is hidden in logs; hiding the rest would make names of agents and loggers unreadable everywhere.
    """

    def __init__(self, *args: Any, all_secret: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.all_secret = all_secret

    # For the type checker: what the attribute takes and gives.
    _pyi_private_set_type: Any
    _pyi_private_get_type: Any

    def wrap(self, value: Any) -> Any:
        return SecretDict(value) if isinstance(value, dict) and not isinstance(value, SecretDict) else value

    def dump(self, value: Any) -> str:
        return json.dumps(value, sort_keys=True) if value not in ({}, "") else ""

    def load(self, text: str) -> Any:
        return json.loads(text) if text else {}

    def formfield(self, **kwargs: Any) -> Any:
        from django import forms

        return super().formfield(**{"form_class": forms.JSONField, **kwargs})


# Parts of credentials that are no secret; hiding "admin" everywhere would make logs unreadable.
_OPEN_PARTS = frozenset(
    {
        *("username", "user", "user_id", "login", "name", "email"),
        *("url", "base_url", "homeserver", "device_id", "organization", "project"),
    }
)


def remember(value: Any, *, all_secret: bool = True) -> None:
    """Let logs hide a secret that was read or written; of a mapping, all but its open parts, or only what is named like a secret."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if all_secret and str(name).lower() not in _OPEN_PARTS:
                remember(inner)
            elif not all_secret and (isinstance(inner, (Mapping, list)) or is_secret_name(str(name))):
                remember(inner, all_secret=is_secret_name(str(name)))
    elif isinstance(value, list):
        for inner in value:
            remember(inner, all_secret=all_secret)
    elif not all_secret:
        return
    elif isinstance(value, str) and len(value) >= SHORTEST_SECRET:
        add_secret(str.__str__(value))
