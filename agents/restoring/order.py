"""First what was made since the cut is found again, then anything new is made: the other way round, rooms would be made twice."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from ops.models import Restore, RestoreState

ADOPTING = "Rooms and accounts"
# A restore whose process died is taken up again by whoever called it; nobody waits for it for ever.
AT_MOST = timedelta(hours=1)


def is_adopting() -> bool:
    """Whether a restore is under way whose rooms and accounts were not looked for yet."""
    rows = Restore.objects.filter(state=RestoreState.RECONCILING, applied_at__gte=timezone.now() - AT_MOST)
    return any(
        f"outside.{ADOPTING}" not in report and (not kinds or {"mappings", "conversations"} & set(kinds))
        for report, kinds in rows.values_list("report", "kinds")
    )
