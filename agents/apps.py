"""The app that knows who: agents, their accounts and rooms."""

from __future__ import annotations

from django.apps import AppConfig


class AgentsConfig(AppConfig):
    name = "agents"
    verbose_name = "Agents"

    def ready(self) -> None:
        from agents import (  # noqa: F401
            alert_room,
            backup,
            backup_files,
            backup_letta,
            checks,
            jobs,
            kinds,
            metrics,
            support,
        )
        from agents import history as own_history  # noqa: F401
        from agents import losses as own_losses  # noqa: F401
        from agents.doctor import letta, mappings, matrix  # noqa: F401
        from agents.doctor.recovery import moved  # noqa: F401
        from agents.importing import parts  # noqa: F401
        from agents.matrix.crypto import rotation  # noqa: F401
        from agents.resetting import agents as agents_reset  # noqa: F401
        from agents.resetting import mappings as mappings_reset  # noqa: F401
        from agents.restoring import adopt, devices, invited, letta_files, stillness  # noqa: F401
