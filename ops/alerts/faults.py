"""A channel that was refused: for real, by a receiver that says 503 to the first message it gets."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from ops.doctor.faults import register_fault
from ops.models import AlertChannel

ACTOR = "demo"
NAME = "practice channel"


def cause() -> dict[str, Any]:
    """Put up the receiver, a channel to it, and send the message that it refuses."""
    from ops.services.alerts import channel_delete, channel_save, channel_test

    receiver = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("practice_receiver.py"))],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert receiver.stdout is not None
    port = int(receiver.stdout.readline())
    for old in AlertChannel.objects.filter(name=NAME):
        channel_delete(channel=old, actor=ACTOR)
    channel = channel_save(actor=ACTOR, name=NAME, url=f"json://127.0.0.1:{port}/practice", min_severity="critical")
    channel_test(channel=channel, actor=ACTOR)
    return {"channel": channel.pk, "pid": receiver.pid}


def heal(memory: dict[str, Any]) -> None:
    """Remove the channel, stop the receiver."""
    from ops.services.alerts import channel_delete

    for channel in AlertChannel.objects.filter(pk=memory["channel"], name=NAME):
        channel_delete(channel=channel, actor=ACTOR)
    # Only what is surely ours: the number may have gone to another program.
    with contextlib.suppress(OSError):
        if b"practice_receiver" in Path(f"/proc/{memory['pid']}/cmdline").read_bytes():
            os.kill(memory["pid"], signal.SIGTERM)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(memory["pid"], 0)


register_fault(
    "alerts.health",
    title="A channel refused the last message it was sent",
    cause=cause,
    heal=heal,
    evidence=("channels",),
)
