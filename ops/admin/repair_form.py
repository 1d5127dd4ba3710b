"""What a repair asks for, and how the answers travel from its preview to its start: sealed, since they may be secrets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cryptography.fernet import InvalidToken
from django import forms

from ops.admin.service_form import form_field, stored_value
from ops.doctor.repairs import Plan, Repair
from ops.secrets import cipher

# A preview is good for so long; then it is made again.
GOOD_FOR_SECONDS = 30 * 60


class PreviewOld(Exception):
    """The preview was not ours, or is too old to be acted on."""


class RepairForm(forms.Form):
    """``RepairForm(data, repair=…, params=…)``; ``values()`` is what ``repair_plan`` takes."""

    def __init__(self, data: Any = None, *, repair: Repair, params: Mapping[str, Any] | None = None) -> None:
        self.repair = repair
        super().__init__(data)
        for field in repair.fields:
            given = (params or {}).get(field.name, field.default)
            if isinstance(given, (list, tuple)):
                given = ", ".join(map(str, given))
            # A secret is never handed to the widget, wherever it came from.
            self.fields[field.name] = form_field(field, None if field.secret else given, False)

    def values(self) -> dict[str, Any]:
        """The answers, each as its field's kind."""
        return {field.name: stored_value(field, self.cleaned_data.get(field.name)) for field in self.repair.fields}


def seal(*, repair_id: str, target: str, params: Mapping[str, Any], plan: Plan, actor: str) -> str:
    """The preview as an encrypted text for a hidden field of the page."""
    content = {"repair": repair_id, "target": target, "params": dict(params), "actor": actor, "places": places_of(plan)}
    return cipher().encrypt(json.dumps(content, default=str).encode()).decode()


def unseal(sealed: str, *, repair_id: str, actor: str) -> dict[str, Any]:
    """What ``seal`` kept. Raises ``PreviewOld``."""
    try:
        content: dict[str, Any] = json.loads(cipher().decrypt(sealed.encode(), ttl=GOOD_FOR_SECONDS))
    except (InvalidToken, ValueError) as error:
        raise PreviewOld("This preview is too old; here is a new one.") from error
    if content.get("repair") != repair_id or content.get("actor") != actor:
        raise PreviewOld("This preview belongs to somebody else; here is a new one.")
    return content


def places_of(plan: Plan) -> list[list[str]]:
    """What a plan touches, without values: they may be times that never stand still."""
    return sorted([change.target, change.what] for change in plan.changes)
