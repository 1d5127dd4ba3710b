"""One object as its server sees it: read when asked for, never changed, without its secrets."""

from __future__ import annotations

from collections.abc import Callable

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse

from ops.admin.base import OperatorAdmin, is_operator
from ops.doctor.targets import address_of, label_of
from ops.logbook.raw import NothingRaw, raw_kind, read


def raw_view(page: OperatorAdmin) -> Callable[[HttpRequest, str, str], HttpResponse]:
    """The page, in the frame of ``page``."""

    def view(request: HttpRequest, kind: str, key: str) -> HttpResponse:
        if not is_operator(request):
            raise PermissionDenied
        known = raw_kind(kind)
        if known is None:
            raise Http404("There is no such view.")
        text = problem = ""
        try:
            text = read(known, key)
        except NothingRaw as error:
            problem = str(error)
        target = f"{kind}:{key}"
        return page.page(
            request,
            "switchboard/log_raw.html",
            title=f"{label_of(target)}: {known.label}",
            text=text,
            problem=problem,
            label=known.label,
            back=address_of(target),
        )

    return view
