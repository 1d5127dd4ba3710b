"""Every address of Switchboard."""

from __future__ import annotations

from django.urls import include, path

urlpatterns = [
    path("", include("ops.urls")),
    path("", include("chat.matrix.urls")),
    path("setup/", include("controlplane.setup.urls")),
]
