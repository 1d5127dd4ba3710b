"""Addresses of the portal's pages."""

from __future__ import annotations

from django.urls import include, path

urlpatterns = [
    path("", include("chat.portal.people_urls")),
    path("", include("chat.portal.page_urls")),
    path("", include("chat.portal.file_urls")),
]
