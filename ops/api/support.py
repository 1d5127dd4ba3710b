"""Support bundles."""

from __future__ import annotations

from typing import Any

from django.http import FileResponse, HttpRequest, HttpResponse
from ninja import Field, Router, Schema

from ops.api.answers import answer
from ops.api.inputs import LARGEST_ID, Body, Text
from ops.api.principals import principal_of
from ops.api.problems import not_found
from ops.services.support import bundle_make
from ops.support import folder
from ops.support.bundle import BundleWish

router = Router(tags=["Support"])


class BundleIn(Body):
    """What is to be in it besides what always is."""

    messages: list[int] = Field(
        default_factory=list, max_length=50, description="Ids of messages whose traces are added."
    )
    texts: bool = Field(False, description="With what was said in these messages.")
    note: Text = Field("", max_length=2000, description="What is wrong, in your words.")


class BundleOut(Schema):
    """A bundle that was made. It is kept for a week on the host that made it."""

    name: str
    size: int
    files: list[str]
    failed: list[str] = Field(description="Parts that could not be made; their reasons are in the bundle.")
    url: str


@router.post("", response={201: BundleOut}, operation_id="support_bundle_make", summary="Make a support bundle")
def support_bundle_make(request: HttpRequest, body: BundleIn) -> HttpResponse:
    """Versions, findings, log lines, settings and mappings in one zip file, without secrets. Fetch it at `url`."""
    messages = tuple(one for one in dict.fromkeys(body.messages) if 0 < one <= LARGEST_ID)
    made = bundle_make(wish=BundleWish(messages, body.texts, note=body.note), actor=principal_of(request).actor)
    found: dict[str, Any] = {
        "name": made.name,
        "size": made.size,
        "files": list(made.parts),
        "failed": list(made.failed),
        "url": f"/api/v1/support-bundle/{made.name}",
    }
    return answer(found, status=201)


@router.get("/{name}", operation_id="support_bundle_get", summary="Download a support bundle", response={200: bytes})
def support_bundle_get(request: HttpRequest, name: Text) -> FileResponse:
    where = folder.path_of(name)
    if where is None:
        raise not_found("support file", name)
    return FileResponse(where.open("rb"), as_attachment=True, filename=name, content_type=folder.kind_of(name))
