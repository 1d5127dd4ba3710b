"""Addresses of people's accounts: joining, profile, sessions."""

from __future__ import annotations

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
