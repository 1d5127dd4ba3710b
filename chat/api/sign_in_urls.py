"""Addresses at which programs sign in; they come before those of the REST API, which has other errors."""

from __future__ import annotations

from django.urls import path

from chat.api import sign_in

urlpatterns = [
    path("api/auth/config", sign_in.config, name="program-config"),
    path("api/auth/register", sign_in.register, name="program-register"),
    path("api/auth/login", sign_in.login, name="program-login"),
    path("api/auth/verify", sign_in.verify, name="program-verify"),
    path("api/auth/refresh", sign_in.refresh, name="program-refresh"),
    path("api/auth/logout", sign_in.logout, name="program-logout"),
    path("agentx/info", sign_in.info, name="agentx-info"),
]
