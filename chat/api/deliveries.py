"""Deliveries: the outbox and its dead letters."""

from __future__ import annotations

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from ninja import Field, Query, Router

from chat.api.render import delivery_dict
from chat.api.schemas import DeliveryList, DeliveryOut
from chat.models import Delivery, DeliveryState
from chat.services.deliveries import delivery_discard, delivery_retry
from ops.api.answers import answer
from ops.api.inputs import LARGEST_ID, Id
from ops.api.paging import Paging, page
from ops.api.principals import principal_of
from ops.api.problems import not_found

router = Router(tags=["Deliveries"])


class DeliveryFilter(Paging):
    state: DeliveryState | None = Field(None, description="`dead` are the dead letters.")
    room: int | None = Field(None, ge=1, le=LARGEST_ID)


def _rows() -> QuerySet[Delivery]:
    return Delivery.objects.select_related("room", "account")


def _delivery(delivery_id: int) -> Delivery:
    delivery = _rows().filter(pk=delivery_id).first()
    if delivery is None:
        raise not_found("delivery", delivery_id)
    return delivery


@router.get("", response=DeliveryList, operation_id="deliveries_list", summary="List deliveries, newest first")
def deliveries_list(request: HttpRequest, query: Query[DeliveryFilter]) -> HttpResponse:
    rows = _rows()
    if query.state:
        rows = rows.filter(state=query.state)
    if query.room is not None:
        rows = rows.filter(room_id=query.room)
    return page(request, rows, query, render=delivery_dict, order=("-id",))


@router.get("/{delivery_id}", response=DeliveryOut, operation_id="deliveries_get", summary="Get a delivery")
def deliveries_get(request: HttpRequest, delivery_id: Id) -> HttpResponse:
    return answer(delivery_dict(_delivery(delivery_id)))


@router.post(
    "/{delivery_id}/retry",
    response={202: DeliveryOut},
    operation_id="deliveries_retry",
    summary="Send a dead letter again",
)
def deliveries_retry(request: HttpRequest, delivery_id: Id) -> HttpResponse:
    """With the same transaction ids: what did arrive is not shown twice."""
    delivery = delivery_retry(delivery=_delivery(delivery_id), actor=principal_of(request).actor)
    return answer(delivery_dict(delivery), status=202)


@router.post(
    "/{delivery_id}/discard", response=DeliveryOut, operation_id="deliveries_discard", summary="Give a dead letter up"
)
def deliveries_discard(request: HttpRequest, delivery_id: Id) -> HttpResponse:
    return answer(delivery_dict(delivery_discard(delivery=_delivery(delivery_id), actor=principal_of(request).actor)))
