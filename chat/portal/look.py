"""How the portal looks to whoever reads it: theme, language, time zone. A choice is kept in cookies, and with the person if there is one."""

from __future__ import annotations

from collections.abc import Callable
from zoneinfo import ZoneInfo

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect, JsonResponse
from django.utils import timezone, translation
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from chat.models import Person
from chat.services.preferences import look_choose

THEMES = {"auto": gettext_lazy("As the device"), "light": gettext_lazy("Light"), "dark": gettext_lazy("Dark")}
THEME_COOKIE = "theme"
ZONE_COOKIE = "time_zone"
_YEAR = 365 * 24 * 3600
_NOT_PAGES = ("/api/", "/admin/", "/static/", "/_matrix/", "/webhook/", "/v1/", "/status")


def theme_of(request: HttpRequest) -> str:
    """``light``, ``dark`` or ``auto``: the person's choice, else this browser's."""
    person = getattr(request, "user", None)
    chosen = person.preferences.get("theme") if isinstance(person, Person) else None
    chosen = chosen or request.COOKIES.get(THEME_COOKIE)
    return chosen if chosen in THEMES else "auto"


def zone_of(request: HttpRequest) -> ZoneInfo | None:
    """The reader's time zone: chosen by the person, else told by the browser in a cookie; ``None`` when neither is known."""
    person = getattr(request, "user", None)
    name = (person.time_zone if isinstance(person, Person) else "") or request.COOKIES.get(ZONE_COOKIE, "")
    try:
        return ZoneInfo(name) if name else None
    except (KeyError, OSError, ValueError):  # unknown, or no name of a zone at all
        return None


class ReaderMiddleware:
    """The portal's pages speak the person's language and show times of their zone. Without a choice: the browser's language, UTC."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path.startswith(_NOT_PAGES):
            return self.get_response(request)
        person = request.user
        if isinstance(person, Person) and person.language in dict(settings.LANGUAGES):
            translation.activate(person.language)
            request.LANGUAGE_CODE = person.language
        zone = zone_of(request)
        if zone is None:
            return self.get_response(request)
        with timezone.override(zone):
            return self.get_response(request)


@require_POST
def look(request: HttpRequest) -> HttpResponse:
    """Choose ``theme`` and/or ``language``. A form goes back to ``next``; a script that accepts JSON gets what is now chosen."""
    theme = request.POST.get("theme", "")
    language = request.POST.get("language", "")
    theme = theme if theme in THEMES else ""
    language = language if language in dict(settings.LANGUAGES) else ""
    if isinstance(request.user, Person) and (theme or language):
        look_choose(person=request.user, theme=theme, language=language, actor=f"person:{request.user.get_username()}")
    response: HttpResponse
    if "application/json" in request.headers.get("accept", ""):
        response = JsonResponse(
            {"theme": theme or theme_of(request), "language": language or translation.get_language()}
        )
    else:
        goal = request.POST.get("next", "")
        safe = url_has_allowed_host_and_scheme(goal, {request.get_host()}, require_https=request.is_secure())
        response = HttpResponseRedirect(goal if safe else "/")
    secure = settings.SESSION_COOKIE_SECURE
    if theme:
        response.set_cookie(THEME_COOKIE, theme, max_age=_YEAR, samesite="Lax", secure=secure, httponly=True)
    if language:
        response.set_cookie(settings.LANGUAGE_COOKIE_NAME, language, max_age=_YEAR, samesite="Lax", secure=secure)
    return response
