"""Dead letters: answers that failed and deliveries that were given up, side by side, to be tried again or let go."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from chat.admin.common import DELIVERY_LAMPS, TURN_LAMPS
from chat.models import Delivery, Turn
from chat.queries import dead_deliveries, dead_turns
from chat.services.deliveries import delivery_discard, delivery_retry
from chat.services.turns import WrongState, turn_discard, turn_retry
from ops import html
from ops.admin.base import actor_of, is_operator
from ops.words import counted

SHOWN = 100
MOST_AT_ONCE = 2 * SHOWN


def dead_letters_view(request: HttpRequest) -> HttpResponse:
    """GET lists them; POST retries or discards those that were ticked."""
    if not is_operator(request):
        raise PermissionDenied
    if request.method == "POST":
        return _act(request)
    turns = list(dead_turns().select_related("agent", "message__sender").order_by("-id")[:SHOWN])
    deliveries = list(dead_deliveries().select_related("room", "message").order_by("-id")[:SHOWN])
    context: dict[str, Any] = {
        **admin.site.each_context(request),
        "title": "Dead letters",
        "turns": [(one, html.lamp(TURN_LAMPS[one.state], one.get_state_display())) for one in turns],
        "deliveries": [(one, html.lamp(DELIVERY_LAMPS[one.state], one.get_state_display())) for one in deliveries],
        "full": len(turns) == SHOWN or len(deliveries) == SHOWN,
    }
    return TemplateResponse(request, "switchboard/dead_letters.html", context)


def _act(request: HttpRequest) -> HttpResponse:
    back = HttpResponseRedirect(reverse("admin:dead_letters"))
    wanted = request.POST.get("do", "")
    turns = list(Turn.objects.filter(pk__in=_ids(request, "turn")))
    deliveries = list(Delivery.objects.filter(pk__in=_ids(request, "delivery")))
    if wanted not in {"retry", "discard"} or not (turns or deliveries):
        messages.warning(request, "Tick at least one dead letter first.")
        return back
    if wanted == "discard" and request.POST.get("sure") != "yes":
        context = {
            **admin.site.each_context(request),
            "title": "Discard dead letters",
            "turns": turns,
            "deliveries": deliveries,
            "count": len(turns) + len(deliveries),
        }
        return TemplateResponse(request, "switchboard/dead_letters_discard.html", context)
    done, refused = 0, []
    actor = actor_of(request)
    deeds: list[Callable[[], Any]] = [
        partial(turn_retry if wanted == "retry" else turn_discard, turn=turn, actor=actor) for turn in turns
    ] + [
        partial(delivery_retry if wanted == "retry" else delivery_discard, delivery=one, actor=actor)
        for one in deliveries
    ]
    for deed in deeds:
        try:
            deed()
            done += 1
        except WrongState as error:
            refused.append(error.sentence)
    if done:
        verb = "tried again" if wanted == "retry" else "discarded"
        messages.success(request, f"{counted(done, 'dead letter')} {verb}.")
    for sentence in refused[:5]:
        messages.warning(request, sentence)
    return back


def _ids(request: HttpRequest, name: str) -> list[int]:
    return [int(value) for value in request.POST.getlist(name)[:MOST_AT_ONCE] if value.isdigit()]
