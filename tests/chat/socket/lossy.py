"""The application over a channel layer that loses frames on their way to this process: for daphne, in tests.

``LOSSY``: "all" loses every frame, "some" two of three. The layer's own calls are patched, so that nothing of ours knows of it.
"""

from __future__ import annotations

import os
import random
from typing import Any

from channels.layers import InMemoryChannelLayer
from channels_redis.pubsub import RedisPubSubLoopLayer

_chance = {"all": 1.0, "some": 0.66, "": 0.0}[os.environ.get("LOSSY", "")]
_rng = random.Random(7)


def _make_lossy(layer: type[Any]) -> None:
    receive = layer.receive

    async def lossy(self: Any, channel: str) -> Any:
        while True:
            message = await receive(self, channel)
            if _rng.random() >= _chance:
                return message

    layer.receive = lossy


for _layer in (InMemoryChannelLayer, RedisPubSubLoopLayer):
    _make_lossy(_layer)

from controlplane.asgi import application  # noqa: E402

__all__ = ["application"]
