"""Reads about people that pages, the API and commands share."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.db.models import Count, Exists, IntegerField, Max, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce, Greatest
from django.utils import timezone

from chat.models import AccessAttempt, Person

# Failed attempts to get in that lists count.
FAILURES_COUNT = timedelta(days=7)


def with_numbers(people: QuerySet[Person]) -> Any:
    """People with ``open_sessions``, ``failed``, ``has_second`` and ``seen_at``, each by a query of its own below the rows asked for: none
    is multiplied by a join."""
    sessions: Any = UserSession.objects.filter(user=OuterRef("pk")).order_by().values("user")
    failed: Any = AccessAttempt.objects.filter(person=OuterRef("pk"), at__gt=timezone.now() - FAILURES_COUNT)
    failed = failed.exclude(outcome__in=("ok", "asked", "handed")).order_by().values("person")
    seen = Coalesce(Subquery(sessions.annotate(at=Max("last_seen_at")).values("at")), "last_login")
    return people.annotate(
        open_sessions=Subquery(sessions.annotate(n=Count("pk")).values("n"), output_field=IntegerField()),
        failed=Subquery(failed.annotate(n=Count("pk")).values("n"), output_field=IntegerField()),
        has_second=Exists(Authenticator.objects.filter(user=OuterRef("pk"))),
        seen_at=Coalesce(Greatest(seen, "last_login"), seen, "last_login"),
    )
