"""The pages of logs, captures, profiles and bundles: they show what there is, in words, and change only by a press."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from ops.logbook import reader
from ops.models import AuditEvent, Capture, ErrorSignature, Exchange, Job, LogLine, Service
from ops.runner import run_checks
from ops.services.jobs import run_job_now
from ops.services.logbook import current_levels


@pytest.fixture
def operator(db, client):
    from django.contrib.auth import get_user_model

    person = get_user_model().objects.create_user("olga", password="x", is_staff=True)
    client.force_login(person)
    return client


def line(**fields):
    given = {
        "at": timezone.now(),
        "level": "info",
        "role": "worker",
        "process": "h:1:1",
        "logger": "chat",
        "event": "e",
    }
    return LogLine.objects.create(**{**given, **fields})


LOGS = "admin:ops_logline_changelist"


def test_lines_are_shown_with_what_errors_mean_and_where_they_are_mended(operator):
    line(event="turn.gave_up", level="error", agent="Ada", message_id="7", extra={"error": "ECONNREFUSED"})
    odd = line(event="flux <b>overflow</b>", level="error")
    page = operator.get(reverse(LOGS)).content.decode()
    assert "Nobody listens at the address" in page
    assert "A new error." in page
    assert reverse("admin:ops_errorsignature_new") + f"?line={odd.pk}" in page
    assert "flux &lt;b&gt;overflow&lt;/b&gt;" in page
    assert "?agent=Ada" in page
    assert "?message=7" in page
    run_checks(["db.reachable"])
    line(event="boom", level="error", extra={"error": "no such table: x"})
    page = operator.get(reverse(LOGS)).content.decode()
    assert "The database reads and writes" in page


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, {"a", "b", "d"}),
        ({"level": "warning"}, {"b"}),
        ({"level": "debug"}, {"a", "b", "c", "d"}),
        ({"agent": "Ada"}, {"a"}),
        ({"service": "letta"}, {"b"}),
        ({"message": "7"}, {"a"}),
        ({"request": "req-12345"}, {"d"}),
        ({"logger": "agents"}, {"b"}),
        ({"text": "needle deep"}, {"d"}),
        ({"text": "traceback-word"}, {"b"}),
        ({"text": "üml"}, {"a"}),
        ({"role": "beat"}, {"d"}),
        ({"text": "nothing-like-this"}, set()),
    ],
)
def test_filters_of_page_tail_and_reader_agree(operator, query, found):
    line(event="a", agent="Ada", message_id="7", extra={"word": "üml"})
    line(event="b", level="warning", service="letta", logger="agents.sync", trace="x\ntraceback-word")
    line(event="c", level="debug")
    line(event="d", request_id="req-12345", role="beat", extra={"x": {"y": "a needle, deep"}})
    shown = operator.get(reverse(LOGS), query).context["lines"]
    assert {one.line.event for one in shown} == found
    tail = operator.get(reverse("admin:ops_logline_tail"), {**query, "after": 0}).json()
    assert tail["count"] == len(found)
    wanted = reader.LogFilter.parse({"level": "info", **query})
    assert {row.event for row in reader.lines(wanted)} == found
    assert reader.LogFilter.parse(
        dict(pair.split("=") for pair in wanted.query.split("&") if "%" not in pair and "+" not in pair)
    )


def test_the_tail_gives_what_is_new_and_earlier_lines_on_demand(operator):
    rows = [line(event=f"line {n}", at=timezone.now() - timedelta(minutes=5)) for n in range(320)]
    page = operator.get(reverse(LOGS))
    assert len(page.context["lines"]) == 300
    assert page.context["newest"] == rows[-1].pk
    assert "Earlier lines" in page.content.decode()
    tail = reverse("admin:ops_logline_tail")
    assert operator.get(tail, {"after": rows[-1].pk}).json() == {
        "html": "", "count": 0, "newest": None, "oldest": None, "more": False,
    }  # fmt: skip
    fresh = line(event="fresh")
    found = operator.get(tail, {"after": rows[-1].pk}).json()
    assert (found["count"], found["newest"]) == (1, fresh.pk)
    # One that became visible late is given again for a while.
    assert operator.get(tail, {"after": fresh.pk}).json()["count"] == 1
    before = operator.get(tail, {"before": rows[20].pk}).json()
    assert (before["count"], before["oldest"], before["more"]) == (20, rows[0].pk, False)


def test_a_line_has_an_address_of_its_own(operator):
    row = line(event="hello", request_id="req-12345", trace="Traceback\nboom")
    page = operator.get(reverse("admin:ops_logline_change", args=[row.pk])).content.decode()
    assert "hello" in page
    assert "Traceback" in page
    assert operator.get(reverse("admin:ops_logline_change", args=[10**12])).status_code == 404
    assert operator.get("/admin/ops/logline/none/change/").status_code == 404


def test_downloads_hold_the_lines_that_fit(operator):
    for n in range(5):
        line(event=f"line {n}", level="error" if n % 2 else "info")
    address = reverse("admin:ops_logline_download")
    rows = b"".join(operator.get(address, {"form": "jsonl", "level": "error"}).streaming_content).decode().splitlines()
    assert [json.loads(row)["event"] for row in rows] == ["line 1", "line 3"]
    answer = operator.get(address, {"form": "text"})
    assert "attachment" in answer["Content-Disposition"]
    assert b"".join(answer.streaming_content).decode().count("\n") == 5


def test_a_level_is_set_from_the_page_and_taken_back(operator):
    address = reverse("admin:ops_logline_level")
    assert operator.get(address).status_code == 405
    operator.post(address, {"logger": "chat", "level": "debug", "minutes": "60"})
    assert current_levels()["chat"]["level"] == "debug"
    assert "without an end" not in operator.get(reverse(LOGS)).content.decode()
    operator.post(address, {"logger": "chat", "level": "ordinary"})
    assert current_levels() == {}
    operator.post(address, {"logger": "chat", "level": "loud"})
    assert current_levels() == {}


def test_errors_are_grouped_and_a_new_one_is_explained(operator):
    for n in range(4):
        line(event=f"pump {n} of @a{n}:hs failed", level="error")
    line(event="x", level="error", trace="...\nOperationalError: database is locked")
    page = operator.get(reverse("admin:ops_logline_errors")).content.decode()
    assert "4 ×" in page
    assert "SQLite had another writer" in page
    number = LogLine.objects.first().pk - 1
    form = operator.get(reverse("admin:ops_errorsignature_new"), {"line": number})
    pattern = form.context["form"].initial["pattern"]
    answer = operator.post(
        reverse("admin:ops_errorsignature_new"),
        {"pattern": pattern, "meaning": "The pump is dry.", "remedy": "Fill it."},
    )
    row = ErrorSignature.objects.get()
    assert answer.url == reverse("admin:ops_errorsignature_change", args=[row.pk])
    assert "The pump is dry." in operator.get(reverse("admin:ops_logline_errors")).content.decode()
    assert operator.get(answer.url).status_code == 200
    assert operator.get(reverse("admin:ops_errorsignature_changelist")).status_code == 200
    bad = operator.post(reverse("admin:ops_errorsignature_new"), {"pattern": "(", "meaning": "x"})
    assert "no regular expression" in bad.content.decode()
    operator.post(reverse("admin:ops_errorsignature_deed", args=[row.pk, "remove"]))
    assert not ErrorSignature.objects.exists()


def test_a_capture_is_started_read_and_downloaded(operator):
    Service.objects.create(name="letta", kind="letta", base_url="http://letta")
    assert operator.get(reverse("admin:ops_capture_changelist")).status_code == 200
    answer = operator.post(reverse("admin:ops_capture_start"), {"minutes": "5", "service": "letta", "agent": "Ada"})
    row = Capture.objects.get()
    assert answer.url == reverse("admin:ops_capture_change", args=[row.pk])
    call = Exchange.objects.create(
        capture=row, at=timezone.now(), service="letta", method="POST", url="http://letta/v1", status=500,
        milliseconds=12, request_headers={"accept": "x"}, request_body="{}", response_body="<script>",
    )  # fmt: skip
    page = operator.get(answer.url).content.decode()
    assert "1 call so far" in page
    assert operator.get(reverse("admin:ops_capture_live", args=[row.pk])).status_code == 200
    one = operator.get(reverse("admin:ops_capture_call", args=[row.pk, call.pk])).content.decode()
    assert "&lt;script&gt;" in one
    har = json.loads(operator.get(reverse("admin:ops_capture_har", args=[row.pk])).content)
    assert har["log"]["entries"][0]["response"]["status"] == 500
    operator.post(reverse("admin:ops_capture_deed", args=[row.pk, "stop"]))
    row.refresh_from_db()
    assert row.until <= timezone.now()
    assert operator.get(reverse("admin:ops_capture_changelist")).status_code == 200
    operator.post(reverse("admin:ops_capture_deed", args=[row.pk, "delete"]))
    assert not Exchange.objects.exists()


def test_a_profile_is_asked_for_and_shown(operator):
    answer = operator.post(reverse("admin:ops_logline_profile"), {"process": "", "seconds": "1"})
    job = Job.objects.get(kind="ops.profile")
    assert operator.get(answer.url).status_code == 200
    run_job_now(job)
    page = operator.get(answer.url).content.decode()
    assert "Flame view" in page
    for form in ("speedscope", "collapsed"):
        assert operator.get(reverse("admin:ops_logline_profile_file", args=[job.pk, form])).status_code == 200
    assert operator.get(reverse("admin:ops_logline_profile_file", args=[job.pk, "other"])).status_code == 404


def test_a_bundle_is_made_looked_through_fetched_and_deleted(operator, data_dir):
    assert operator.get(reverse("admin:support")).status_code == 200
    answer = operator.post(reverse("admin:support"), {"messages": "1, 2", "note": "It is silent."})
    page = operator.get(answer.url).content.decode()
    assert "doctor.json" in page
    assert "It is silent." in page
    name = answer.url.rstrip("/").rpartition("/")[2]
    content = b"".join(operator.get(reverse("admin:support_fetch", args=[name])).streaming_content)
    assert "switchboard-support/README.txt" in zipfile.ZipFile(io.BytesIO(content)).namelist()
    assert AuditEvent.objects.filter(action="support.bundle", actor="person:olga").exists()
    assert "no message" in operator.post(reverse("admin:support"), {"messages": "x"}).content.decode()
    assert operator.get(reverse("admin:support_file", args=["..zip"])).status_code == 404
    operator.post(reverse("admin:support_delete", args=[name]))
    assert operator.get(answer.url).status_code == 404


@pytest.mark.parametrize("view", ["ops_logline_changelist", "ops_logline_tail", "ops_logline_errors", "support"])
def test_nobody_else_sees_logs(client, db, view):
    from django.contrib.auth import get_user_model

    assert client.get(reverse(f"admin:{view}")).status_code == 302
    client.force_login(get_user_model().objects.create_user("guest", password="x"))
    assert client.get(reverse(f"admin:{view}")).status_code == 302


def test_many_lines_cost_no_more_questions_than_few(operator, django_assert_max_num_queries):
    for n in range(250):
        line(event=f"{n}", level="error", extra={"error": "ECONNREFUSED" if n % 2 else "boom"})
    operator.get(reverse(LOGS))
    with django_assert_max_num_queries(30):
        operator.get(reverse(LOGS))
