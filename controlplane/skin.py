"""The admin's face: name, mark, colours, navigation."""

from __future__ import annotations

from typing import Any

UNFOLD: dict[str, Any] = {"SITE_TITLE": "Switchboard", "SITE_HEADER": "Switchboard"}
