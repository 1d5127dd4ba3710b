"""Hands the settings over to the ground floor, which shows, checks and edits them without knowing this app."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings

from controlplane import env
from controlplane.options import NOT_NEEDED, OPTIONS, PREFIXES
from ops.configuration.schema import Configuration, Reading, Setting, Trouble, register

# What ``controlplane.provision`` fills from the environment.
SERVICE_SETTINGS = {
    "homeserver.base_url": "MATRIX_HOMESERVER_URL",
    "homeserver.credentials.as_token": "MATRIX_AS_TOKEN",
    "homeserver.credentials.hs_token": "MATRIX_HS_TOKEN",
    "homeserver.credentials.registration_shared_secret": "MATRIX_REGISTRATION_SHARED_SECRET",
    "homeserver.credentials.password": "MATRIX_PASSWORD",
    "homeserver.credentials.access_token": "MATRIX_ACCESS_TOKEN",
    "homeserver.credentials.registration_token": "MATRIX_REGISTRATION_TOKEN",
    "homeserver.credentials.admin_user": "MATRIX_ADMIN_USERNAME",
    "homeserver.credentials.admin_password": "MATRIX_ADMIN_PASSWORD",
    "homeserver.credentials.admin_token": "MATRIX_ADMIN_TOKEN",
    "homeserver.options.mode": "MATRIX_MODE",
    "homeserver.options.server_name": "MATRIX_SERVER_NAME",
    "homeserver.options.space_name": "MATRIX_SPACE_NAME",
    "homeserver.options.rooms": "MATRIX_ROOMS",
    "homeserver.options.user_prefix": "MATRIX_USER_PREFIX",
    "homeserver.options.sender_localpart": "MATRIX_SENDER_LOCALPART",
    "homeserver.options.appservice_id": "MATRIX_APPSERVICE_ID",
    "letta.base_url": "LETTA_BASE_URL",
    "letta.credentials.token": "LETTA_TOKEN",
    "openai.base_url": "OPENAI_BASE_URL",
    "openai.credentials.api_key": "OPENAI_API_KEY",
    "openai.options.models": "OPENAI_MODELS",
    "anthropic.base_url": "ANTHROPIC_BASE_URL",
    "anthropic.credentials.api_key": "ANTHROPIC_API_KEY",
    "anthropic.options.model": "ANTHROPIC_MODEL",
}


def _env_file() -> Path:
    return Path(settings.ENV_FILE)


def _reading(environment: env.Environment) -> Reading:
    troubles = tuple(
        Trouble(one.code, one.level, one.sentence, one.hint, one.name, one.near) for one in environment.problems
    )
    return Reading(dict(environment.values), dict(environment.sources), dict(environment.places), troubles)


def running() -> Reading:
    """What this process started with."""
    return _reading(settings.ENVIRONMENT)


def read() -> Reading:
    """What a process that starts now would find: this one's environment, and the file as it is now."""
    try:
        given, from_file = env.environment_now(_env_file())
    except OSError as error:
        sentence = f"{_env_file()} cannot be read: {error.strerror}."
        broken = running()
        return Reading(
            broken.values,
            broken.sources,
            broken.places,
            (Trouble("switchboard.E003", "error", sentence, "Check its permissions."),),
        )
    found = env.read_environment(
        OPTIONS,
        base_dir=settings.BASE_DIR,
        environment=given,
        known_elsewhere=NOT_NEEDED,
        prefixes=PREFIXES,
        from_file=from_file,
        make_keys=False,
    )
    return _reading(found)


def parse(name: str, text: str) -> Any:
    """The value that a text stands for. Raises ``ValueError`` with the reason, also for an unknown name."""
    option = next((known for known in OPTIONS if name == known.name or name in known.aliases), None)
    if option is None:
        raise ValueError(f"{name} is not a setting of Switchboard")
    return env.parse(option, text)


register(
    Configuration(
        settings=tuple(
            Setting(
                name=option.name,
                help=option.help,
                kind=option.kind,
                default=option.default,
                aliases=option.aliases,
                secret=option.secret,
                generated=option.generate is not None,
                group=option.group,
            )
            for option in OPTIONS
        ),
        running=running,
        read=read,
        parse=parse,
        env_file=_env_file,
        service_settings=SERVICE_SETTINGS,
    )
)
