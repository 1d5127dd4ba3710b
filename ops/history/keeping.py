"""How long versions are kept. The newest of an object that is still there stays, however old: the next change is compared with it."""

from __future__ import annotations

from datetime import datetime

from django.db.models import Exists, OuterRef, Q, QuerySet

from ops.models import ObjectVersion
from ops.retention import register_retention


def old_versions(before: datetime) -> QuerySet[ObjectVersion]:
    """Versions from before a time that something came after, and what deleted objects were."""
    newer = ObjectVersion.objects.filter(
        model=OuterRef("model"), object_id=OuterRef("object_id"), pk__gt=OuterRef("pk")
    )
    return ObjectVersion.objects.filter(Q(Exists(newer)) | Q(deleted=True), at__lt=before)


register_retention(
    "versions",
    label="earlier versions of objects",
    rows=old_versions,
    time_field="at",
    default_days=365,
    automatic=True,
    sealed=True,
)
