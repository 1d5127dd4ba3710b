"""Addresses of people's accounts: joining, profile, sessions."""

from __future__ import annotations

from django.urls import URLPattern, path

from chat.portal import people_profile
from chat.portal.people_join import join

urlpatterns: list[URLPattern] = [
    path("join", join, name="join"),
    path("profile/", people_profile.profile, name="profile"),
    path("profile/browsers/<int:pk>/end", people_profile.browser_end, name="profile-browser-end"),
    path("profile/programs/<uuid:pk>/end", people_profile.program_end, name="profile-program-end"),
    path("profile/tokens/", people_profile.token_make, name="profile-token-make"),
    path("profile/tokens/<int:pk>/end", people_profile.token_end, name="profile-token-end"),
    path("profile/everywhere/end", people_profile.everywhere_end, name="profile-everywhere-end"),
    path("profile/delete", people_profile.delete, name="profile-delete"),
]
