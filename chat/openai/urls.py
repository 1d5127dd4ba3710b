"""Addresses of the OpenAI-compatible API."""

from __future__ import annotations

from django.urls import path

from chat.openai import views

urlpatterns = [
    path("v1/models", views.models, name="openai-models"),
    path("v1/models/<path:name>", views.model, name="openai-model"),
    path("v1/chat/completions", views.completions, name="openai-completions"),
    path("v1/<path:path>", views.unknown, name="openai-unknown"),
]
