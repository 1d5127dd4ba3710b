"""Settings: what counts, where it comes from, whether it is right."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Field, Query, Router, Schema

from ops.api.answers import answer
from ops.api.inputs import Text
from ops.api.principals import principal_of
from ops.api.problems import not_found
from ops.configuration import listing
from ops.services.audit import record

router = Router(tags=["Settings"])


class SettingOut(Schema):
    """One setting, or one value of a service. Secrets are masked (`sk-a****cdef`)."""

    name: str = Field(examples=["LETTA_BASE_URL"])
    group: str
    help: str
    value: str
    source: str = Field(description="live, service, environment, file, secret file, generated or default")
    source_label: str
    place: str = Field(description="Where exactly it stands")
    secret: bool
    valid: bool
    problem: str
    edit: str = Field(description="How it can be changed: live, file, service, or empty when not from here")
    why_not: str = Field(description="Why it cannot be changed from here, with the line to change")
    target: str = Field(description="The target of the repair config.edit", examples=["setting:LETTA_BASE_URL"])
    field: str = Field(description="Its parameter `field`, for values of services")
    can_test: bool
    pending: str = Field(description="What the settings file says for the next start, when that is something else")


class SettingList(Schema):
    items: list[SettingOut]
    invalid: int


class SettingTestOut(Schema):
    """What a test said. `ok` is null when there is nothing to ask."""

    ok: bool | None
    sentence: str


class SettingFilter(Schema):
    invalid: bool = Field(False, description="Only those that are not right.")
    group: Text = Field("", description="Only this group.")


@router.get("", response=SettingList, operation_id="settings_list", summary="List settings and where they come from")
def settings_list(request: HttpRequest, query: Query[SettingFilter]) -> HttpResponse:
    """All of them at once. To change one, start the repair `config.edit` with its `target` and `field`."""
    found = listing.rows()
    shown = [row for row in found if (not query.invalid or not row.valid) and query.group in ("", row.group)]
    body: dict[str, Any] = {"items": [row.to_dict() for row in shown], "invalid": sum(not row.valid for row in found)}
    return answer(body)


@router.post("/{name}/test", response=SettingTestOut, operation_id="settings_test", summary="Test a setting's value")
def settings_test(request: HttpRequest, name: Text) -> HttpResponse:
    """Asks the server that the value names (for `service.base_url` the service itself). The answer is 200 whatever that says."""
    row = listing.row(name)
    if row is None:
        raise not_found("setting", name)
    tried = listing.test(row)
    record(actor=principal_of(request).actor, action="setting.tested", target=f"setting:{name}", after={"ok": tried.ok})
    return answer({"ok": tried.ok, "sentence": tried.sentence})
