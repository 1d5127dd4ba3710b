"""Settings that change while everything runs: an operator's value in the database wins over the environment's.

Read through a cache of two seconds, so that the hot paths may ask as often as they like and every process follows within moments.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from ops.logs import get_logger
from ops.models import LiveSetting
from ops.services import audit

logger = get_logger(__name__)

CACHE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class LiveOption:
    """A setting that may change live. ``parse`` turns what was given into the value, or raises ``ValueError`` with a sentence;
    ``default`` is the environment's value."""

    key: str
    label: str
    help: str
    parse: Callable[[Any], Any]
    default: Callable[[], Any]


_options: dict[str, LiveOption] = {}
_cache: dict[str, tuple[Any, datetime | None]] = {}
_read_at = float("-inf")
_lock = threading.Lock()


def register_live(
    key: str, *, label: str, help: str, parse: Callable[[Any], Any], default: Callable[[], Any]
) -> LiveOption:
    """Make a setting changeable while everything runs."""
    _options[key] = LiveOption(key, label, help, parse, default)
    return _options[key]


def live_options() -> list[LiveOption]:
    """All settings that may change live, by key."""
    return [_options[key] for key in sorted(_options)]


def live(key: str) -> Any:
    """The value that counts now: the operator's unless it expired, else the environment's. ``KeyError`` for an unknown key."""
    option = _options[key]
    row = _rows().get(key)
    if row is None or (row[1] is not None and row[1] <= timezone.now()):
        return option.default()
    try:
        return option.parse(row[0])
    except ValueError:
        logger.warning("live_setting_unusable", key=key)
        return option.default()


def live_row(key: str) -> LiveSetting | None:
    """The operator's row when it counts, for pages that say who changed it and until when."""
    row = LiveSetting.objects.filter(pk=key).first()
    return None if row is None or (row.expires_at is not None and row.expires_at <= timezone.now()) else row


def live_set(*, key: str, value: Any, actor: str, expires_at: datetime | None = None) -> LiveSetting:
    """Set an operator's value. Raises ``ValidationError`` with a sentence for a key or value that cannot be used."""
    option = _options.get(key)
    if option is None:
        raise ValidationError(f"{key} cannot be changed while Switchboard runs; set it in the environment and restart.")
    try:
        parsed = option.parse(value)
    except ValueError as error:
        raise ValidationError({key: [str(error)]}) from None
    if expires_at is not None and expires_at <= timezone.now():
        raise ValidationError({key: ["It would have expired already."]})
    with transaction.atomic():
        before = live_row(key)
        row, _ = LiveSetting.objects.update_or_create(
            key=key, defaults={"value": parsed, "expires_at": expires_at, "changed_by": actor[:255]}
        )
        audit.record(
            actor=actor,
            action="setting.changed",
            target=f"setting:{key}",
            before={key: before.value if before is not None else None},
            after={key: parsed, "expires_at": expires_at},
        )
    forget()
    return row


def live_clear(*, key: str, actor: str) -> bool:
    """Go back to the environment's value. False: there was nothing to take back."""
    with transaction.atomic():
        row = LiveSetting.objects.filter(pk=key).first()
        if row is None:
            return False
        audit.record(
            actor=actor, action="setting.cleared", target=f"setting:{key}", before={key: row.value}, after={key: None}
        )
        row.delete()
    forget()
    return True


def forget() -> None:
    """Read the rows anew at the next question: after a change, and between tests."""
    global _read_at
    _read_at = float("-inf")


def _rows() -> dict[str, tuple[Any, datetime | None]]:
    global _cache, _read_at
    if time.monotonic() - _read_at < CACHE_SECONDS:
        return _cache
    with _lock:
        if time.monotonic() - _read_at < CACHE_SECONDS:
            return _cache
        try:
            _cache = {row.key: (row.value, row.expires_at) for row in LiveSetting.objects.all()}
        except Exception:
            # Without the database the last known values count: better than jumping to others.
            logger.warning("live_settings_unreadable", exc_info=True)
        _read_at = time.monotonic()
    return _cache
