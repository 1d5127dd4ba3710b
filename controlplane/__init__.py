"""Assembles Switchboard: settings, URLs, ASGI, Celery, the admin site, `up`. No domain logic lives here."""

from controlplane.celery import app as celery_app

__all__ = ["celery_app"]
