"""Every address of Switchboard."""

from __future__ import annotations

from django.urls import include, path

from agents.api.webhook import new_agent
from controlplane.api import api

urlpatterns = [
    path("", include("ops.urls")),
    path("api/", api.urls),
    path("webhook/new-agent", new_agent, name="new-agent"),
    path("", include("chat.matrix.urls")),
    path("setup/", include("controlplane.setup.urls")),
]
