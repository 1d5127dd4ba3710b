"""Addresses for machines."""

from __future__ import annotations

from django.urls import path

from ops import health

urlpatterns = [
    path("livez", health.livez, name="livez"),
    path("readyz", health.readyz, name="readyz"),
    path("health", health.health, name="health"),
    path("metrics", health.metrics, name="metrics"),
]
