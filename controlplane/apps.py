"""The app that assembles the others."""

from __future__ import annotations

import gc

from django.apps import AppConfig


class ControlplaneConfig(AppConfig):
    name = "controlplane"
    verbose_name = "Switchboard"

    def ready(self) -> None:
        from controlplane import backup, backup_files, backup_homeserver, checks, cors, explorer, handover  # noqa: F401
        from controlplane.homeserver import adapter, port  # noqa: F401

        # What the start made stays as long as the process, so no collection need look at it again.
        gc.freeze()
        gc.set_threshold(10_000, 20, 20)
