"""Every address of Switchboard."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from agents.api.webhook import new_agent
from controlplane.api import api

urlpatterns = [
    path("", include("ops.urls")),
    path("api/", api.urls),
    path("webhook/new-agent", new_agent, name="new-agent"),
    path("", include("chat.matrix.urls")),
    path("admin/", admin.site.urls),
    path("", RedirectView.as_view(pattern_name="admin:index"), name="home"),
    path("setup/", include("controlplane.setup.urls")),
    path("account/", include("allauth.urls")),
    path("", include("chat.portal.urls")),
]
