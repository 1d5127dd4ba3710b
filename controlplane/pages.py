"""The admin's pages are registered when addresses are first looked up: commands and workers that have none do without."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.contrib.admin.apps import SimpleAdminConfig
from django.contrib.admin.checks import check_admin_app, check_dependencies
from django.core import checks


class AdminConfig(SimpleAdminConfig):
    """``controlplane.urls`` registers the pages. Their own checks do it as well, whichever comes first."""

    def ready(self) -> None:
        checks.register(check_dependencies, checks.Tags.admin)
        checks.register(check_pages, checks.Tags.admin)


def check_pages(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Django's checks of all pages, once there are some."""
    admin.autodiscover()
    return list(check_admin_app(app_configs, **kwargs))
