"""Addresses of the chat page."""

from __future__ import annotations

from django.urls import URLPattern, path

from chat.portal.beacon import beacon
from chat.portal.look import look
from chat.portal.page import chat
from chat.portal.page_preferences import preferences
from chat.portal.strings import strings

urlpatterns: list[URLPattern] = [
    path("chat/", chat, name="chat"),
    path("chat/c/<int:conversation_id>/", chat, name="chat-conversation"),
    path("portal/look", look, name="look"),
    path("portal/preferences", preferences, name="portal-preferences"),
    path("portal/beacon", beacon, name="beacon"),
    path("portal/strings.<slug:language>.js", strings, name="portal-strings"),
]
