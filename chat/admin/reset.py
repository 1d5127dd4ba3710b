"""The page on which a reset link stands, once."""

from __future__ import annotations

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import mark_safe

from chat.models import Person
from chat.services.invites import qr_svg
from chat.services.people import reset_link
from chat.services.reset_handed import reset_handed
from ops.admin.base import OperatorAdmin, actor_of


def reset_page(request: HttpRequest, row: Person) -> HttpResponse:
    """Make the link and show it; with a mail server, people may also ask for it themselves."""
    link = reset_link(person=row, actor=actor_of(request))
    reset_handed(person=row)
    page = admin.site._registry[Person]
    assert isinstance(page, OperatorAdmin)
    return page.page(
        request,
        "switchboard/link_made.html",
        title=f"Reset link for {row}",
        row=row,
        sentence=f"Hand this link to {row} on a way that only they read. It counts once, for a day.",
        link=link,
        qr=mark_safe(qr_svg(link)),  # noqa: S308 - drawn here, from numbers
        note=""
        if settings.MAIL
        else "No mail server is set (EMAIL_URL), so people cannot ask for such a link themselves.",
        back=page.address_of(row),
    )
