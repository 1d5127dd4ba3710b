"""Alerts: the channels and what they were told, and maintenance in which nobody is told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import NoReverseMatch, URLPattern, path, reverse
from django.utils import timezone
from unfold.decorators import display

from ops import html
from ops.admin.base import Deed, OperatorAdmin, actor_of
from ops.admin.panels import Button, Panel, register_panel
from ops.alerts.transports import label_of
from ops.alerts.words import reference
from ops.choices import Lamp
from ops.findings import SEVERITIES
from ops.models import AlertChannel, AlertMessage, AlertState, MaintenanceWindow
from ops.secrets import SecretUnreadable
from ops.services.alerts import (
    channel_delete,
    channel_save,
    channel_switch,
    channel_test,
    maintenance_end,
    maintenance_start,
    message_retry,
)

LOG_ON_PAGE = 30
_EXAMPLES = (
    "For example mailtos://user:password@example.org?to=ops@example.org, room://#ops:example.org (a Matrix room, spoken in by "
    "Switchboard's own account), ntfys://topic, slack://…, jsons://hooks.example.org/path. Any address that Apprise knows."
)


class ChannelForm(forms.Form):
    """A channel. Its address is written, and never shown again."""

    name = forms.CharField(max_length=100)
    url = forms.CharField(
        label="Address", widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}), help_text=_EXAMPLES
    )
    min_severity = forms.ChoiceField(
        label="Tell from",
        choices=[(one, one) for one in SEVERITIES],
        initial="warning",
        help_text="What is less is not told.",
    )
    only_checks = forms.CharField(
        label="Only these checks",
        required=False,
        help_text="Ids or patterns (matrix.*), separated by commas. Empty: all.",
    )
    tell_recovery = forms.BooleanField(label="Tell recoveries", required=False, initial=True)
    remind_every_minutes = forms.IntegerField(
        label="Remind every (minutes)", initial=240, min_value=0, help_text="While nobody has taken it on. 0: never."
    )
    quiet_from = forms.TimeField(
        label="Quiet from", required=False, help_text="What is not critical waits for one digest. For example 22:00."
    )
    quiet_to = forms.TimeField(label="Quiet to", required=False)
    timezone = forms.CharField(label="Time zone of the quiet hours", initial="UTC", max_length=64)

    def __init__(self, data: Any = None, *, channel: AlertChannel | None = None) -> None:
        super().__init__(data)
        if channel is not None:
            self.fields["url"].required = False
            self.fields["url"].help_text = f"An address is set; type a new one to replace it. {_EXAMPLES}"
            self.initial.update(
                {name: getattr(channel, name) for name in self.fields if name not in ("url", "only_checks")}
            )
            self.initial["only_checks"] = ", ".join(channel.only_checks or ())

    def save_arguments(self) -> dict[str, Any]:
        """The keyword arguments of ``channel_save``, without actor and channel."""
        data = dict(self.cleaned_data)
        data["only_checks"] = data["only_checks"].split(",")
        data["url"] = data["url"] or None
        return data


class MaintenanceForm(forms.Form):
    """A time in which nobody is told."""

    reason = forms.CharField(max_length=300, help_text="For whoever wonders about the silence.")
    starts_in = forms.ChoiceField(
        label="Begins", choices=[("0", "now"), ("15", "in 15 minutes"), ("60", "in an hour"), ("720", "in 12 hours")]
    )
    minutes = forms.ChoiceField(
        label="Lasts",
        initial="60",
        choices=[("30", "30 minutes"), ("60", "an hour"), ("240", "4 hours"), ("720", "12 hours"), ("1440", "a day")],
    )
    checks = forms.CharField(
        label="Only these checks",
        required=False,
        help_text="Ids or patterns (matrix.*), separated by commas. Empty: all.",
    )


@admin.register(AlertChannel)
class AlertChannelAdmin(OperatorAdmin):
    list_display = ("name", "state_lamp", "goes_to", "min_severity", "last_ok", "last_problem")
    list_filter = ("enabled", "min_severity")
    search_fields = ("name",)
    detail_template = "switchboard/alert_channel.html"
    intro = "Where operators are told that something is wrong, and that it is over: mail, a Matrix room, chat services, webhooks."
    empty_title = "No channel yet"
    empty_text = "Nobody is told of anything. Add a channel, and send a test."

    def get_urls(self) -> list[URLPattern]:
        edit = path("<path:object_id>/edit/", self.admin_site.admin_view(self.form_view), name="ops_alertchannel_edit")
        return [edit, *super().get_urls()]

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_view_permission(request)

    @display(description="State")
    def state_lamp(self, row: AlertChannel) -> str:
        return html.lamp(*_state(row))

    @display(description="Goes to")
    def goes_to(self, row: AlertChannel) -> str:
        return _goes_to(row)

    @display(description="Last taken", ordering="last_ok_at")
    def last_ok(self, row: AlertChannel) -> str:
        return html.ago(row.last_ok_at)

    @display(description="Last error")
    def last_problem(self, row: AlertChannel) -> str:
        return row.last_error[:120]

    def deeds(self) -> tuple[Deed, ...]:
        return (
            Deed("test", "Send a test", self.test, primary=True),
            Deed("enable", "Switch on", lambda r, s: self.switch(r, s, True), shown=lambda row: not row.enabled),
            Deed(
                "disable",
                "Switch off",
                lambda r, s: self.switch(r, s, False),
                explain=lambda row: f"{row.name} is told nothing more until it is switched on again.",
                danger=True,
                shown=lambda row: row.enabled,
            ),
            Deed(
                "delete",
                "Delete",
                self.delete,
                explain=lambda row: f"{row.name}, its address and the log of what it was told are removed.",
                danger=True,
            ),
        )

    def test(self, request: HttpRequest, row: AlertChannel) -> str:
        message = channel_test(channel=row, actor=actor_of(request))
        if message.state == AlertState.SENT:
            return f"{row.name} took the test. See whether it arrived."
        messages.error(request, f"{row.name}: the test did not arrive. {message.error}")
        return ""

    def switch(self, request: HttpRequest, row: AlertChannel, enabled: bool) -> str:
        channel_switch(channel=row, enabled=enabled, actor=actor_of(request))
        return f"{row.name} is switched {'on' if enabled else 'off'}."

    def delete(self, request: HttpRequest, row: AlertChannel) -> HttpResponse:
        channel_delete(channel=row, actor=actor_of(request))
        messages.success(request, f"{row.name} is deleted.")
        return HttpResponseRedirect(reverse("admin:ops_alertchannel_changelist"))

    def detail_context(self, request: HttpRequest, row: AlertChannel) -> dict[str, Any]:
        lamp, word = _state(row)
        return {
            "lamp_state": lamp,
            "word": word,
            "goes_to": _goes_to(row),
            "waiting": row.messages.filter(state__in=(AlertState.QUEUED, AlertState.HELD)).count(),
            "log": row.messages.all()[:LOG_ON_PAGE],
        }

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return self.form_view(request)

    def form_view(self, request: HttpRequest, object_id: str = "") -> HttpResponse:
        """The form of a new channel or of one that is there."""
        row: AlertChannel | None = self._row(request, object_id) if object_id else None
        form = ChannelForm(request.POST or None, channel=row)
        if request.method == "POST" and form.is_valid():
            try:
                saved = channel_save(
                    actor=actor_of(request), channel=row, enabled=row.enabled if row else True, **form.save_arguments()
                )
            except ValidationError as error:
                _take(form, error)
            else:
                messages.success(request, f"{saved.name} is saved. Send a test to see whether it works.")
                return HttpResponseRedirect(self.address_of(saved))
        return self.page(
            request,
            "switchboard/form.html",
            title=f"Edit {row.name}" if row else "Add a channel",
            form=form,
            back=self.address_of(row) if row else reverse("admin:ops_alertchannel_changelist"),
            sentence="The address holds what lets Switchboard in there: it is stored encrypted and never shown again.",
        )


@admin.register(AlertMessage)
class AlertMessageAdmin(OperatorAdmin):
    list_display = ("title", "state_lamp", "kind", "channel", "written", "sent", "note")
    list_filter = ("state", "kind", "channel")
    list_select_related = ("channel",)
    search_fields = ("title",)
    detail_template = "switchboard/alert_message.html"
    intro = "What was told to whom, what waits, and what was kept back and why."
    empty_title = "Nobody was told anything yet"
    empty_text = "Messages appear here when an issue opens, or when a channel is tested."

    @display(description="State", ordering="state")
    def state_lamp(self, row: AlertMessage) -> str:
        return html.lamp(row.lamp, row.get_state_display())

    @display(description="Written", ordering="created_at")
    def written(self, row: AlertMessage) -> str:
        return html.ago(row.created_at)

    @display(description="Sent", ordering="sent_at")
    def sent(self, row: AlertMessage) -> str:
        return html.ago(row.sent_at, "")

    @display(description="Note")
    def note(self, row: AlertMessage) -> str:
        return row.error[:120]

    def deeds(self) -> tuple[Deed, ...]:
        failed = AlertState.FAILED
        return (Deed("retry", "Try again", self.retry, primary=True, shown=lambda row: row.state == failed),)

    def retry(self, request: HttpRequest, row: AlertMessage) -> str:
        message_retry(message=row, actor=actor_of(request))
        return "It is tried again within seconds."

    def detail_context(self, request: HttpRequest, row: AlertMessage) -> dict[str, Any]:
        try:
            address = reverse("admin:ops_issue_change", args=[row.issue_id]) if row.issue_id else ""
        except NoReverseMatch:
            address = ""
        return {"reference": reference(row.key), "issue_address": address}


@admin.register(MaintenanceWindow)
class MaintenanceWindowAdmin(OperatorAdmin):
    list_display = ("reason", "state_lamp", "starts", "ends", "which", "created_by")
    search_fields = ("reason",)
    detail_template = "switchboard/alert_maintenance.html"
    intro = "Times in which nobody is told, because somebody works on it. Checks run on, and issues open as ever."
    empty_title = "No maintenance"
    empty_text = "Announce it before you restart servers, and nobody is woken."

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_view_permission(request)

    @display(description="State")
    def state_lamp(self, row: MaintenanceWindow) -> str:
        return html.lamp(*_window_state(row))

    @display(description="Begins", ordering="starts_at")
    def starts(self, row: MaintenanceWindow) -> str:
        return html.ago(row.starts_at)

    @display(description="Ends", ordering="ends_at")
    def ends(self, row: MaintenanceWindow) -> str:
        return html.ago(row.ends_at)

    @display(description="Checks")
    def which(self, row: MaintenanceWindow) -> str:
        return ", ".join(row.checks) or "all"

    def deeds(self) -> tuple[Deed, ...]:
        return (
            Deed(
                "end",
                "End it now",
                self.end,
                primary=True,
                shown=lambda row: row.ends_at > timezone.now(),
            ),
        )

    def end(self, request: HttpRequest, row: MaintenanceWindow) -> HttpResponse:
        maintenance_end(window=row, actor=actor_of(request))
        messages.success(request, "It has ended. What is wrong is told again.")
        return HttpResponseRedirect(reverse("admin:ops_maintenancewindow_changelist"))

    def detail_context(self, request: HttpRequest, row: MaintenanceWindow) -> dict[str, Any]:
        lamp, word = _window_state(row)
        return {"lamp_state": lamp, "word": word}

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The form of a new window."""
        form = MaintenanceForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            start = timezone.now() + timedelta(minutes=int(form.cleaned_data["starts_in"]))
            try:
                window = maintenance_start(
                    actor=actor_of(request),
                    reason=form.cleaned_data["reason"],
                    starts_at=start,
                    ends_at=start + timedelta(minutes=int(form.cleaned_data["minutes"])),
                    checks=form.cleaned_data["checks"].split(","),
                )
            except ValidationError as error:
                _take(form, error)
            else:
                messages.success(request, "Announced.")
                return HttpResponseRedirect(self.address_of(window))
        return self.page(
            request,
            "switchboard/form.html",
            title="Announce maintenance",
            form=form,
            submit="Announce it",
            back=reverse("admin:ops_maintenancewindow_changelist"),
            sentence="Nobody is told of issues while it lasts. What is still wrong when it ends is told then.",
        )


def _take(form: forms.Form, error: ValidationError) -> None:
    """Show what the service refused beside the field it is about."""
    for name, sentences in error.message_dict.items():
        form.add_error(name if name in form.fields else None, sentences)


def _edit_button(request: HttpRequest, row: AlertChannel) -> Panel:
    return Panel(buttons=(Button("Edit", reverse("admin:ops_alertchannel_edit", args=[row.pk])),))


def _goes_to(row: AlertChannel) -> str:
    try:
        return label_of(row.url)
    except SecretUnreadable:
        return "The address cannot be decrypted; enter it again"


def _state(row: AlertChannel) -> tuple[Lamp, str]:
    if not row.enabled:
        return Lamp.OFF, "Off"
    if row.last_error:
        return Lamp.TROUBLE, "Fails"
    return (Lamp.GOOD, "Works") if row.last_ok_at else (Lamp.ATTENTION, "Not tested yet")


def _window_state(row: MaintenanceWindow) -> tuple[Lamp, str]:
    now = timezone.now()
    if row.ends_at <= now:
        return Lamp.OFF, "Over"
    return (Lamp.WORKING, "Now") if row.starts_at <= now else (Lamp.ATTENTION, "Announced")


register_panel("ops.alertchannel", _edit_button)
