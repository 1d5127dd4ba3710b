"""Addresses of attachments, exports and shared conversations."""

from __future__ import annotations

from django.urls import URLPattern, path

from chat.portal.files import file_get

urlpatterns: list[URLPattern] = [
    path("files/<uuid:attachment_id>", file_get, name="portal-file"),
]
