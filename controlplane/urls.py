"""Every address of Switchboard."""

from __future__ import annotations

from allauth.account.decorators import secure_admin_login
from django.contrib import admin
from django.urls import include, path

from agents.api.webhook import new_agent
from chat.portal.people_join import home
from controlplane.api import api

# Operators come in by the same door as everybody, so that their second factor counts here too.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]
admin.autodiscover()

handler429 = "chat.portal.people_limited.too_many"

urlpatterns = [
    path("", include("ops.urls")),
    path("", include("chat.api.sign_in_urls")),
    path("", include("chat.openai.urls")),
    path("api/", api.urls),
    path("webhook/new-agent", new_agent, name="new-agent"),
    path("", include("chat.matrix.urls")),
    path("admin/", admin.site.urls),
    path("", home, name="home"),
    path("setup/", include("controlplane.setup.urls")),
    path("account/", include("chat.portal.account_urls")),
    path("ws/", include("chat.socket.urls")),
    path("", include("chat.portal.urls")),
]
