"""When backups are made by themselves: one form, with the next times beside it."""

from __future__ import annotations

from typing import Any
from zoneinfo import available_timezones

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse

from ops.admin.backup_files import optional_choices
from ops.admin.base import actor_of, is_operator, sentence_of
from ops.backup.errors import BackupError
from ops.models import BackupDestination, BackupPlan

_EVERY = [(1, "every hour"), (3, "every 3 hours"), (6, "every 6 hours"), (12, "every 12 hours"), (24, "every day"), (48, "every second day"), (168, "every week")]  # fmt: skip


class PlanForm(forms.Form):
    """The plan. Times of day are in its own zone."""

    enabled = forms.BooleanField(required=False, label="Make backups by itself")
    every_hours = forms.TypedChoiceField(label="How often", choices=_EVERY, coerce=int)
    at = forms.TimeField(
        required=False,
        label="At",
        widget=forms.TimeInput(attrs={"type": "time", "class": "sb-short"}, format="%H:%M"),
        help_text="Time of day, for plans of whole days. Empty: whenever the interval ends.",
    )
    timezone = forms.CharField(
        label="Time zone of that", max_length=64, widget=forms.TextInput(attrs={"list": "zones"})
    )
    jitter_minutes = forms.IntegerField(
        label="Spread by (minutes)",
        min_value=0,
        max_value=720,
        help_text="Some minutes later each time, so that many installations do not all begin at once.",
        widget=forms.NumberInput(attrs={"class": "sb-short"}),
    )
    contents = forms.MultipleChoiceField(
        required=False, widget=forms.CheckboxSelectMultiple, label="Besides what is always in it"
    )
    drill_every_days = forms.IntegerField(
        label="Drill every (days)",
        min_value=1,
        max_value=90,
        help_text="The newest backup is restored into a scratch place, checked and thrown away. Only then it counts as good.",
        widget=forms.NumberInput(attrs={"class": "sb-short"}),
    )

    def __init__(self, data: Any = None, *, plan: BackupPlan) -> None:
        initial = {name: getattr(plan, name) for name in type(self).base_fields}
        super().__init__(data, initial=initial)
        every = self.fields["every_hours"]
        assert isinstance(every, forms.TypedChoiceField)
        if plan.every_hours not in dict(_EVERY):
            every.choices = [(plan.every_hours, f"every {plan.every_hours} hours"), *_EVERY]
        contents = self.fields["contents"]
        assert isinstance(contents, forms.MultipleChoiceField)
        contents.choices = optional_choices()
        if not contents.choices:
            del self.fields["contents"]

    def clean_timezone(self) -> str:
        name = str(self.cleaned_data["timezone"]).strip()
        if name not in available_timezones():
            raise ValidationError("There is no such time zone. It looks like Europe/Berlin, or UTC.")
        return name


class BackupPlanPage:
    """The page, for the admin that hangs it into its addresses."""

    admin_site: Any
    page: Any

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.plan_view)
        return [path("plan/", view, name="ops_backup_plan"), *super().get_urls()]  # type: ignore[misc]

    def plan_view(self, request: HttpRequest) -> HttpResponse:
        """GET shows, POST stores."""
        from ops.services.backup_schedule import plan_save

        if not is_operator(request):
            raise PermissionDenied
        plan = BackupPlan.objects.order_by("pk").first() or BackupPlan()
        form = PlanForm(request.POST or None, plan=plan)
        if request.method == "POST" and form.is_valid():
            try:
                plan_save(actor=actor_of(request), **form.cleaned_data)
            except (ValidationError, BackupError) as error:
                form.add_error(None, sentence_of(error))
            else:
                messages.success(request, "The plan is stored.")
                return HttpResponseRedirect(reverse("admin:ops_backup_plan"))
        return self.page(
            request,
            "switchboard/backup_plan.html",
            title="Plan of backups",
            form=form,
            plan=plan,
            zones=sorted(zone for zone in available_timezones() if "/" in zone or zone == "UTC"),
            destinations=list(BackupDestination.objects.all()),
            back=reverse("admin:ops_backup_changelist"),
        )
