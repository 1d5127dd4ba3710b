"""Ways to damage what pages are made of: a script that is empty, a stylesheet that was cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings

from chat.doctor.portal import frontend
from ops import static_files
from ops.doctor.faults import register_fault


def _damage(name: str, content: str) -> dict[str, Any]:
    """A collected copy with one file that is not what it should be, as after a disk that was full while it was written."""
    had = bool(static_files.stamp())
    static_files.collect()
    (Path(settings.STATIC_ROOT) / name).write_text(content)
    frontend.forget()
    return {"had": had}


def _mend(memory: dict[str, Any]) -> None:
    if memory["had"]:
        static_files.collect()
    else:
        static_files.collected_forget()
    frontend.forget()


register_fault(
    "frontend.static_missing",
    title="A script of the portal is empty",
    cause=lambda: _damage("portal/js/page.js", ""),
    heal=_mend,
    evidence=("pages", "bad", "files"),
)
register_fault(
    "frontend.styles_missing",
    title="A stylesheet of the portal was cut",
    cause=lambda: _damage("portal/base.css", "body{}"),
    heal=_mend,
    evidence=("styles", "size"),
)
