"""How long rows are kept: the days of each kind, what would go, and the legal hold that stops all of it. Nothing is removed here: that is
the repair ``retention.run``, which shows its difference, exports first, and wants a word typed."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from ops.admin.base import OperatorAdmin, actor_of, sentence_of
from ops.doctor_data.usage import text
from ops.live import live_set
from ops.retention import HOLD, due, on_hold, retention_kinds


def retention_view(page: OperatorAdmin, request: HttpRequest) -> HttpResponse:
    """Shows what is due. POST shows what would go with other days (``do=preview``), stores days, or switches the hold."""
    preview = request.method == "POST" and request.POST.get("do") == "preview"
    if request.method == "POST" and not preview:
        return _store(request)
    kinds = [_shown(kind, request.POST.get(f"days_{kind.kind}", "") if preview else "") for kind in retention_kinds()]
    going = [one for one in kinds if one["due"] is not None and not one["automatic"]]
    return page.page(
        request,
        "switchboard/retention.html",
        title="Retention",
        kinds=kinds,
        hold=on_hold(),
        going=len(going),
        plan=reverse("admin:ops_repair_plan", args=["retention.run"]),
    )


def _shown(kind: Any, tried: str) -> dict[str, Any]:
    days = int(tried) if tried.isdigit() and len(tried) < 6 else kind.days()
    found = due(kind, days=days, measure=True)
    return {
        "kind": kind.kind,
        "label": kind.label,
        "automatic": kind.automatic,
        "days": days,
        "stored": kind.days(),
        "tried": days != kind.days(),
        "due": found,
        "size": text(found.size) if found is not None and found.size else "",
    }


def _store(request: HttpRequest) -> HttpResponse:
    back = HttpResponseRedirect(reverse("admin:retention"))
    try:
        if "hold" in request.POST:
            wanted = request.POST["hold"] == "on"
            live_set(key=HOLD, value=wanted, actor=actor_of(request))
            messages.success(
                request, "Nothing is removed for its age now." if wanted else "The rules of retention apply again."
            )
            return back
        changed = []
        for kind in retention_kinds():
            given = request.POST.get(f"days_{kind.kind}", "").strip()
            if given and given != str(kind.days()):
                live_set(key=kind.key, value=given, actor=actor_of(request))
                changed.append(kind.label)
    except ValidationError as error:
        messages.error(request, sentence_of(error))
        return back
    messages.success(request, f"Stored: {', '.join(changed)}." if changed else "Nothing was changed.")
    return back
