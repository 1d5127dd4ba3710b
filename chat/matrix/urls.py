"""The addresses that the application service API prescribes; the ones without ``/_matrix/app/v1`` are those of old homeservers."""

from __future__ import annotations

from django.urls import path

from chat.matrix import views

urlpatterns = [
    path("_matrix/app/v1/transactions/<str:txn_id>", views.transactions),
    path("_matrix/app/v1/users/<path:user_id>", views.users),
    path("_matrix/app/v1/rooms/<path:alias>", views.rooms),
    path("_matrix/app/v1/ping", views.ping),
    path("_matrix/app/<path:rest>", views.unrecognised),
    path("transactions/<str:txn_id>", views.transactions),
    path("users/<path:user_id>", views.users),
    path("rooms/<path:alias>", views.rooms),
]
