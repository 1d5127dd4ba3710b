"""The form of a service: its address, and the fields that its kind registered. Secrets can be written, never read."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from ops.models import Service
from ops.registry import ServiceField, ServiceKind, service_kind
from ops.secrets import SecretUnreadable

_PREFIX = "field_"
_CLEAR = "clear_"


class ServiceForm(forms.Form):
    """``ServiceForm(data, kind=…, service=None)``; ``save_arguments()`` is what ``service_save`` takes."""

    name = forms.CharField(max_length=64, help_text="Lower-case letters, digits, '.', '_' and '-'.")
    base_url = forms.CharField(
        max_length=500, label="Address", required=False, help_text="For example http://127.0.0.1:8283"
    )
    enabled = forms.BooleanField(label="Switched on", required=False, initial=True)

    def __init__(self, data: Any = None, *, kind: ServiceKind, service: Service | None = None) -> None:
        self.kind, self.service = kind, service
        super().__init__(data)
        options = dict(service.options or {}) if service else {}
        secrets = _credentials(service)
        for field in kind.fields:
            # A secret's present value is never handed to the widget.
            initial = None if field.secret else _shown(field, options.get(field.name, field.default))
            is_set = bool(secrets.get(field.name))
            self.fields[_PREFIX + field.name] = form_field(field, initial, is_set)
            if field.secret and is_set and not field.required:
                self.fields[_CLEAR + field.name] = forms.BooleanField(label=f"Remove: {field.label}", required=False)
        self.fields["base_url"].required = kind.needs_address
        if service is not None:
            self.initial.update(name=service.name, base_url=service.base_url, enabled=service.enabled)
            self.fields["name"].disabled = True

    def save_arguments(self) -> dict[str, Any]:
        """The keyword arguments of ``service_save``, without the actor."""
        options = dict(self.service.options or {}) if self.service else {}
        credentials: dict[str, Any] | None = None
        for field in self.kind.fields:
            value = self.cleaned_data.get(_PREFIX + field.name)
            if not field.secret:
                value = stored_value(field, value)
                if value in ("", None, []):
                    options.pop(field.name, None)
                else:
                    options[field.name] = value
            elif value or self.cleaned_data.get(_CLEAR + field.name):
                credentials = dict(_credentials(self.service)) if credentials is None else credentials
                if value:
                    credentials[field.name] = value
                else:
                    credentials.pop(field.name, None)
        return {
            "name": self.cleaned_data["name"],
            "kind": self.kind.kind,
            "base_url": self.cleaned_data["base_url"],
            "enabled": self.cleaned_data["enabled"],
            "options": options,
            "credentials": credentials,
        }

    def take_errors(self, error: ValidationError) -> None:
        """Show what ``service_save`` refused beside the field it is about."""
        if not hasattr(error, "error_dict"):
            self.add_error(None, error)
            return
        for name, sentences in error.message_dict.items():
            self.add_error(name if name in self.fields else None, sentences)

    @staticmethod
    def shown_values(service: Service) -> list[tuple[str, str]]:
        """(label, value) of every field; a secret's value is "set" or "not set"."""
        known = service_kind(service.kind)
        credentials, options = _credentials(service), dict(service.options or {})
        found: list[tuple[str, str]] = []
        for field in known.fields if known else ():
            if field.secret:
                found.append((field.label, "set (encrypted)" if credentials.get(field.name) else "not set"))
            else:
                value = options.get(field.name, "")
                found.append((field.label, ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
        return found


def _credentials(service: Service | None) -> dict[str, Any]:
    try:
        return dict(service.credentials or {}) if service else {}
    except SecretUnreadable:
        return {}


def form_field(field: ServiceField, initial: Any, is_set: bool) -> forms.Field:
    common: dict[str, Any] = {
        "label": field.label,
        "help_text": field.help,
        "required": field.required,
        "initial": initial,
    }
    if field.secret:
        common["required"] = field.required and not is_set
        hint = "A value is set; type a new one to replace it." if is_set else field.help
        common["help_text"] = f"{hint} {field.help}".strip() if is_set and field.help else hint
        widget = forms.PasswordInput(
            attrs={"autocomplete": "new-password", "placeholder": "set" if is_set else "not set"}
        )
        return forms.CharField(widget=widget, **common)
    if field.kind == "number":
        return forms.FloatField(**common)
    if field.kind == "bool":
        return forms.BooleanField(**{**common, "required": False})
    if field.kind == "choice":
        return forms.ChoiceField(choices=field.choices, **common)
    if field.kind == "list":
        common["help_text"] = f"{field.help} Separated by commas.".strip()
        return forms.CharField(**common)
    if "prompt" in field.name:
        return forms.CharField(widget=forms.Textarea(attrs={"rows": 6}), **common)
    return forms.CharField(**common)


def _shown(field: ServiceField, value: Any) -> Any:
    return ", ".join(map(str, value)) if field.kind == "list" and isinstance(value, (list, tuple)) else value


def stored_value(field: ServiceField, value: Any) -> Any:
    if field.kind == "list":
        return [one.strip() for one in str(value or "").split(",") if one.strip()]
    if field.kind == "number" and value is not None:
        return int(value) if float(value).is_integer() else value
    return value
