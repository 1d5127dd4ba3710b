"""Addresses of the set-up page."""

from __future__ import annotations

from django.urls import path

from controlplane.setup import views

urlpatterns = [
    path("done/", views.done, name="setup-done"),
    path("<str:token>/", views.setup, name="setup"),
]
