"""The ASGI application: a homeserver's transactions and people's sockets by their own doors, everything else through Django."""

from __future__ import annotations

import os
from typing import Any, cast

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")

from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application

_django = get_asgi_application()

from chat.matrix.door import AppserviceDoor  # noqa: E402 - needs the apps that the line above sets up
from chat.socket.door import door  # noqa: E402
from controlplane.body_limit import BodyLimit  # noqa: E402
from ops.alerts import watch  # noqa: E402
from ops.processes import reporter  # noqa: E402

application = ProtocolTypeRouter({"http": AppserviceDoor(BodyLimit(cast(Any, _django))), "websocket": door})

# Whatever server has loaded this is a web server, unless it has said that it is more (`up`).
reporter.start("web")
# Should all workers be gone, this process says so.
watch.start()
