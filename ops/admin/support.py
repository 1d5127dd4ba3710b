"""Support bundles: made here, looked through file by file, downloaded, deleted."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_POST

from ops.admin.base import actor_of, is_operator
from ops.services.support import bundle_make, file_remove
from ops.support import folder
from ops.support.bundle import BundleWish, parse_messages, parts, read_zip


class BundleForm(forms.Form):
    """What goes into the bundle besides what always does."""

    messages = forms.CharField(
        required=False,
        max_length=1000,
        label="Messages",
        help_text="Ids of messages whose way is to be in it, separated by commas. The number stands in the search and the trace.",
    )
    texts = forms.BooleanField(required=False, label="With what was said in these messages")
    note = forms.CharField(
        required=False, max_length=2000, label="What is wrong", widget=forms.Textarea(attrs={"rows": 3})
    )

    def clean_messages(self) -> tuple[int, ...]:
        try:
            return parse_messages([self.cleaned_data["messages"]])
        except ValueError as error:
            raise ValidationError(str(error)) from None


class SupportPages:
    """The pages, for the admin that hangs them into its addresses."""

    admin_site: Any
    page: Any

    def support_urls(self) -> list[URLPattern]:
        """All below the page of the logs."""
        wrap = self.admin_site.admin_view
        return [
            path("support/", wrap(self.support_view), name="support"),
            path("support/<str:name>/", wrap(self.bundle_view), name="support_file"),
            path("support/<str:name>/download/", wrap(self.fetch_view), name="support_fetch"),
            path("support/<str:name>/delete/", wrap(require_POST(self.delete_file_view)), name="support_delete"),
        ]

    def support_view(self, request: HttpRequest) -> HttpResponse:
        """What is kept, and the form for a new one."""
        if not is_operator(request):
            raise PermissionDenied
        form = BundleForm(request.POST if request.method == "POST" else None, initial=_initial(request))
        if request.method == "POST" and form.is_valid():
            wish = BundleWish(form.cleaned_data["messages"], form.cleaned_data["texts"], note=form.cleaned_data["note"])
            try:
                made = bundle_make(wish=wish, actor=actor_of(request))
            except ValidationError as error:
                messages.error(request, " ".join(error.messages))
            else:
                return HttpResponseRedirect(reverse("admin:support_file", args=[made.name]))
        return self.page(
            request, "switchboard/support.html", title="Support bundle", form=form, kept=folder.kept(), parts=parts()
        )

    def bundle_view(self, request: HttpRequest, name: str) -> HttpResponse:
        """Every file of it, as it will be read by others."""
        where = _file(request, name)
        files = read_zip(where.read_bytes()) if where.suffix == ".zip" else [_beginning(where)]
        return self.page(
            request,
            "switchboard/support_file.html",
            title=name,
            name=name,
            size=where.stat().st_size,
            files=files,
            is_bundle=where.suffix == ".zip",
        )

    def fetch_view(self, request: HttpRequest, name: str) -> FileResponse:
        """The file itself."""
        where = _file(request, name)
        return FileResponse(where.open("rb"), as_attachment=True, filename=name, content_type=folder.kind_of(name))

    def delete_file_view(self, request: HttpRequest, name: str) -> HttpResponse:
        """Delete it."""
        _file(request, name)
        file_remove(name=name, actor=actor_of(request))
        messages.success(request, f"{name} was deleted.")
        return HttpResponseRedirect(reverse("admin:support"))


def _initial(request: HttpRequest) -> dict[str, Any]:
    return {"messages": request.GET.get("messages", "")}


def _file(request: HttpRequest, name: str) -> Any:
    if not is_operator(request):
        raise PermissionDenied
    where = folder.path_of(name)
    if where is None:
        raise Http404("There is no such file on this host; bundles are kept for a week where they were made.")
    return where


def _beginning(where: Any) -> tuple[str, int, str]:
    with where.open("rb") as file:
        return where.name, where.stat().st_size, file.read(20_000).decode("utf-8", "replace")
