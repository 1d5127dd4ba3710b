"""Says in a few lines how things stand, without asking anything anew."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone
from rich.padding import Padding
from rich.text import Text

from ops.doctor.queries import asking_issues
from ops.models import CheckState
from ops.terminal import console_of, lamp_text

_SHOWN = 20


class Command(BaseCommand):
    help = "Show the open issues as they were last seen. To ask anew: manage.py doctor"
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        console = console_of(self.stdout, plain_width=100)
        issues = list(asking_issues()[: _SHOWN + 1])
        newest = CheckState.objects.order_by("-checked_at").values_list("checked_at", flat=True).first()
        if newest is None:
            console.print("No check has run yet. Run them: manage.py doctor")
            return
        age = round((timezone.now() - newest).total_seconds())
        console.print(f"Last checked {age} s ago." if issues else f"Nothing needs you. Last checked {age} s ago.")
        for issue in issues[:_SHOWN]:
            console.print(lamp_text(issue.lamp, issue.severity) + Text(f"  {issue}", style="bold"))
            console.print(Padding(Text(issue.sentence), (0, 0, 0, 2)))
        if len(issues) > _SHOWN:
            console.print("… and more.")
