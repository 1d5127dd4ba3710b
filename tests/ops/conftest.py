"""What the tests of the ground floor share: a kind of service, a registry that is put back, a person."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model

from ops import job_kinds, registry
from ops.registry import ServiceField, TestResult, register_service_kind


@pytest.fixture
def clean_registry(monkeypatch):
    """Whatever a test registers is forgotten afterwards."""
    for module, name in ((registry, "_kinds"), (registry, "_checks"), (registry, "_collectors"), (job_kinds, "_kinds")):
        monkeypatch.setattr(module, name, dict(getattr(module, name)))


@pytest.fixture
def lab_kind(clean_registry):
    """A kind of service whose answer a test sets: ``lab_kind["answer"] = TestResult(...)`` or an exception."""
    box = {"answer": TestResult("ok", "It answers.", version="1.0"), "asked": 0}

    def tester(service):
        box["asked"] += 1
        if isinstance(box["answer"], Exception):
            raise box["answer"]
        return box["answer"]

    register_service_kind(
        "lab",
        label="Lab server",
        role="lab",
        fields=[ServiceField("token", "Token", secret=True, required=True), ServiceField("depth", "Depth")],
        tester=tester,
    )
    return box


@pytest.fixture
def alice(db):
    return get_user_model().objects.create_user("alice", password="wonderland-1865")
