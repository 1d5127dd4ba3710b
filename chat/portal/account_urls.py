"""Addresses below ``/account/``: ours where we answer otherwise than django-allauth, allauth's own for the rest."""

from __future__ import annotations

from django.urls import include, path
from django.views.generic import RedirectView

from chat.portal.people_reset import password_reset
from chat.portal.people_signin import SignInView, again

_profile = RedirectView.as_view(url="/profile/#browsers")

urlpatterns = [
    path("again", again, name="account_again"),
    path("login/", SignInView.as_view(), name="account_login"),
    path("signup/", RedirectView.as_view(url="/join"), name="account_signup"),
    path("password/reset/", password_reset, name="account_reset_password"),
    path("sessions/", _profile, name="usersessions_list"),
    path("", include("allauth.urls")),
]
