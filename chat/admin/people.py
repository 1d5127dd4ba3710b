"""People, and which of them are operators."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from agents.matrix.names import valid_user_id
from chat.admin.looking import stop_view
from chat.admin.people_deeds import person_deeds
from chat.admin.people_page import person_context
from chat.models import Person
from chat.queries_people import with_numbers
from chat.services.open_sessions import NothingOpen, open_end
from chat.services.people import person_check, person_password_changed, person_save
from ops import html
from ops.admin.base import Deed, OperatorAdmin, actor_of

# All operators may do the same; groups of permissions would only pretend otherwise.
if admin.site.is_registered(Group):
    admin.site.unregister(Group)


class PersonForm(UserChangeForm):
    """A person as an operator edits them."""

    def clean_matrix_user_id(self) -> str:
        value = str(self.cleaned_data.get("matrix_user_id") or "").strip()
        if value and not valid_user_id(value):
            raise ValidationError("A Matrix id looks like @name:server.")
        return value

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        person_check(
            person=self.instance, is_active=bool(cleaned.get("is_active")), is_staff=bool(cleaned.get("is_staff"))
        )
        return dict(cleaned)


@admin.register(Person)
class PersonAdmin(UserAdmin, OperatorAdmin):
    form = PersonForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "display_name", "role_lamp", "second_factor", "sessions", "failures", "seen")
    list_display_links = ("username",)
    list_filter = ("is_staff", "is_active")
    search_fields = ("username", "display_name", "email", "matrix_user_id")
    search_help_text = "Name, e-mail or Matrix id"
    ordering = ("username",)
    filter_horizontal = ()
    readonly_fields = ("password_link", "last_login", "date_joined")
    actions = None
    detail_template = "switchboard/person.html"
    fieldsets = (
        (None, {"fields": ("username", "password_link")}),
        ("Who it is", {"fields": ("display_name", "email", "matrix_user_id")}),
        ("What they may do", {"fields": ("is_active", "is_staff")}),
        ("Times", {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = (
        (None, {"classes": ("wide",), "fields": ("username", "usable_password", "password1", "password2")}),
    )
    intro = (
        "People who may sign in. They join by an invitation, or are made here. An operator sees and does everything on this site, "
        "and is invited to the space with their Matrix id."
    )
    empty_title = "Nobody yet"

    def get_queryset(self, request: HttpRequest) -> Any:
        return with_numbers(super().get_queryset(request))

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("look/stop/", wrap(stop_view), name="chat_person_look_stop"),
            path("<int:object_id>/edit/", wrap(self.edit_view), name="chat_person_edit"),
            path("<int:object_id>/end/", wrap(self.end_view), name="chat_person_end"),
        ]
        return [*own, *super().get_urls()]

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_view_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_view_permission(request)

    # The list

    @display(description="State")
    def role_lamp(self, row: Person) -> str:
        if not row.is_active:
            return html.lamp("off", "Deactivated")
        return html.lamp("good", "Operator" if row.is_staff else "Person")

    @display(description="Two-factor", ordering="has_second")
    def second_factor(self, row: Any) -> str:
        return "on" if row.has_second else html.quiet("off")

    @display(description="Sessions", ordering="open_sessions")
    def sessions(self, row: Any) -> str:
        return str(row.open_sessions or 0)

    @display(description="Failed, 7 days", ordering="failed")
    def failures(self, row: Any) -> str:
        return str(row.failed or 0)

    @display(description="Last seen", ordering="seen_at")
    def seen(self, row: Any) -> str:
        return html.ago(row.seen_at)

    @display(description="Password")
    def password_link(self, row: Person) -> str:
        return html.link(reverse("admin:auth_user_password_change", args=[row.pk]), "Set a new password")

    # The page

    def deeds(self) -> tuple[Deed, ...]:
        return person_deeds()

    def detail_context(self, request: HttpRequest, row: Person) -> dict[str, Any]:
        return person_context(request, row)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The page shows; its form stands on a page of its own, and is stored here as well."""
        if request.method == "POST":
            return self.edit_view(request, int(object_id)) if object_id.isdigit() else HttpResponseNotAllowed(["GET"])
        return OperatorAdmin.change_view(self, request, object_id, form_url, extra_context)

    def edit_view(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """The form of a person."""
        response: HttpResponse = self.changeform_view(request, str(object_id))
        return response

    def response_change(self, request: HttpRequest, obj: Person) -> HttpResponse:
        messages.success(request, f"{obj} is saved.")
        return HttpResponseRedirect(self.address_of(obj))

    def end_view(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """End one browser, program or token of a person."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        row: Person = self._row(request, str(object_id))
        try:
            what = open_end(
                person=row, kind=request.POST.get("kind", ""), key=request.POST.get("key", ""), actor=actor_of(request)
            )
        except NothingOpen as error:
            messages.warning(request, error.sentence)
        else:
            messages.success(request, f"{what} is ended.")
        return HttpResponseRedirect(self.address_of(row))

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        shown = {"show_save_and_add_another": False, "show_save_and_continue": False, **(extra_context or {})}
        return super().changeform_view(request, object_id, form_url, shown)

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field is not None and db_field.name in _WORDS:
            field.label, field.help_text = _WORDS[db_field.name]
        return field

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        person_save(person=obj, changed=form.changed_data, actor=actor_of(request))

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        response = super().user_change_password(request, id, form_url)
        if request.method == "POST" and response.status_code == 302:
            person_password_changed(person=Person.objects.get(pk=id), actor=actor_of(request))
        return response


_WORDS = {
    "is_active": ("May sign in", "Take the tick away instead of deleting: what they said keeps its name."),
    "is_staff": ("Operator", "Sees and does everything on this site."),
    "matrix_user_id": (
        "Matrix id",
        "Their own account, for example @alice:example.org. Operators are invited to the space with it.",
    ),
    "display_name": ("Name", "How agents and others see them."),
}
