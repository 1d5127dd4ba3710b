"""Panels that an app above adds to a page of an app below: an agent's conversations on the agent's page.

The same idea as the registries of ``ops.registry``: the page asks, whoever has something to say has registered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django.http import HttpRequest


@dataclass(frozen=True, slots=True)
class Button:
    """A link that looks like a button, at the top of a page."""

    label: str
    address: str
    primary: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: a template with its context, and buttons for the top of the page. ``first``: it stands above all others."""

    title: str = ""
    template: str = ""
    context: dict[str, Any] = field(default_factory=dict)
    buttons: tuple[Button, ...] = ()
    first: bool = False


PanelMaker = Callable[[HttpRequest, Any], Panel]
_panels: dict[str, list[PanelMaker]] = {}


def register_panel(model_label: str, maker: PanelMaker) -> None:
    """Add a panel to the page of a model (``agents.agent``), or with "" to every page. Registering twice is fine."""
    makers = _panels.setdefault(model_label, [])
    if maker not in makers:
        makers.append(maker)


def panels_of(request: HttpRequest, row: Any) -> list[Panel]:
    """The panels that others add to the page of ``row``."""
    return [maker(request, row) for maker in (*_panels.get("", []), *_panels.get(row._meta.label_lower, []))]
