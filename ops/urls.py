"""Addresses for machines, and the public status page."""

from __future__ import annotations

from django.urls import path

from ops import health, status_page

urlpatterns = [
    path("livez", health.livez, name="livez"),
    path("readyz", health.readyz, name="readyz"),
    path("health", health.health, name="health"),
    path("metrics", health.metrics, name="metrics"),
    path("status", status_page.status_html, name="status"),
    path("status.json", status_page.status_json, name="status-json"),
]
