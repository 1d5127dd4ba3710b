"""What the ground floor's secrets are called when their key is lost, and what has to be entered again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.utils import timezone

from ops.choices import ServiceStatus
from ops.losses import register_loss
from ops.models import AlertChannel, IdempotencyRecord, RepairRun, Service
from ops.services.audit import record


def _services(keys: Sequence[str], actor: str) -> None:
    """Say it where it is seen. What the environment sets comes back at the next start."""
    for service in Service.objects.filter(pk__in=keys):
        record(
            actor=actor, action="service.credentials_lost", target=service, message="They could not be opened any more."
        )
        if service.enabled:
            Service.objects.filter(pk=service.pk).update(
                status=ServiceStatus.UNKNOWN, status_sentence="Its credentials were lost. Enter them again."
            )


def _channels(keys: Sequence[str], actor: str) -> None:
    """Without an address nothing can be sent: what waits there waits until it is entered."""
    from ops.services.alerts import channel_switch

    for channel in AlertChannel.objects.filter(pk__in=keys):
        channel_switch(channel=channel, enabled=False, actor=actor)


def _runs(keys: Sequence[str], actor: str) -> None:
    RepairRun.objects.filter(pk__in=keys, undo_until__gt=timezone.now()).update(undo_until=timezone.now())


def _forget_answers(keys: Sequence[str]) -> list[dict[str, Any]]:
    for start in range(0, len(keys), 500):
        IdempotencyRecord.objects.filter(pk__in=keys[start : start + 500]).delete()
    return []


register_loss(
    "ops.Service.credentials",
    what="credentials of services",
    advice="Enter them again with the service, or restart where the environment sets them.",
    settle=_services,
)
register_loss(
    "ops.AlertChannel.url",
    what="addresses of alert channels",
    advice="Enter the address again and switch the channel on; until then it is off.",
    settle=_channels,
)
register_loss(
    "ops.BackupDestination.credentials",
    what="credentials of places for backups",
    advice="Enter them again with the destination; until then it gets no copies.",
)
register_loss(
    "ops.RepairRun.snapshot",
    what="what repairs keep to be undone",
    advice="These repairs cannot be undone any more.",
    settle=_runs,
    matters=False,
)
register_loss("ops.RepairRun.params", what="what repairs were given", advice="Nothing has to be done.", matters=False)
register_loss(
    "ops.ObjectVersion.secret",
    what="secrets in earlier versions of objects",
    advice="These versions can be brought back without their secrets.",
    matters=False,
)
register_loss(
    "ops.IdempotencyRecord.sealed",
    what="answers that were kept for a day in case they are asked for again",
    advice="Whoever asks again gets a new answer.",
    clear=_forget_answers,
    put_back=lambda rows: 0,
    matters=False,
)
