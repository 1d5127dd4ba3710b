"""Wrong settings become Django system checks, so that ``manage.py check`` and every start report them with a stable id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cryptography.fernet import Fernet
from django.conf import settings
from django.core import checks

_LEVELS = {"error": checks.Error, "warning": checks.Warning, "info": checks.Info}


@checks.register("switchboard")
def environment_problems(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    """``switchboard.E001``-``E003``, ``W001``, ``W002``, ``I001``: what ``controlplane.env`` noticed while reading."""
    return [
        _LEVELS[problem.level](problem.sentence, hint=problem.hint or None, id=problem.code)
        for problem in settings.ENVIRONMENT.problems
    ]


@checks.register("switchboard")
def encryption_keys(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    """``switchboard.E004``: a key that is not a Fernet key would lose every secret written with it."""
    messages: list[checks.CheckMessage] = []
    if not settings.FIELD_ENCRYPTION_KEYS:
        messages.append(
            checks.Error(
                "FIELD_ENCRYPTION_KEYS is empty.",
                hint="Remove the line to have a key generated.",
                id="switchboard.E004",
            )
        )
    for number, key in enumerate(settings.FIELD_ENCRYPTION_KEYS, start=1):
        try:
            Fernet(key)
        except (ValueError, TypeError):
            messages.append(
                checks.Error(
                    f"Key {number} of FIELD_ENCRYPTION_KEYS is not a Fernet key.",
                    hint="A Fernet key is 32 bytes in URL-safe base64 (44 characters).",
                    id="switchboard.E004",
                )
            )
    return messages


@checks.register("switchboard")
def matrix_settings(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    """``switchboard.E005``-``E006`` and ``W003``: Matrix ids and names that a homeserver would refuse."""
    messages: list[checks.CheckMessage] = []
    for user_id in settings.MATRIX_INVITE:
        if not (user_id.startswith("@") and ":" in user_id):
            messages.append(
                checks.Error(
                    f"MATRIX_INVITE: {user_id!r} is not a Matrix id.",
                    hint="A Matrix id looks like @name:server.",
                    id="switchboard.E005",
                )
            )
    prefix = settings.MATRIX_USER_PREFIX
    if not prefix or prefix.lower() != prefix or not prefix.replace("_", "a").replace("-", "a").isalnum():
        messages.append(
            checks.Error(
                f"MATRIX_USER_PREFIX {prefix!r} cannot start a Matrix name.",
                hint="Use lower-case letters, digits, '_' and '-', for example agent_.",
                id="switchboard.E006",
            )
        )
    elif settings.MATRIX_SENDER_LOCALPART.startswith(prefix):
        messages.append(
            checks.Warning(
                "MATRIX_SENDER_LOCALPART starts with MATRIX_USER_PREFIX.",
                hint="Switchboard's own account would look like an agent's. Choose another name.",
                id="switchboard.W003",
            )
        )
    return messages


@checks.register("switchboard", deploy=True)
def scaled_mode(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    """``switchboard.W004``: parts of scaled mode that do not fit together."""
    if settings.CELERY_BROKER_URL and not settings.EMBEDDED and not settings.REDIS_URL:
        return [
            checks.Warning(
                "CELERY_BROKER_URL is set, REDIS_URL is not: streams do not reach other processes live.",
                hint="Set REDIS_URL; until then readers catch up from the database.",
                id="switchboard.W004",
            )
        ]
    return []
