"""How sockets ended: counted, for the doctor."""

from __future__ import annotations

from django.db import models


class SocketClose(models.Model):
    """How many sockets ended in one hour (UTC) with one code after one lifetime.

    ``code`` is the close code: ours (4xxx, 1013) or what the other side or the network made of it (1000, 1001, 1005, 1006). ``seconds``
    is how long they had been open: exact up to five minutes, then in steps of a minute, then of an hour; so that many that end after the
    same time (a proxy's time-out) stand out. Added up by every process four times a minute; pruned by retention.
    """

    hour = models.DateTimeField()
    code = models.PositiveSmallIntegerField()
    seconds = models.PositiveIntegerField()
    count = models.PositiveBigIntegerField(default=0)

    class Meta:
        ordering = ["-hour", "code", "seconds"]
        constraints = [models.UniqueConstraint(fields=["hour", "code", "seconds"], name="socket_close_once")]

    def __str__(self) -> str:
        return f"{self.count} × {self.code} after {self.seconds} s"
