"""Assembles Switchboard: settings, URLs, ASGI, Celery, the admin site, `up`. No domain logic lives here."""

import gc

# A start makes half a million objects that stay. Looking through them for garbage again and again while they are made takes a fifth of the
# time of every start, so it is done seldom until the apps are ready (``controlplane.apps``).
gc.set_threshold(100_000, 20, 100)

from controlplane.celery import app as celery_app  # noqa: E402

__all__ = ["celery_app"]
