"""The description of the API: complete, up to date, and for operators."""

from __future__ import annotations

import json
import re
from io import StringIO
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles import finders
from django.core.management import call_command
from django.test import Client

from ops.api.problems import declared
from tests.api.conftest import Api

DOCS = Path(settings.BASE_DIR) / "docs"


def _schema() -> dict:
    out = StringIO()
    call_command("export_openapi_schema", stdout=out)
    return json.loads(out.getvalue())


def test_the_committed_description_is_up_to_date():
    call_command("api_schema", "--check", stdout=StringIO())


def test_every_operation_is_described():
    ids = []
    for path, operations in _schema()["paths"].items():
        for method, operation in operations.items():
            ids.append(operation["operationId"])
            assert operation["summary"], path
            assert operation["tags"], path
            assert operation["security"], path
            errors = operation["responses"]["401"]["content"]
            assert errors["application/problem+json"]["schema"]["$ref"].endswith("ProblemOut")
            unsafe = method not in {"get", "head"}
            assert operation["x-scope"] == ("write" if unsafe else "read")
            assert unsafe == any(found["name"] == "Idempotency-Key" for found in operation["parameters"]), path
    assert len(ids) == len(set(ids)) > 40


def test_no_reference_leads_nowhere():
    text = json.dumps(_schema())
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', text))
    assert names <= set(_schema()["components"]["schemas"])


def test_every_code_is_documented():
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    missing = [known.code for known in declared() if f"| `{known.code}` | {known.status} |" not in text]
    assert not missing


def test_the_description_is_for_operators(operator, reader, settings):
    stranger = Client()
    assert stranger.get("/api/openapi.json").status_code == 401
    answer = stranger.get("/api/docs")
    assert answer.status_code in {302, 401}
    assert reader("get", "/api/openapi.json")["info"]["title"] == "Switchboard"
    Api("wrong")("get", "/api/openapi.json", status=401, code="auth.required")
    stranger.force_login(operator)
    assert stranger.get("/api/docs").status_code == 200
    settings.SHOW_API_DOCS = True
    assert Client().get("/api/docs").status_code == 200


def test_the_page_loads_nothing_from_elsewhere(settings, db):
    settings.SHOW_API_DOCS = True
    page = Client().get("/api/docs").content.decode()
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert addresses
    assert all(address.startswith("/static/ninja/") for address in addresses)
    assert all(finders.find(address.removeprefix("/static/")) for address in addresses)
