"""The ground floor: services, secrets, jobs, audit, checks, issues and repairs. It knows no other app; they register with it."""

from __future__ import annotations

from django.apps import AppConfig


class OpsConfig(AppConfig):
    name = "ops"
    verbose_name = "Operations"

    def ready(self) -> None:
        from ops import (  # noqa: F401
            checks,
            doctor_config,
            doctor_logs,
            doctor_services,
            metrics,
            origins,
            quiet_pages,
            resetting,
        )
        from ops.alerts import setup as alerts_setup  # noqa: F401
        from ops.backup import bulk_indexes, drill_jobs, fence, own, reseal, restore_jobs  # noqa: F401
        from ops.backup import jobs as backup_jobs  # noqa: F401
        from ops.doctor import open_entries  # noqa: F401
        from ops.doctor_data import setup as data_setup  # noqa: F401
        from ops.doctor_recovery import setup as recovery_setup  # noqa: F401
        from ops.history import keeping as history_keeping  # noqa: F401
        from ops.history import own as own_history  # noqa: F401
        from ops.history import restoring as history_restoring  # noqa: F401
        from ops.services import repair_batch, repairs  # noqa: F401
        from ops.support import basics  # noqa: F401
