"""Addresses of attachments, exports and shared conversations."""

from __future__ import annotations

from django.urls import URLPattern, path

from chat.portal.files import file_get
from chat.portal.shared import shared, shared_file

urlpatterns: list[URLPattern] = [
    path("files/<uuid:attachment_id>", file_get, name="portal-file"),
    path("shared/<str:token>", shared, name="portal-shared"),
    path("shared/<str:token>/files/<uuid:attachment_id>", shared_file, name="portal-shared-file"),
]
