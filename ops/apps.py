"""The ground floor: services, secrets, jobs, audit, checks. It knows no other app; they register with it."""

from __future__ import annotations

from django.apps import AppConfig


class OpsConfig(AppConfig):
    name = "ops"
    verbose_name = "Operations"

    def ready(self) -> None:
        from ops import checks, metrics  # noqa: F401
