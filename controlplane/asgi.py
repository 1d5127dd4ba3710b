"""The ASGI application: a homeserver's transactions by their own door, everything else through Django."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")

from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application

_django = get_asgi_application()

from chat.matrix.door import AppserviceDoor  # noqa: E402 - needs the apps that the line above sets up

application = ProtocolTypeRouter({"http": AppserviceDoor(_django)})
