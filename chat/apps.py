"""The app that says: people, conversations, turns, deliveries."""

from __future__ import annotations

from django.apps import AppConfig


class ChatConfig(AppConfig):
    name = "chat"
    verbose_name = "Conversations"

    def ready(self) -> None:
        from chat import (  # noqa: F401
            backup,
            backup_drill,
            backup_files,
            checks,
            jobs,
            metrics,
            retention,
            support,
            wiring,
        )
        from chat import history as own_history  # noqa: F401
        from chat import losses as own_losses  # noqa: F401
        from chat.access import registration, second_factor  # noqa: F401
        from chat.doctor import (  # noqa: F401
            faults,
            listening,
            portal,
            proofs,
            routing,
            selftest,
            silent,
            slow,
            targets,
        )
        from chat.importing import parts  # noqa: F401
        from chat.resetting import conversations, people  # noqa: F401
        from chat.restoring import fence, forget, reconcile, since, stillness, upstream  # noqa: F401
        from chat.services import exports, shares  # noqa: F401
        from chat.socket import protocol  # noqa: F401
