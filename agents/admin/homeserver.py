"""The homeserver: what it is, which way it offers for what an administrator does, and how the accounts on it speak."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db.models import Count, Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from agents.admin.common import EXPECTED, SESSION_LAMPS
from agents.matrix.admin.ways import LABELS
from agents.models import Account, AccountSession, AccountWay, Drift, InviteePause, Room, RoomKind
from agents.services import homeserver_admin as administering
from agents.services.backends import HOMESERVER_KIND, Homeserver, homeserver_of, homeserver_service, mode_of
from agents.services.homeserver_probe import homeserver_detect, label
from agents.services.invitations import invitee_resume, open_pauses
from ops import html
from ops.admin.base import OperatorAdmin, actor_of, sentence_of
from ops.admin.panels import Button, Panel, register_panel
from ops.models import Service

SHOWN = 50
DIALECTS = {
    "admin_api": "Admin API",
    "shared_secret": "Shared secret",
    "admin_room": "Admin room",
    "registration_token": "Registration token",
    "open_registration": "Open registration",
    "appservice": "Appservice",
    "none": "No way",
}
CREDENTIALS = {
    "as_token": "appservice token",
    "admin_token": "administrator's token",
    "admin_user": "administrator's name",
    "admin_password": "administrator's password",
    "registration_shared_secret": "registration shared secret",
    "registration_token": "registration token",
}


class UserField(forms.CharField):
    """A whole Matrix id; a bare name is one on this homeserver."""

    def __init__(self, **given: Any) -> None:
        super().__init__(
            **{"max_length": 255, "label": "Account", "help_text": "@name:server, or only the name.", **given}
        )


class RoomField(forms.CharField):
    """A room id."""

    def __init__(self, **given: Any) -> None:
        super().__init__(
            **{"max_length": 255, "label": "Room id", "help_text": "It begins with an exclamation mark.", **given}
        )

    def clean(self, value: Any) -> str:
        room_id = str(super().clean(value)).strip()
        if not room_id.startswith("!"):
            raise ValidationError(
                "A room id begins with an exclamation mark; an address does not say which room it is."
            )
        return room_id


class WayForm(forms.Form):
    """What has to be said for one thing. ``server_name`` completes bare names."""

    server_name = ""

    def clean_user(self) -> str:
        name = str(self.cleaned_data["user"]).strip()
        if name.startswith("@") and ":" in name:
            return name
        if name and not set(name) & set("@: "):
            return f"@{name}:{self.server_name}"
        raise ValidationError("Give a Matrix id like @name:server, or only the name.")


def _password(**given: Any) -> forms.CharField:
    widget = forms.PasswordInput(attrs={"autocomplete": "new-password"})
    return forms.CharField(**{"max_length": 200, "min_length": 8, "widget": widget, "label": "Password", **given})


class CreateForm(WayForm):
    user = forms.CharField(max_length=255, label="Name", help_text="The part of the Matrix id before the colon.")
    password = _password()
    display_name = forms.CharField(max_length=255, required=False)
    admin = forms.BooleanField(required=False, label="A server administrator")


class ResetForm(WayForm):
    user = UserField()
    password = _password(label="New password")
    logout_devices = forms.BooleanField(required=False, initial=True, label="End its sessions as well")


class DeactivateForm(WayForm):
    user = UserField()
    again = forms.CharField(max_length=255, label="The same account once more", help_text="It cannot be taken back.")
    erase = forms.BooleanField(required=False, label="Hide what it has said, too")

    def clean(self) -> dict[str, Any]:
        cleaned = dict(super().clean() or self.cleaned_data)
        typed = str(cleaned.get("again", "")).strip()
        if cleaned.get("user") and typed not in {cleaned["user"], cleaned["user"][1:].partition(":")[0]}:
            self.add_error("again", f"This is not {cleaned['user']}: nothing was done.")
        return cleaned


class RoomUserForm(WayForm):
    room = RoomField()
    user = UserField()


class DeleteRoomForm(WayForm):
    room = RoomField()
    again = forms.CharField(max_length=255, label="The same room id once more", help_text="It cannot be taken back.")

    def clean(self) -> dict[str, Any]:
        cleaned = dict(super().clean() or self.cleaned_data)
        room = cleaned.get("room")
        if room and str(cleaned.get("again", "")).strip() != room:
            self.add_error("again", f"This is not {room}: nothing was done.")
        if room and Room.objects.filter(room_id=room).exclude(mapping=None).exists():
            self.add_error("room", "An agent speaks in this room. Move or archive the agent first.")
        return cleaned


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that an administrator does: its form, the call of the service, what is said before and after."""

    button: str
    form: type[WayForm]
    call: Callable[[Homeserver, dict[str, Any], str], Any]
    explain: str
    done: Callable[[dict[str, Any], Any], str]
    danger: bool = False


def _create(homeserver: Homeserver, asked: dict[str, Any], actor: str) -> str:
    return administering.user_create(
        homeserver=homeserver, localpart=asked["user"][1:].partition(":")[0], password=asked["password"],
        display_name=asked["display_name"], admin=asked["admin"], actor=actor,
    )  # fmt: skip


def _reset(homeserver: Homeserver, asked: dict[str, Any], actor: str) -> None:
    administering.password_reset(
        homeserver=homeserver, user_id=asked["user"], password=asked["password"],
        logout_devices=asked["logout_devices"], actor=actor,
    )  # fmt: skip


ACTS: dict[str, Act] = {
    "user_create": Act(
        "Make an account…", CreateForm, _create,
        "An ordinary account with a password, for a person. Agents' accounts are made by sync.",
        lambda asked, made: f"{made} is made.",
    ),
    "password_reset": Act(
        "Reset a password…", ResetForm, _reset,
        "The account gets this password. Tell its owner by a safe way; it is not kept here.",
        lambda asked, made: f"{asked['user']} has a new password.",
    ),
    "user_deactivate": Act(
        "Deactivate an account…", DeactivateForm,
        lambda homeserver, asked, actor: administering.user_deactivate(
            homeserver=homeserver, user_id=asked["user"], erase=asked["erase"], actor=actor
        ),
        "The account leaves all its rooms and nobody can log in to it again. Its name cannot be had again. An agent whose account "
        "this is falls silent.",
        lambda asked, made: f"{asked['user']} is deactivated.",
        danger=True,
    ),
    "room_admin": Act(
        "Give power in a room…", RoomUserForm,
        lambda homeserver, asked, actor: administering.room_make_admin(
            homeserver=homeserver, room_id=asked["room"], user_id=asked["user"], actor=actor
        ),
        "The account gets the power of the room's strongest local member, and is invited where it is not in the room.",
        lambda asked, made: f"{asked['user']} looks after {asked['room']} now.",
    ),
    "room_join": Act(
        "Bring an account into a room…", RoomUserForm,
        lambda homeserver, asked, actor: administering.room_join_user(
            homeserver=homeserver, room_id=asked["room"], user_id=asked["user"], actor=actor
        ),
        "The account is in the room afterwards, invited or not.",
        lambda asked, made: f"{asked['user']} is in {asked['room']}.",
    ),
    "room_delete": Act(
        "Delete a room…", DeleteRoomForm,
        lambda homeserver, asked, actor: administering.room_delete(
            homeserver=homeserver, room_id=asked["room"], actor=actor
        ),
        "Everybody is taken out of the room and the homeserver forgets what was said in it. What Switchboard has of it stays here.",
        lambda asked, made: f"{asked['room']} is deleted." if made else f"The homeserver is deleting {asked['room']}.",
        danger=True,
    ),
}  # fmt: skip


def homeserver_view(page: OperatorAdmin, request: HttpRequest) -> HttpResponse:
    """What is known of the homeserver, without asking it anything; POST asks it now."""
    service = homeserver_service()
    if service is None:
        return page.page(request, "switchboard/homeserver_none.html", title="Homeserver")
    if request.method == "POST" and "resume" in request.POST:
        _resume(request, service)
        return HttpResponseRedirect(reverse("admin:homeserver"))
    if request.method == "POST":
        try:
            found = homeserver_detect(homeserver=homeserver_of(service), actor=actor_of(request))
        except EXPECTED as error:
            messages.error(request, sentence_of(error))
        else:
            messages.success(request, f"It is {label(found)}. What it can do is kept below.")
        return HttpResponseRedirect(reverse("admin:homeserver"))
    known = administering.facts(service)
    probed = parse_datetime(str(known.flavour.get("probed_at") or ""))
    lines = [
        {
            "way": way,
            "label": LABELS[way.ability],
            "dialect": DIALECTS.get(way.dialect, way.dialect),
            "act": ACTS.get(way.ability),
        }
        for way in known.ways.values()
    ]
    return page.page(
        request,
        "switchboard/homeserver.html",
        title="Homeserver",
        service=service,
        facts=known,
        mode=mode_of(service),
        probed=probed,
        lines=lines,
        lacking=sum(not way.works for way in known.ways.values()),
        given=[CREDENTIALS.get(name, name) for name in known.given],
        notes=[
            str(part["sentence"])
            for name in ("auth", "registration", "admin", "secret")
            if isinstance(part := known.flavour.get(name), dict) and part.get("sentence")
        ],
        can=sorted((known.flavour.get("can") or {}).items()),
        lamp_state=service.lamp,
        **_accounts(service),
    )


def _resume(request: HttpRequest, service: Service) -> None:
    key = request.POST["resume"]
    pause = open_pauses().filter(homeserver=service, pk=int(key) if key.isdigit() else 0).first()
    if pause is None:
        messages.info(request, "That pause is over already.")
        return
    invitee_resume(pause=pause, actor=actor_of(request))
    messages.success(request, f"The next sync invites {pause.user_id} again.")


def homeserver_act_view(page: OperatorAdmin, request: HttpRequest, ability: str) -> HttpResponse:
    """The form of one thing, and doing it the way that this homeserver has; or the sentence that says why it cannot be done."""
    act, service = ACTS.get(ability), homeserver_service()
    if act is None or service is None:
        raise Http404("There is no such thing to do.")
    known = administering.facts(service)
    way = known.ways.get(ability)
    form = act.form(request.POST if request.method == "POST" else None, initial={"user": request.GET.get("user", ""), "room": request.GET.get("room", "")})  # fmt: skip
    form.server_name = known.server_name
    if request.method == "POST" and form.is_valid():
        try:
            made = act.call(homeserver_of(service), form.cleaned_data, actor_of(request))
        except (administering.CannotAdminister, *EXPECTED) as error:
            form.add_error(None, sentence_of(error))
        else:
            messages.success(request, act.done(form.cleaned_data, made))
            return HttpResponseRedirect(reverse("admin:homeserver"))
    return page.page(
        request,
        "switchboard/homeserver_act.html",
        title=LABELS[ability],  # type: ignore[index]
        act=act,
        form=form,
        way=way,
        service=service,
        dialect=DIALECTS.get(way.dialect, "") if way else "",
        back=reverse("admin:homeserver"),
    )


def _accounts(service: Service) -> dict[str, Any]:
    """How the accounts speak, and what is paused; a constant number of queries."""
    rows = Account.objects.filter(homeserver=service)
    grouped = rows.order_by().values_list("way", "session").annotate(count=Count("pk"))
    counts = {(way, session): count for way, session, count in grouped}
    sessions = [
        (html.lamp(SESSION_LAMPS[AccountSession(key)], name), counts.get((AccountWay.SESSION, key), 0), key)
        for key, name in AccountSession.choices
    ]
    troubled = rows.filter(session__in=[AccountSession.REFUSED, AccountSession.LOCKED], way=AccountWay.SESSION)
    drift = Drift.objects.filter(homeserver=service, mended_at=None).aggregate(
        open=Count("pk"), decide=Count("pk", filter=Q(mends=False))
    )
    rooms = Room.objects.filter(homeserver=service).exclude(kind=RoomKind.SPACE)
    now = timezone.now()
    return {
        "now": now,
        "by_appservice": sum(count for (way, _), count in counts.items() if way == AccountWay.APPSERVICE),
        "by_session": sum(count for (way, _), count in counts.items() if way == AccountWay.SESSION),
        "sessions": sessions,
        "troubled": list(
            troubled.defer("secrets").select_related("mapping__agent").order_by("session_checked_at", "pk")[:SHOWN]
        ),
        "pauses": list(
            InviteePause.objects.filter(homeserver=service, until__gt=now).order_by("until")[:SHOWN]
        ),
        "rooms": rooms.aggregate(made=Count("pk", filter=Q(room_id__isnull=False)), reserved=Count("pk", filter=Q(room_id=None))),
        "drift": drift,
        "lazy": service.options.get("rooms") == "lazy",
    }  # fmt: skip


def _buttons_of_service(request: HttpRequest, row: Service) -> Panel:
    if row.kind != HOMESERVER_KIND or not row.enabled:
        return Panel()
    return Panel(buttons=(Button("What it can do, accounts and sessions", reverse("admin:homeserver")),))


register_panel("ops.service", _buttons_of_service)
