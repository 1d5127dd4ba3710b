"""Logs: structlog and the standard library through one pipeline, with context ids and without secrets.

Importable from settings: nothing here touches Django's models. Every record, whoever wrote it, passes ``redact_event``
just before it is rendered, after tracebacks have become text; so no caller has to remember to hide anything.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal, TypeVar

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from ops.redaction import add_secret, redact_event, set_secrets

__all__ = ["add_secret", "add_sink", "bind", "configure", "get_logger", "remove_sink", "unlogged"]

R = TypeVar("R")

# Who gets every record after it was redacted and before it is rendered: it must copy what it keeps, at once.
_sinks: list[Callable[[EventDict], None]] = []

# Libraries that talk much and say little at INFO; their warnings stay.
_QUIET: dict[str, int] = {
    "httpx": logging.WARNING,  # one line for every request, with its address
    "httpcore": logging.WARNING,
    "hpack": logging.WARNING,
    "daphne": logging.WARNING,
    "daphne.http_protocol": logging.WARNING,
    "daphne.ws_protocol": logging.WARNING,
    "django.channels.server": logging.WARNING,  # access lines
    "django.server": logging.WARNING,
    "django.db.backends": logging.WARNING,
    "django.utils.autoreload": logging.WARNING,
    "celery": logging.WARNING,  # "Task received / succeeded" for each of many tasks a second
    "celery.app.trace": logging.WARNING,
    "celery.beat": logging.WARNING,
    "kombu": logging.WARNING,
    "amqp": logging.WARNING,
    "redis": logging.WARNING,
    "asyncio": logging.WARNING,
    "aiohttp": logging.WARNING,
    "nio": logging.WARNING,
    "twisted": logging.WARNING,
    "markdown_it": logging.WARNING,
    "apprise": logging.WARNING,
    "urllib3": logging.WARNING,
}


def configure(
    level: str = "info", form: Literal["console", "json"] | str = "console", secrets: Iterable[str] = ()
) -> None:
    """Set up logging for this process; calling it again replaces what was there.

    ``level``: debug, info, warning or error. ``form``: console (for people) or json (one object a line). ``secrets``: values
    that must never appear; those that turn up at run time are added with ``add_secret``. Logs go to standard error, so
    that a command's output on standard out stays clean.
    """
    set_secrets(secrets)
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderer: Processor
    if form == "json":
        renderer = structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=before,
        processors=[
            _take_message_apart,
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            redact_event,
            _hand_over,
            renderer,
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    handler.set_name("switchboard")
    root = logging.getLogger()
    for old in [known for known in root.handlers if known.get_name() == "switchboard"]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name, quiet in _QUIET.items():
        logging.getLogger(name).setLevel(
            logging.DEBUG if level == "debug" and not name.startswith(("http", "h")) else quiet
        )
    logging.captureWarnings(True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *[step for step in before if not isinstance(step, structlog.stdlib.ExtraAdder)],
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def _take_message_apart(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Objects that Django hangs on its records (the request, the server's socket) say nothing in a log line."""
    for name in ("request", "server_time", "taskName"):
        event.pop(name, None)
    return event


def add_sink(sink: Callable[[EventDict], None]) -> None:
    """Give every record, redacted, to ``sink`` too. It is called while a lock of the log is held: it must neither block nor log."""
    if sink not in _sinks:
        _sinks.append(sink)


def remove_sink(sink: Callable[[EventDict], None]) -> None:
    """Take a sink away again."""
    if sink in _sinks:
        _sinks.remove(sink)


def _hand_over(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """A sink that fails must not cost the line its place in the log."""
    for sink in _sinks:
        with suppress(Exception):
            sink(event)
    return event


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger: ``get_logger(__name__).info("room_created", room_id=…)``."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


@contextmanager
def bind(**ids: Any) -> Iterator[None]:
    """Add ids to every line logged inside, in this thread or task: request_id, message_id, turn_id, job_id, agent.

    Ids that are None are left out. What was bound before comes back afterwards.
    """
    with structlog.contextvars.bound_contextvars(
        **{name: str(value) for name, value in ids.items() if value is not None}
    ):
        yield


@contextmanager
def only_errors(*names: str) -> Iterator[None]:
    """Inside, these loggers say nothing below ERROR: for commands that print the same in words."""
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def unlogged(response: R) -> R:
    """A refusal that was meant: Django writes no line for it. Nothing failed, and what fails opens an issue; for a flood of requests, a line
    for each would be what the flood wants."""
    response._has_been_logged = True  # type: ignore[attr-defined]
    return response
